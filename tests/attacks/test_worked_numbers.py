"""Attacks on rows alone at numbers worked out by hand, and what they remember from round to round."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import median, multi_krum, nnm, trimmed_mean
from fljax.attacks import (
    NO_ATTACK,
    Context,
    Knowledge,
    byz_mean,
    distance_fitted,
    drive_to,
    dyn_opt,
    fltrust_attack,
    free_rider,
    hybrid_sparse,
    krum_attack,
    mimic_warmup,
    min_max,
    mpaf,
    poisoned_fl,
    rop,
    stat_opt,
    sybil_noise,
)
from tests.attacks.case import KEY, make, random_walk, signs_of_run
from tests.attacks.fltrust_attack import Objective, best_found
from tests.attacks.krum_attack import krum_attack as krum_reference
from tests.attacks.poisoned_fl import PoisonedFL

ROWS = jnp.array([[1, 2, -1, 0], [2, 0, -2, 1], [3, 1, 0, -1], [1, 1, 1, 1], [0, 2, -1, 0]], jnp.float32)
MALICIOUS = jnp.arange(5) >= 3
MEAN = np.array([2.0, 1.0, -1.0, 0.0])


def in_round(params, key=KEY):
    return Knowledge(Context(params=jnp.asarray(params, jnp.float32)), run_key=key)


def sent_by(attack, models, key=KEY, masks=None):
    """What the first attacker sends in each round."""
    state, sent = attack.init(*ROWS.shape), []
    for r, params in enumerate(models):
        mask = MALICIOUS if masks is None else masks[r]
        rows, state = attack.corrupt(ROWS, mask, state, in_round(params, key))
        sent.append(np.asarray(rows[3]))
    return sent, state


def moved(rule, rows):
    return np.linalg.norm(np.asarray(rule(rows)) - MEAN)


def test_dyn_opt_finds_the_cliff_of_a_filter():
    assert moved(median, dyn_opt(ROWS, MALICIOUS, median)) == pytest.approx(np.sqrt(3))
    assert moved(median, dyn_opt(ROWS, MALICIOUS, median, direction="std")) == pytest.approx(2)

    @jax.jit
    def filtered(rows):
        return trimmed_mean(nnm(rows, num_malicious=2), trim=2)

    sent = dyn_opt(ROWS, MALICIOUS, filtered, evaluations=40)
    # Beyond γ = 2.68127857 the crafted rows are outvoted: nothing is left of 1.97584099.
    assert 2.67 < np.linalg.norm(sent[3] - MEAN) < 2.6813
    assert moved(filtered, sent) == pytest.approx(1.9758, abs=5e-3)
    assert moved(filtered, min_max(ROWS, MALICIOUS)) == pytest.approx(1.70928968, rel=1e-5)

    @jax.jit
    def selected(rows):
        return multi_krum(rows, num_malicious=1, num_selected=3)

    sent = dyn_opt(ROWS, MALICIOUS, selected, evaluations=40)
    assert 4.29 < np.linalg.norm(sent[3] - MEAN) < 4.3027


def test_dyn_opt_sends_the_shortest_of_equal_steps():
    """The median moves no farther from γ = √6 on."""
    sent = dyn_opt(ROWS, MALICIOUS, median)
    assert np.sqrt(6) <= np.linalg.norm(sent[3] - MEAN) < np.sqrt(6) * 1.05


def test_stat_opt_takes_what_the_median_gives():
    sent = stat_opt(ROWS, MALICIOUS, median)
    np.testing.assert_array_equal(median(sent), [1, 0, 0, 0])
    size = 10 * np.sqrt(11) / 2
    np.testing.assert_allclose(sent[3], [-size, -size, size, 0], rtol=1e-6)
    # Nothing that a rule does not look at does damage.
    deaf = stat_opt(ROWS, MALICIOUS, lambda rows: rows[0])
    np.testing.assert_array_equal(deaf, ROWS)


def test_poisoned_fl_at_worked_numbers():
    key = next(
        key
        for key in map(jax.random.key, range(100))
        if jax.random.rademacher(key, (4,)).tolist() == [1, -1, 1, 1]
    )
    attack = poisoned_fl()
    fresh = attack.init(5, 4)._replace(rounds=jnp.int32(1))
    for before, expected in (
        ((2, -1, 2, 0), (3.7173714604, -0.2186689094, 5.6853916453, 7.8720807397)),
        ((0, 0, 0, 0), (2.4, -3.2, 0, 9.6)),
    ):
        state = fresh._replace(sent=jnp.array(before, jnp.float32))
        sent, _ = attack.corrupt(ROWS, MALICIOUS, state, in_round((0.3, -0.4, 0, 1.2), key))
        np.testing.assert_allclose(sent[3], expected, rtol=1e-5)


def test_poisoned_fl_over_rounds():
    """Rounds without an attacker, a model that stands still, and a scale that stops falling."""
    models = [random_walk(r, 4) for r in range(24)]
    models[9] = models[8]
    nobody = jnp.zeros(5, bool)
    masks = [nobody if r in (0, 1, 6, 7) else MALICIOUS for r in range(24)]
    sent, state = sent_by(poisoned_fl(every=2), models, masks=masks)
    reference = PoisonedFL(signs_of_run(4), every=2)
    for r, model in enumerate(models):
        if r >= 2:  # nobody has seen the first two
            expected = reference.attack(model, present=bool(masks[r].any()))
            if masks[r].any():
                np.testing.assert_allclose(sent[r], expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_array_equal(sent[9], 0)
    # 8 · 0.7^7: four coordinates never agree by more than chance would have them.
    assert float(state.scale) == pytest.approx(0.65883440)


def test_mpaf_at_worked_numbers():
    base = jnp.array([-1, 0, 0.5, 0.25])
    for attack, models in (
        (mpaf(factor=10.0, init_params=lambda key: base), [(3, 3, 3, 3), (0.5, -1, 2, 0)]),
        (mpaf(factor=10.0, base="initial"), [base, (0.5, -1, 2, 0)]),
    ):
        sent, _ = sent_by(attack, models)
        np.testing.assert_allclose(sent[1], (-15, 10, -15, 2.5), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^mpaf: base=\"fresh\" needs init_params"):
        mpaf()


def test_rop_at_worked_numbers():
    models = [(0, 0, 0, 0), (1, 1, 0, 0)]
    sent, _ = sent_by(rop(length=2.0), models)
    np.testing.assert_allclose(sent[1], (1.01215272, 1.13367995, 1.47047946, 1.34895223), rtol=1e-5)
    # In the first round the reference is the mean, and the rows are sent from zero.
    assert sent[0] @ MEAN == pytest.approx(0, abs=1e-5)
    assert np.linalg.norm(sent[0]) == pytest.approx(2, rel=1e-5)
    sent, _ = sent_by(rop(length=2.0, angle=180.0), models)
    np.testing.assert_allclose(sent[1], (-0.47654332, -0.34231211, 0.13423121, 0), rtol=1e-5, atol=1e-6)


def test_rop_where_there_is_no_plane():
    attack = rop(length=2.0)
    for rows, direction in ((jnp.ones((5, 4)), None), (jnp.zeros((5, 4)), np.full(4, 0.5))):
        sent, _ = attack.corrupt(rows, MALICIOUS, attack.init(5, 4), in_round(np.zeros(4)))
        assert np.linalg.norm(sent[3]) == pytest.approx(2, rel=1e-5)
        if direction is None:
            assert sent[3] @ np.ones(4) == pytest.approx(0, abs=1e-4)
        else:
            np.testing.assert_allclose(sent[3], 2 * direction, rtol=1e-5)


def test_the_partial_krum_attack_in_a_persistent_direction():
    updates, malicious = make(2, n=8, d=6, count=5)
    options = {"knowledge": "partial", "direction": "persistent"}
    attack = jax.jit(partial(krum_attack, supporters="copies", **options))
    expected = krum_reference(updates, malicious, **options)
    sent = np.asarray(attack(updates, malicious, KEY, run_key=KEY))
    np.testing.assert_allclose(sent[malicious], np.tile(expected, (5, 1)), rtol=1e-5)
    assert (np.sign(expected) == -signs_of_run(6)).all()


def test_the_optimum_against_fltrust_in_a_persistent_direction():
    """No search finds more of it than the formula."""
    random = np.random.default_rng(2)
    rows = (random.normal(size=9) + 0.5 * random.normal(size=(6, 9))).astype(np.float32)
    root, mask = rows[:3].mean(0), np.arange(6) >= 4
    objective = Objective(rows, root, mask)
    objective.sign = signs_of_run(9)
    options = {"run_key": KEY, "search": "optimum", "direction": "persistent"}
    sent = np.asarray(fltrust_attack(rows, root, mask, KEY, **options), np.float64)
    found = objective({i: sent[i] / np.linalg.norm(sent[i]) for i in (4, 5)})
    assert found >= best_found(objective, 2, random, tries=400) - 1e-5
    assert found > objective({i: objective.rows[i] for i in (4, 5)}) + 0.1
    with pytest.raises(ValueError, match="a direction that persists needs run_key"):
        fltrust_attack(rows, root, mask, KEY, search="optimum", direction="persistent")


def test_byz_mean_at_worked_numbers():
    sent = byz_mean(ROWS, MALICIOUS, z=-0.5)
    np.testing.assert_allclose(sent[3:], [(1.5, 0.5, -1.5, -0.5), (0, -1, -3, -2)], atol=1e-6)
    np.testing.assert_allclose(sent.mean(0), sent[3], atol=1e-6)
    # One attacker sends what makes up for all.
    alone = byz_mean(ROWS, jnp.arange(5) == 4, z=-0.5)
    honest = np.asarray(ROWS[:4])
    np.testing.assert_allclose(alone.mean(0), honest.mean(0) - 0.5 * honest.std(0, ddof=1), atol=1e-6)


def test_a_mean_is_driven_to_where_the_attackers_want():
    known = Knowledge(Context(params=jnp.zeros(4)), rule=lambda rows: rows.mean(0))
    attack = drive_to()
    sent, _ = attack.corrupt(ROWS, MALICIOUS, attack.init(5, 4), known)
    np.testing.assert_allclose(sent[3], (-3, -1.5, 1.5, 0), atol=1e-5)


def test_hybrid_sparse_at_worked_numbers():
    # The mean is largest in size along the first coordinate, the model along the second.
    attack = hybrid_sparse(share=0.25, z=0.4307272993, direction="mean")
    sent, _ = attack.corrupt(ROWS, MALICIOUS, attack.init(5, 4), in_round((1, 9, 1, 1)))
    np.testing.assert_allclose(sent[3], (1.56927270, -0.5, -0.56927270, 0), rtol=1e-5, atol=1e-6)


def test_distance_fitted_at_worked_numbers():
    own = jnp.array([0.0, 6, -3, 2])
    attack = distance_fitted(backdoor=NO_ATTACK)
    rows = ROWS.at[3].set(own).at[4].set(jnp.array([2.0, 1, 0, 0]))
    sent, _ = attack.corrupt(rows, MALICIOUS, (), in_round(np.zeros(4)))
    np.testing.assert_allclose(sent[3], (1.39591546, 2.51021136, -1.60408454, 0.60408454), rtol=1e-5)
    # What is near already stays, and what is not finite becomes the mean.
    np.testing.assert_allclose(sent[4], rows[4], rtol=1e-6)
    sent, _ = attack.corrupt(ROWS.at[3].set(jnp.nan), MALICIOUS, (), in_round(np.zeros(4)))
    np.testing.assert_allclose(sent[3], MEAN, rtol=1e-6)


def test_sybils_poison_while_they_are_not_alike():
    attack = sybil_noise(num_classes=2, image_shape=(8, 8, 1))
    rows = jnp.zeros((5, 3)).at[3:].set(jnp.array([(1, 1, 0), (1, 0.9, 0.1)]))
    known = in_round(np.zeros(3))
    first, state = attack.corrupt(rows, MALICIOUS, attack.init(5, 3), known)
    np.testing.assert_allclose(first[3], -first[4], rtol=1e-6)
    assert np.linalg.norm(first[3]) == pytest.approx(np.sqrt(2), rel=1e-5)
    # The histories point away from each other now.
    apart = jnp.zeros((5, 3)).at[3:].set(jnp.array([(0.1, 0, 0), (0, 0.1, 0)]))
    second, state = attack.corrupt(apart, MALICIOUS, state, known)
    np.testing.assert_array_equal(second, apart)
    assert (int(state[0].poisoned), int(state[0].hidden)) == (1, 1)
    np.testing.assert_allclose(state[0].history[3:], first[3:] + apart[3:], rtol=1e-6)


def test_a_free_rider_replays_its_first_update():
    attack = free_rider(kind="replay")
    state = attack.init(6, 4)
    ids = [jnp.array(ids) for ids in ([0, 1, 2, 3, 4], [0, 1, 2, 5, 4], [0, 1, 2, 3, 5])]
    trained, sent = [ROWS + r for r in range(3)], []
    for rows, cohort in zip(trained, ids, strict=True):
        new, state = attack.corrupt(rows, MALICIOUS, state, Knowledge(Context(client_ids=cohort)))
        np.testing.assert_array_equal(new[:3], rows[:3])
        sent.append(new[3:])
    np.testing.assert_array_equal(sent[0], trained[0][3:])
    np.testing.assert_array_equal(sent[1], [trained[1][3], trained[0][4]])
    np.testing.assert_array_equal(sent[2], [trained[0][3], trained[1][3]])


def test_mimics_choose_anew_where_the_choice_is_not_fixed():
    attack = mimic_warmup(warmup=1, choose="last", fixed=False)
    rows = [ROWS, ROWS[jnp.array([1, 2, 0, 3, 4])], -ROWS]
    state = attack.init(5, 4)
    for r, stack in enumerate(rows):
        sent, state = attack.corrupt(stack, MALICIOUS, state, Knowledge(Context()))
        if r == 0:
            z = np.asarray(state.direction)
        np.testing.assert_array_equal(state.direction, z)
        np.testing.assert_array_equal(sent[3], stack[np.argmax(np.asarray(stack[:3]) @ z)])
