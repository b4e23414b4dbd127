"""Generic properties, each for every row of every rule."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES, on_pytrees
from tests.rules.case import (
    CALLED,
    IN_SPACE,
    PER_ROW,
    D,
    N,
    Poisoned,
    compiled,
    expected_on_samples,
    first_rows,
    make,
    on_samples,
)
from tests.rules.table import POST_CASES, PRE_CASES, RULE_CASES
from tests.support.collectives import on_two_devices

ALL = RULE_CASES + PRE_CASES + POST_CASES
# For what does not depend on the arguments: one row of each entry.
ONE_EACH = first_rows(ALL)


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


def as_type(others, dtype):
    """The arrays in another float type; a key stays a key."""
    return jax.tree.map(
        lambda value: jnp.asarray(value, dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value,
        others,
    )


def test_every_registry_entry_has_a_row():
    assert {case.name for case in RULE_CASES} == set(RULES)
    assert {case.name for case in PRE_CASES} == set(PRE_AGGREGATORS)
    assert {case.name for case in POST_CASES} == set(POST_AGGREGATORS)


@each(ALL)
def test_equals_the_float64_reference(case):
    rtol = case.rtol[0]
    pairs = zip(on_samples(case), expected_on_samples(case), strict=True)
    for number, (result, expected) in enumerate(pairs):
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol / 10, err_msg=f"sample {number}")


@each(ONE_EACH)
def test_float64_is_kept(case):
    updates, others = make()
    with jax.enable_x64(True):
        wide = jax.jit(lambda updates, others: case.call(updates, others))
        result = wide(jnp.asarray(updates, jnp.float64), as_type(others, jnp.float64))
        assert result.dtype == jnp.float64
        rtol = case.rtol[1]
        np.testing.assert_allclose(result, case.expected(updates, others), rtol=rtol, atol=rtol / 10)


def without_addresses(traced):
    """The text of a traced function, functions in it by name alone."""
    return re.sub("0x[0-9a-f]+", "", str(traced))


@each(ONE_EACH)
def test_bfloat16_accumulates_in_float32(case):
    updates, others = make()
    half = jnp.asarray(updates, jnp.bfloat16)
    others = as_type(as_type(others, jnp.bfloat16), jnp.float32)

    def widened(updates, others):
        return case.call(updates.astype(jnp.float32), others).astype(jnp.bfloat16)

    found, expected = (jax.make_jaxpr(rule)(half, others) for rule in (case.call, widened))
    assert found.out_avals[0].dtype == jnp.bfloat16
    # Nearly always it is the same program, which need not be compiled.
    if without_addresses(found) != without_addresses(expected):
        np.testing.assert_array_equal(*(jax.jit(rule)(half, others) for rule in (case.call, widened)))


@each(ONE_EACH)
def test_jit_equals_eager(case):
    updates, others = make()
    np.testing.assert_allclose(
        compiled(case)(updates, others), case.call(updates, others), rtol=1e-6, atol=1e-6
    )


@each(ONE_EACH)
def test_vmap_equals_a_loop(case):
    stacks = [make(seed) for seed in range(3)]
    stacks[1][0][2, 3] = np.nan if case.tolerated else 7.0
    updates, others = jax.tree.map(lambda *arrays: jnp.stack(arrays), *stacks)
    mapped = jax.jit(jax.vmap(lambda u, o: case.call(u, o)))(updates, others)
    looped = np.stack([compiled(case)(u, o) for u, o in stacks])
    np.testing.assert_allclose(mapped, looped, rtol=case.mapped_rtol, atol=1e-6)


def differing_in_traced_numbers():
    """The rows of a rule that differ in hyper-parameters that may be traced, together."""
    found = {}
    for case in ALL:
        static = {name: value for name, value in case.hyper.items() if name not in case.traced}
        if case.traced:
            found.setdefault((case.name, case.traced, case.arrays, repr(static)), []).append(case)
    return [pytest.param(cases, id=cases[0].id) for cases in found.values()]


@pytest.mark.parametrize("cases", differing_in_traced_numbers())
def test_traced_hyper_parameters_give_the_static_result_in_one_program(cases):
    traces = []

    @jax.jit
    def traced(updates, others, hyper):
        traces.append(1)
        return cases[0].call(updates, others, **hyper)

    for case in cases:
        given = {name: jnp.asarray(case.hyper[name]) for name in case.traced}
        for seed in range(3):
            updates, others = make(seed)
            result = traced(updates, others, given)
            np.testing.assert_allclose(result, compiled(case)(updates, others), rtol=1e-6, atol=1e-6)
    assert len(traces) == 1


# All of them, and attacks, on more devices: tests/test_columns.py.
@each([c for c in ONE_EACH if c.name in ("median", "krum", "fltrust", "divide_and_conquer", "nnm")])
def test_on_two_devices_only_small_sums_are_exchanged(case):
    updates, others = make()
    result, exchanged = on_two_devices(lambda stack: case.call(stack, others), updates)
    rtol = case.rtol[0]
    np.testing.assert_allclose(result, case.expected(updates, others), rtol=rtol, atol=rtol / 10)
    if not CALLED & set(case.arrays):
        assert all(each.kind == "all-reduce" and each.largest <= N * N for each in exchanged)
    assert all(each.largest <= N * N for each in exchanged)


@each(first_rows(RULE_CASES))
def test_on_pytrees_equals_the_matrix(case):
    updates, others = make()
    # Leaves are raveled in the order of their names.
    tree = {"a": updates[:, :30].reshape(N, 5, 6), "b": updates[:, 30:]}
    as_trees = {
        name: {"a": value[:30].reshape(5, 6), "b": value[30:]} if np.shape(value) == (D,) else value
        for name, value in others.items()
    }

    def rule(updates, *arrays):
        # The program of the other tests: what a matrix becomes has been compiled.
        return compiled(case)(updates, {**others, **dict(zip(case.arrays, arrays, strict=True))})

    result = on_pytrees(rule)(tree, *(as_trees[name] for name in case.arrays))
    assert result["a"].shape == (5, 6)
    np.testing.assert_allclose(
        np.r_[result["a"].ravel(), result["b"]], compiled(case)(updates, others), rtol=1e-5, atol=1e-6
    )


@each([c for c in ALL if c.permutation])
def test_order_of_rows_does_not_matter(case):
    updates, others = make()
    order = np.random.default_rng(1).permutation(N)
    moved = {name: value[order] if name in PER_ROW else value for name, value in others.items()}
    straight = np.asarray(compiled(case)(updates, others))
    expected = straight[order] if case.registry is PRE_AGGREGATORS else straight
    np.testing.assert_allclose(compiled(case)(updates[order], moved), expected, rtol=1e-5, atol=1e-6)


@each([c for c in ALL if c.translation])
@pytest.mark.parametrize("shift", [1.0, 300.0])
def test_translation(case, shift):
    updates, others = make()
    shift = np.float32(shift)
    shifted = {name: value + shift if name in IN_SPACE else value for name, value in others.items()}
    moved = compiled(case)(updates + shift, shifted)
    np.testing.assert_allclose(moved - shift, compiled(case)(updates, others), atol=1e-4 * shift)


@each([c for c in ALL if c.scaling])
def test_scaling(case):
    updates, others = make()
    straight = compiled(case)(updates, others)
    # Without units it is the program that the other tests run.
    in_units = jax.jit(lambda updates, others, units: case.call(updates, others, **units))
    for factor in np.asarray(case.scaling, np.float32):
        scaled = {name: value * factor if name in IN_SPACE else value for name, value in others.items()}
        units = {name: case.hyper[name] * abs(factor) for name in case.units}
        rows = updates * factor
        result = in_units(rows, scaled, units) if units else compiled(case)(rows, scaled)
        follows = factor if case.degree else np.sign(factor)
        np.testing.assert_allclose(
            result / follows, straight, rtol=1e-4, atol=1e-5, err_msg=f"factor {factor}"
        )


@each([c for c in ALL if c.duplicates])
def test_repeating_the_stack_changes_nothing(case):
    updates, others = make()
    twice = {name: np.concatenate([v, v]) if name in PER_ROW else v for name, v in others.items()}
    np.testing.assert_allclose(
        jax.jit(case.call)(np.tile(updates, (2, 1)), twice),
        compiled(case)(updates, others),
        rtol=1e-5,
        atol=1e-6,
    )


@each(ALL)
def test_identical_rows(case):
    updates, others = make()
    same = np.repeat(updates[:1], N, axis=0)
    result = np.asarray(compiled(case)(same, others))
    expected = np.broadcast_to(same[0], result.shape) if case.identical else case.expected(same, others)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


HOSTILE = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1e38": 1e38,
    "-1e38": -1e38,
    "1e-40": 1e-40,
    "zeros": 0.0,
}


def poison(updates, bad, how, kept):
    """Hostile rows in place of the rows `bad`."""
    if how == "copies of an honest row":
        updates[bad] = updates[kept[0]]
    elif how == "together beside the honest rows":
        updates[bad] = updates[kept].mean(0) + 1.5 * updates[kept].std(0)
    elif how == "negated":
        updates[bad] = -updates[bad]
    else:
        value, where = how
        if where == "row":
            updates[bad] = HOSTILE[value]
        elif where == "one coordinate":
            updates[bad, 5] = HOSTILE[value]
        else:
            updates[bad[::2]] = HOSTILE[value]
            updates[bad[1::2], 3] = -HOSTILE[value]


@each([c for c in ALL if c.tolerated])
@pytest.mark.parametrize(
    "how",
    [
        *((value, where) for where in ("row", "one coordinate", "mixed") for value in HOSTILE),
        "copies of an honest row",
        "together beside the honest rows",
        "negated",
    ],
    ids=lambda how: how if isinstance(how, str) else " ".join(how),
)
def test_hostile_rows_leave_the_result_near_the_honest_rows(case, how):
    updates, others = make(spread=0.2)
    order = np.random.default_rng(2).permutation(np.setdiff1d(np.arange(N), case.honest))
    bad = order[: case.tolerated]
    kept = np.setdiff1d(np.arange(N), bad)
    poisoned = updates.copy()
    if kept.size or not isinstance(how, str):
        poison(poisoned, bad, how, kept)
    result = np.asarray(compiled(case)(poisoned, others))
    clean = np.asarray(compiled(case)(updates, others))
    if case.finite:
        assert np.isfinite(result).all()
    assert case.hostile(Poisoned(result, clean, updates[kept], kept, poisoned, others))


@each([c for c in ONE_EACH if c.differentiable])
def test_gradient_equals_finite_differences(case):
    updates, others = make(d=2)
    random = np.random.default_rng(3)
    with jax.enable_x64(True):
        wide = as_type(others, jnp.float64)
        x = jnp.asarray(updates, jnp.float64)
        probe = jnp.asarray(random.normal(size=jax.eval_shape(case.call, x, wide).shape))
        direction = jnp.asarray(random.normal(size=x.shape))

        # One program for the values on both sides and the slope: most of this test is compiling.
        @jax.jit
        def value_and_slope(x):
            return jax.value_and_grad(lambda x: jnp.sum(probe * case.call(x, wide)))(x)

        step = 1e-6
        above, below = (value_and_slope(x + side * step * direction)[0] for side in (1, -1))
        slope = jnp.sum(value_and_slope(x)[1] * direction)
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-5, atol=1e-7)


@lru_cache
def gradient_of_a_score(case):
    """The gradient in the updates and in the caller's arrays, one program for all hostile values."""
    _, others = make(d=5)

    def score(updates, arrays):
        result = case.call(updates, {**others, **arrays})
        return jnp.sum(jnp.sin(result) * jnp.arange(1, result.size + 1).reshape(result.shape))

    return jax.jit(jax.grad(score, argnums=(0, 1)))


# What is tested behind the mean has its gradient.
@each([c for c in ONE_EACH if c.differentiable and c.name != "mean" and c.registry is not POST_AGGREGATORS])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_a_hostile_row_keeps_its_nan_out_of_the_gradient(case, value):
    """Of FedAvg's result, NaN, there is no gradient; every other rule's has a zero in its place."""
    updates, others = make(d=5)
    # The caller's own arrays with one entry per row are hostile there, too.
    arrays = {name: value for name, value in others.items() if name in IN_SPACE and name in case.arrays}
    row = next(i for i in range(N) if i not in case.honest)
    spoilt = jax.tree.map(lambda array: array.copy(), (updates, arrays))
    for array in (spoilt[0], *(array for name, array in spoilt[1].items() if name in PER_ROW)):
        array[row, 2] = value
    slopes = gradient_of_a_score(case)(*spoilt)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    np.testing.assert_array_equal(slopes[0][row, 2], 0.0)
    # The other rows have one.
    assert np.any(slopes[0]) == (case.name not in ("sign_majority", "root_only"))


# Among rows of which most are not finite, these return what the finite ones say.
OF_FINITE_ROWS = {
    "krum",
    "multi_krum",
    "bulyan",
    "geometric_median",
    "norm_filter",
    "nearest_to_pivot",
    "minimum_diameter",
    "smallest_spectrum",
}
# Entry by entry, a NaN is an extreme value: too many of them are the median.
BY_COORDINATE = {"median", "trimmed_mean", "winsorized_mean", "mean_around_median", "phocas"}


@each([c for c in ONE_EACH if c.tolerated and c.name not in BY_COORDINATE])
def test_more_non_finite_rows_than_it_tolerates(case):
    updates, others = make()
    candidates = np.setdiff1d(np.arange(N), case.honest)
    for count in range(case.tolerated + 1, N):
        # The first rows, where ties are looked for.
        bad = candidates[:count]
        poisoned = updates.copy()
        poisoned[bad] = np.nan
        poisoned[bad[::2]] = updates[bad[::2]]
        poisoned[bad[::2], 3] = np.inf
        result = np.asarray(compiled(case)(poisoned, others))
        assert np.isfinite(result).all()
        if case.name in OF_FINITE_ROWS:
            finite = np.delete(updates, bad, axis=0)
            slack = 1e-5
            assert (finite.min(0) - slack <= result).all()
            assert (result <= finite.max(0) + slack).all()
