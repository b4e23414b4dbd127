"""Attacks against float64 references, and what every attack promises."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import RULES, Context
from fljax.attacks import (
    ATTACKS,
    Knowledge,
    attack_from_registry,
    feature_trigger,
    label_flip,
    pattern_trigger,
    scale,
    scaling_attack,
    sign_flip,
    trim_attack,
)
from tests.attacks.case import (
    BATCHES,
    KEY,
    SAMPLES,
    TASK,
    N,
    expected_on_samples,
    make,
    on_samples,
    program,
    told,
)
from tests.attacks.table import CASES, DATA_CASES, UPDATE_CASES
from tests.attacks.trim_attack import trim_interval
from tests.rules.case import compiled, first_rows
from tests.rules.case import make as make_stack
from tests.rules.table import RULE_CASES
from tests.support.collectives import on_two_devices

every = pytest.mark.parametrize(
    "case", [case for case in UPDATE_CASES if not case.breaking], ids=lambda case: case.id
)


def test_every_registry_entry_is_tested():
    assert {case.name for case in CASES if case.rows or case.data or case.trained} == set(ATTACKS)
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [case for case in CASES if case.rows], ids=lambda case: case.id)
def test_malicious_rows_are_those_of_the_float64_reference(case):
    found = zip(SAMPLES, on_samples(case), expected_on_samples(case), strict=True)
    for (updates, _), sent, expected in found:
        np.testing.assert_allclose(sent, expected, rtol=case.rtol, atol=case.rtol * np.abs(updates).max())


@pytest.mark.parametrize("case", DATA_CASES, ids=lambda case: case.id)
def test_poisoned_batches_are_those_of_the_reference(case):
    attack = case.attack()
    for x, y, is_copy in BATCHES:
        for member in range(3):
            given = jnp.asarray(x), jnp.asarray(y), is_copy, jnp.int32(member)
            poisoned = attack.poison_data(*given, **told(attack))
            for found, wanted in zip(poisoned, case.data(x, y, is_copy, member, **case.hyper), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        if attack.trigger is not None:
            marked, labels = case.data(x, y, is_copy | True, None, **case.hyper)
            embedded = attack.trigger.embedded(jnp.asarray(x), attack.init(N, 31))
            np.testing.assert_allclose(embedded, marked, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(attack.trigger.wanted(jnp.asarray(y)), labels)


@every
def test_honest_rows_are_bit_identical(case):
    updates, malicious = make()
    updates[~malicious, 0] = -0.0
    result = np.asarray(program(case)[0](updates, malicious))
    assert result[~malicious].tobytes() == updates[~malicious].tobytes()
    assert not np.allclose(result[malicious], updates[malicious])


@pytest.mark.parametrize(
    "case", {case.name: case for case in UPDATE_CASES if not case.breaking}.values(), ids=lambda case: case.id
)
def test_on_two_devices_only_small_sums_are_exchanged(case):
    updates, malicious = make()
    sent, exchanged = on_two_devices(lambda stack: case(stack, malicious), updates)
    atol = max(1e-5, case.mapped_atol)
    np.testing.assert_allclose(sent, program(case)[0](updates, malicious), rtol=1e-5, atol=atol)
    assert all(each.largest <= N * N for each in exchanged)


@every
def test_no_attacker_changes_nothing_and_all_attackers_stay_finite(case):
    updates, _ = make()
    nobody, everybody = np.zeros(N, bool), np.ones(N, bool)
    attack, _ = program(case)
    np.testing.assert_array_equal(attack(updates, nobody), updates)
    result = np.asarray(attack(updates, everybody))
    assert np.isfinite(result).all()
    assert not np.allclose(result, updates)


@every
def test_one_program_serves_every_mask(case):
    updates, _ = make()
    jitted, traces = program(case)
    traced_before = len(traces)
    masks = np.array([[True] * k + [False] * (N - k) for k in range(N + 1)])
    results = [jitted(updates, mask) for mask in masks]
    # One here or, if another test came first, none.
    assert len(traces) <= traced_before + 1
    mapped = jax.jit(jax.vmap(case, in_axes=(None, 0)))(updates, masks)
    np.testing.assert_allclose(mapped, results, rtol=1e-5, atol=case.mapped_atol)
    # Outside jit a loop is compiled at every call: two masks do.
    for k in (0, 4):
        np.testing.assert_allclose(results[k], case(updates, masks[k]), rtol=1e-5, atol=case.mapped_atol)


def attacked_stacks():
    """The rules' own test stack under every attack, the last two of its rows malicious."""
    updates, _ = make_stack()
    malicious = np.arange(len(updates)) >= len(updates) - 2
    return {case: np.asarray(program(case)[0](updates, malicious)) for case in UPDATE_CASES}


# One test: every worker that had a part of it would compile all attacks.
def test_every_rule_meets_every_attack():
    _, others = make_stack()
    for (attack, stack), case in product(attacked_stacks().items(), first_rows(RULE_CASES)):
        result = np.asarray(compiled(case)(stack, others))
        # What the rule does not tolerate may break it, but only if it is meant to.
        assert np.isfinite(result).all() or (attack.breaking and case.tolerated < 2), (case.id, attack.id)


def test_scale():
    updates, malicious = make()
    expected = np.where(malicious[:, None], updates * N, updates)
    np.testing.assert_allclose(scale(updates, malicious), expected)
    np.testing.assert_allclose(scale(updates, malicious, factor=0.0)[malicious], 0.0)


def test_sign_flip():
    updates, malicious = make()
    own = np.asarray(sign_flip(updates, malicious))
    np.testing.assert_array_equal(own[malicious], -updates[malicious])
    of_mean = np.asarray(sign_flip(updates, malicious, of="mean", factor=3.0))
    expected = -3.0 * updates[~malicious].astype(np.float64).mean(0)
    np.testing.assert_allclose(of_mean[malicious], np.tile(expected, (3, 1)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="of='their'"):
        sign_flip(updates, malicious, of="their")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stretch", [2.0, 5.0])
def test_trim_attack_draws_from_the_published_interval(seed, stretch):
    updates, malicious = make(seed, d=400)
    updates[:, :3] = np.abs(updates[:, :3])  # every sign case, the rare ones made certain
    updates[:, 3:6] = -np.abs(updates[:, 3:6])
    updates[:, 6] = 0.0
    low, high = trim_interval(updates[~malicious].astype(float), updates.astype(float), stretch)
    crafted = np.asarray(trim_attack(updates, malicious, KEY, stretch=stretch))[malicious]
    slack = 1e-6 * np.abs(high) + 1e-9
    assert (crafted >= low - slack).all()
    assert (crafted <= high + slack).all()
    # Uniform over the interval, independent between clients and coordinates.
    wide = high - low > 1e-6
    position = ((crafted - low)[:, wide] / (high - low)[wide]).ravel()
    assert abs(position.mean() - 0.5) < 0.03
    assert abs(position.std() - np.sqrt(1 / 12)) < 0.02
    assert np.unique(crafted[:, wide], axis=0).shape == crafted[:, wide].shape


def test_trim_attack_with_partial_knowledge():
    updates, malicious = make(1, d=500)
    own = updates[malicious].astype(np.float64)
    center, deviation = own.mean(0), own.std(0)
    crafted = np.asarray(trim_attack(updates, malicious, KEY, knowledge="partial"))[malicious]
    steps = (crafted - center) / (-np.sign(center) * deviation)
    assert steps.min() >= 3 - 1e-3
    assert steps.max() <= 4 + 1e-3
    assert abs(steps.mean() - 3.5) < 0.05
    with pytest.raises(ValueError, match="knowledge='some'"):
        trim_attack(updates, malicious, KEY, knowledge="some")


def test_trim_attack_commutes_with_sign_and_scale():
    updates, malicious = make()
    base = np.asarray(trim_attack(updates, malicious, KEY))
    np.testing.assert_allclose(trim_attack(-updates, malicious, KEY), -base, rtol=1e-5)
    np.testing.assert_allclose(trim_attack(8 * updates, malicious, KEY), 8 * base, rtol=1e-5)


def test_trim_attack_does_not_depend_on_the_bound():
    updates, malicious = make()
    full = trim_attack(updates, malicious, KEY)
    np.testing.assert_array_equal(trim_attack(updates, malicious, KEY, max_malicious=3), full)
    np.testing.assert_array_equal(trim_attack(updates, malicious, KEY, max_malicious=100), full)


def test_trim_attack_moves_its_victims_against_their_direction():
    updates, malicious = make(d=2000)
    attacked = trim_attack(updates, malicious, KEY)
    for name, hyper in (("trimmed_mean", {"trim": 3}), ("median", {})):
        rule = RULES[name].function
        shift = np.asarray(rule(attacked, **hyper)) - np.asarray(rule(updates, **hyper))
        assert np.mean(np.sign(updates.sum(0)) * shift) < -0.1


def test_masks_and_shapes_are_checked():
    updates, malicious = make()
    with pytest.raises(ValueError, match="boolean mask of shape"):
        scale(updates, malicious.astype(np.float32))
    with pytest.raises(ValueError, match="boolean mask of shape"):
        sign_flip(updates, malicious[:-1])
    with pytest.raises(ValueError, match=r"updates must be \(n, d\)"):
        trim_attack(updates[0], malicious, KEY)


def test_label_flip():
    np.testing.assert_array_equal(label_flip(np.arange(6), num_classes=6), [5, 4, 3, 2, 1, 0])
    assert int(label_flip(2, num_classes=5)) == 2
    attack = attack_from_registry("label_flip", TASK)
    x, y = attack.poison_data(jnp.ones((3, 8, 8, 1)), jnp.array([0, 4, 9]), jnp.zeros(3, bool), jnp.int32(0))
    np.testing.assert_array_equal(y, [9, 5, 0])
    np.testing.assert_array_equal(x, 1.0)


def test_triggers():
    images = np.random.default_rng(0).uniform(0, 0.5, (2, 5, 4, 3)).astype(np.float32)
    marked = np.asarray(pattern_trigger(images, pixels=[(4, 3), (0, 1)], value=0.9))
    assert (marked[:, [4, 0], [3, 1]] == np.float32(0.9)).all()
    assert (marked != images).sum() == 2 * 2 * 3
    with pytest.raises(ValueError, match=r"pixel \(5, 0\) lies outside images of 5×4"):
        pattern_trigger(images, pixels=[(5, 0)])
    features = np.asarray(feature_trigger(np.ones((2, 561)), every=20))
    np.testing.assert_array_equal(np.flatnonzero(features[0] == 0) + 1, np.arange(20, 561, 20))
    with pytest.raises(ValueError, match="every=9"):
        feature_trigger(np.ones(8), every=9)


def test_default_patterns_are_the_groups_own():
    def embedded(*shape):
        return np.asarray(
            jax.jit(scaling_attack(image_shape=shape).trigger.embed)(np.zeros(shape, np.float32))
        )

    mnist = embedded(28, 28, 1)
    assert {(int(i), int(j)) for i, j, _ in np.argwhere(mnist)} == {(26, 26), (24, 26), (26, 24), (25, 25)}
    assert embedded(32, 32, 3).sum() == 27
    large = embedded(64, 64, 1)
    assert {(int(i), int(j)) for i, j, _ in np.argwhere(large)} == {(62, 62), (60, 62), (62, 60), (61, 61)}


def test_scaling_attack_poisons_copies_only_and_scales():
    attack = scaling_attack(image_shape=(8, 8, 1), target=7, poison_fraction=0.25, factor=4.0)
    assert attack.copies == 0.25
    x, y = attack.poison_data(
        jnp.zeros((3, 8, 8, 1)), jnp.array([1, 2, 3]), jnp.array([False, True, False]), jnp.int32(0)
    )
    np.testing.assert_array_equal(y, [1, 7, 3])
    np.testing.assert_array_equal(np.asarray(x).sum((1, 2, 3)), [0, 4, 0])
    updates, malicious = make()
    corrupted, _ = attack.corrupt(updates, malicious, (), Knowledge(Context()))
    np.testing.assert_allclose(corrupted, scale(updates, malicious, factor=4.0))
    with pytest.raises(ValueError, match="poison_fraction=-1"):
        scaling_attack(image_shape=None, poison_fraction=-1)


def test_parameters_outside_their_range_are_errors():
    updates, malicious = make()
    with pytest.raises(ValueError, match=r"stretch=0\.5 must be larger than 1"):
        trim_attack(updates, malicious, KEY, stretch=0.5)
    with pytest.raises(ValueError, match="pixels are for images"):
        scaling_attack(image_shape=None, pixels=[(0, 0)])
    with pytest.raises(ValueError, match="target=6 is not one of the 6 labels"):
        scaling_attack(num_classes=6, target=6)


def test_statistics_leave_out_rows_they_are_not_about():
    updates, malicious = make()
    broken = np.where(malicious[:, None], np.nan, updates).astype(np.float32)
    flipped = np.asarray(sign_flip(broken, malicious, of="mean"))
    np.testing.assert_allclose(flipped, sign_flip(updates, malicious, of="mean"), rtol=1e-6)
    broken = np.where(malicious[:, None], updates, np.inf).astype(np.float32)
    partial = np.asarray(trim_attack(broken, malicious, KEY, knowledge="partial"))
    assert np.isfinite(partial[malicious]).all()
