"""Generic properties, each for every row of the table in cases.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import PRE_CASES, RULE_CASES, D, N, RuleCase
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fljax.aggregators import PRE_AGGREGATORS, RULES

ALL = RULE_CASES + PRE_CASES
every = pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
every_rule = pytest.mark.parametrize("case", RULE_CASES, ids=lambda case: case.id)
robust = pytest.mark.parametrize("case", [c for c in ALL if c.tolerated], ids=lambda case: case.id)


def make(seed: int = 0, n: int = N, d: int = D, spread: float = 1.0):
    """Updates around a common direction, and the other arrays a rule may take."""
    random = np.random.default_rng(seed)
    center = random.normal(size=d)
    updates = (center + spread * random.normal(size=(n, d))).astype(np.float32)
    others = {
        "weights": random.uniform(1, 5, n).astype(np.float32),
        "root_update": (center + 0.3 * random.normal(size=d)).astype(np.float32),
    }
    return updates, others


def call(case: RuleCase, updates, others, **changed):
    arrays = [others[name] for name in case.arrays]
    return case.function(updates, *arrays, **{**case.hyper, **changed})


def test_every_registry_entry_has_a_row():
    assert {case.name for case in RULE_CASES} == set(RULES)
    assert {case.name for case in PRE_CASES} == set(PRE_AGGREGATORS)


@every
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_float64_reference(case, seed):
    updates, others = make(seed)
    expected = case.reference(updates, *(others[name] for name in case.arrays), **case.hyper)
    np.testing.assert_allclose(call(case, updates, others), expected, rtol=2e-5, atol=2e-6)


@every
def test_float64_is_kept(case):
    updates, others = make()
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(value, jnp.float64) for name, value in others.items()}
        result = call(case, jnp.asarray(updates, jnp.float64), wide)
        assert result.dtype == jnp.float64
        expected = case.reference(updates, *(others[name] for name in case.arrays), **case.hyper)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


@every
def test_bfloat16_accumulates_in_float32(case):
    updates, others = make()
    half = jnp.asarray(updates, jnp.bfloat16)
    others = {
        name: jnp.asarray(jnp.asarray(value, jnp.bfloat16), jnp.float32) for name, value in others.items()
    }
    result = call(case, half, others)
    assert result.dtype == jnp.bfloat16
    exact = call(case, half.astype(jnp.float32), others)
    np.testing.assert_array_equal(result, exact.astype(jnp.bfloat16))


@every
def test_jit_equals_eager(case):
    updates, others = make()
    jitted = jax.jit(lambda u, o: call(case, u, o))
    np.testing.assert_allclose(jitted(updates, others), call(case, updates, others), rtol=1e-6, atol=1e-6)


@every
def test_vmap_equals_a_loop(case):
    stacks = [make(seed) for seed in range(3)]
    stacks[1][0][2, 3] = np.nan if case.tolerated else 7.0
    updates = np.stack([u for u, _ in stacks])
    others = {name: np.stack([o[name] for _, o in stacks]) for name in stacks[0][1]}
    mapped = jax.vmap(lambda u, o: call(case, u, o))(updates, others)
    looped = np.stack([call(case, u, o) for u, o in stacks])
    np.testing.assert_allclose(mapped, looped, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [c for c in ALL if c.traced], ids=lambda case: case.id)
def test_traced_hyper_parameters_give_the_static_result(case):
    updates, others = make()
    traced = {name: case.hyper[name] for name in case.traced}
    result = jax.jit(lambda hyper: call(case, updates, others, **hyper))(traced)
    np.testing.assert_allclose(result, call(case, updates, others), rtol=1e-6, atol=1e-6)


@every
def test_a_new_value_does_not_compile_again(case):
    traces = []

    def counted(updates, others, hyper):
        traces.append(1)
        return call(case, updates, others, **hyper)

    jitted = jax.jit(counted)
    for seed in range(3):
        updates, others = make(seed)
        jitted(updates, others, {name: case.hyper[name] for name in case.traced})
    assert len(traces) == 1


@every
def test_column_sharded_equals_unsharded(case):
    updates, others = make(d=D + 1)
    mesh = jax.make_mesh((2,), ("clients",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(updates, NamedSharding(mesh, PartitionSpec(None, "clients")))
    result = jax.jit(lambda u: call(case, u, others))(sharded)
    np.testing.assert_allclose(result, call(case, updates, others), rtol=1e-5, atol=1e-6)


@every_rule
def test_order_of_rows_does_not_matter(case):
    updates, others = make()
    order = np.random.default_rng(1).permutation(N)
    moved = {**others, "weights": others["weights"][order]}
    np.testing.assert_allclose(
        call(case, updates[order], moved), call(case, updates, others), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("case", [c for c in RULE_CASES if c.translation], ids=lambda case: case.id)
@pytest.mark.parametrize("shift", [1.0, 300.0])
def test_translation(case, shift):
    updates, others = make()
    moved = call(case, updates + np.float32(shift), others)
    np.testing.assert_allclose(moved - np.float32(shift), call(case, updates, others), atol=1e-4 * shift)


@pytest.mark.parametrize("case", [c for c in RULE_CASES if c.scaling], ids=lambda case: case.id)
@pytest.mark.parametrize("factor", [-1.0, 2.0**-30, 2.0**40, 2.0**90])
def test_scaling(case, factor):
    updates, others = make()
    factor = np.float32(factor)
    scaled = call(case, updates * factor, {**others, "root_update": others["root_update"] * factor})
    np.testing.assert_allclose(scaled / factor, call(case, updates, others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [c for c in RULE_CASES if c.duplicates], ids=lambda case: case.id)
def test_repeating_the_stack_changes_nothing(case):
    updates, others = make()
    twice = {**others, "weights": np.tile(others["weights"], 2)}
    np.testing.assert_allclose(
        call(case, np.tile(updates, (2, 1)), twice), call(case, updates, others), rtol=1e-5, atol=1e-6
    )


@every_rule
def test_identical_rows_are_returned(case):
    updates, others = make()
    row = updates[:1]
    updates = np.repeat(row, N, axis=0)
    expected = others["root_update"] if "root_update" in case.arrays else row[0]
    if case.name == "fltrust":
        expected = case.reference(updates, others["root_update"], **case.hyper)
    np.testing.assert_allclose(call(case, updates, others), expected, rtol=1e-5, atol=1e-6)


HOSTILE = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1e38": 1e38,
    "-1e38": -1e38,
    "1e-40": 1e-40,
    "zeros": 0.0,
}


@robust
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("where", ["row", "one coordinate", "mixed"])
def test_hostile_rows_leave_the_result_near_the_honest_rows(case, value, where):
    updates, others = make(spread=0.2)
    bad = np.random.default_rng(2).permutation(N)[: case.tolerated]
    poisoned = updates.copy()
    if where == "row":
        poisoned[bad] = value
    elif where == "one coordinate":
        poisoned[bad, 5] = value
    else:
        poisoned[bad[::2]] = value
        poisoned[bad[1::2], 3] = -value
    result = np.asarray(call(case, poisoned, others))
    assert np.isfinite(result).all()
    honest = np.delete(updates, bad, axis=0)
    if case.registry is PRE_AGGREGATORS:
        keep = np.setdiff1d(np.arange(N), bad)
        np.testing.assert_allclose(result[keep], call(case, updates, others)[keep], rtol=1e-5, atol=1e-6)
        return
    if case.name in ("fltrust", "root_only"):
        # FLTrust promises the root update's length whatever the clients send.
        length = np.linalg.norm(others["root_update"])
        limit = 3.0 if case.hyper.get("clip_negative") is False else 1.0
        assert np.linalg.norm(result) <= limit * length * (1 + 1e-5)
        return
    # The other rules stay inside the honest rows' spread, coordinate by coordinate or as a whole.
    low, high = honest.min(0), honest.max(0)
    slack = 1e-5 + (high - low) * 0.0
    if case.name == "krum":
        distances = np.linalg.norm(honest - honest.mean(0), axis=1)
        assert np.linalg.norm(result - honest.mean(0)) <= 3 * distances.max()
    else:
        assert (result >= low - slack).all()
        assert (result <= high + slack).all()


@pytest.mark.parametrize("case", [c for c in ALL if c.differentiable], ids=lambda case: case.id)
def test_gradient_equals_finite_differences(case):
    updates, others = make(n=5, d=4)
    others = {**others, "weights": others["weights"][:5]}
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(value, jnp.float64) for name, value in others.items()}
        x = jnp.asarray(updates, jnp.float64)
        probe = jnp.asarray(np.random.default_rng(3).normal(size=call(case, x, wide).shape))
        direction = jnp.asarray(np.random.default_rng(4).normal(size=x.shape))

        def value(x):
            return jnp.sum(probe * call(case, x, wide))

        slope = jnp.sum(jax.grad(value)(x) * direction)
        step = 1e-6
        finite = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(slope, finite, rtol=1e-5, atol=1e-7)


values = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-30, -1e30, 1e10]),
    # Below about 1e-37 XLA flushes to zero on a CPU; 1e-30 leaves room for differences.
    st.floats(-100, 100, width=32).map(lambda x: 0.0 if abs(x) < 1e-30 else x),
)
stacks = hnp.arrays(np.float32, st.tuples(st.just(7), st.integers(1, 6)), elements=values)


@settings(deadline=None, max_examples=60)
@given(updates=stacks)
def test_order_statistics_on_ties_and_mixed_scales(updates):
    exact = np.sort(updates.astype(np.float64), axis=0)
    np.testing.assert_array_equal(RULES["median"].function(updates), exact[3].astype(np.float32))
    trimmed = RULES["trimmed_mean"].function(updates, trim=2)
    np.testing.assert_allclose(trimmed, exact[2:5].mean(0), rtol=1e-5, atol=1e-6 * np.abs(exact[2:5]).max())


@settings(deadline=None, max_examples=60)
@given(updates=stacks)
def test_krum_returns_a_row_of_nearly_smallest_score(updates):
    chosen = np.asarray(RULES["krum"].function(updates, num_malicious=2))
    matches = np.flatnonzero((updates == chosen).all(axis=1))
    assert matches.size
    scores = reference.krum_scores(updates, 2)
    # float32 cannot order scores closer than its precision at the scale of the stack.
    scale = np.median(np.abs(updates.astype(np.float64)).max(1)) ** 2
    assert scores[matches].min() <= scores.min() * (1 + 1e-4) + 1e-5 * scale
