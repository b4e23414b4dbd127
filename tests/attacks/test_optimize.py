"""Optimisation through any rule, and the smooth rules it follows."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import (
    RULES,
    covariance_filter,
    fltrust,
    geometric_median,
    krum,
    mean,
    median,
    nnm,
    trimmed_mean,
)
from fljax.attacks import SURROGATES, fltrust_attack, optimize_attack, sign_flip, trim_attack
from fljax.config.components import bind_rule, make_surrogate
from fljax.config.schema import parse_config
from tests.rules.case import first_rows
from tests.rules.case import make as make_rows
from tests.rules.table import RULE_CASES
from tests.support.programs import jitted

optimized = jitted(optimize_attack)
KEY = jax.random.key(0)
N, D, M = 12, 60, 3
SEEDS = 6


def make(seed=0, n=N, d=D, num_malicious=M, spread=1.0):
    random = np.random.default_rng(seed)
    center = random.normal(size=d)
    updates = (center + spread * random.normal(size=(n, d))).astype(np.float32)
    root = (center + 0.5 * random.normal(size=d)).astype(np.float32)
    malicious = np.zeros(n, bool)
    malicious[random.permutation(n)[:num_malicious]] = True
    return updates, root, malicious


def through_nnm(updates):
    return trimmed_mean(nnm(updates, num_malicious=M), trim=M)


def with_soft(name, **hyper):
    return lambda root: (partial(RULES[name].function, **hyper), partial(SURROGATES[name], **hyper))


# Rule, surrogate, and whether there is room above the best start: Trim rows beyond all honest values already
# do median and trimmed mean about all the damage that is possible, and to the geometric median a row far out
# in a direction does as much as one farther out.
CASES = {
    "mean": (lambda root: (mean, None), True),
    "geometric_median": (lambda root: (geometric_median, None), False),
    "fltrust": (lambda root: (partial(fltrust, root_update=root), None), True),
    "krum": (with_soft("krum", num_malicious=M), True),
    "krum without a surrogate": (lambda root: (partial(krum, num_malicious=M), None), True),
    "multi_krum": (with_soft("multi_krum", num_malicious=M), True),
    "trimmed_mean": (with_soft("trimmed_mean", trim=M), False),
    "median": (with_soft("median"), False),
    "nnm and trimmed_mean": (lambda root: (through_nnm, None), True),
    "covariance_filter": (with_soft("covariance_filter", num_malicious=M), False),
}


def damage(rule, updates, sent):
    rule = jitted(rule)
    before = np.asarray(rule(updates), np.float64)
    return np.sign(before) @ (before - np.asarray(rule(sent), np.float64))


def samples():
    return [np.stack(arrays) for arrays in zip(*(make(seed) for seed in range(SEEDS)), strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_never_below_the_start_and_above_it_where_there_is_room(case):
    build, has_room = CASES[case]

    def both(updates, root, malicious):
        rule, surrogate = build(root)
        before = rule(updates)

        def sent(steps):
            return optimize_attack(updates, malicious, rule, surrogate, KEY, steps=steps, max_malicious=M)

        # One after the other, so that the rule is compiled once for both.
        return jax.lax.map(
            lambda stack: jnp.sign(before) @ (before - rule(stack)), jnp.stack([sent(0), sent(15)])
        )

    start, end = np.asarray(jax.jit(partial(jax.lax.map, lambda a: both(*a)))(samples())).T
    scale = 1e-5 * np.abs(start).max()
    assert (start >= -scale).all()
    assert (end >= start - scale).all()
    if has_room:
        assert end.mean() > 1.1 * start.mean()
        assert (end > start + scale).sum() >= SEEDS - 1


@pytest.mark.parametrize("name", ["krum", "multi_krum", "trimmed_mean", "median"])
def test_surrogates_tell_where_to_go_from_honest_rows(name):
    """The rule's own gradient is silent about what it does not pick."""
    hyper = {"krum": {"num_malicious": M}, "multi_krum": {"num_malicious": M}, "trimmed_mean": {"trim": M}}
    rule, surrogate = with_soft(name, **hyper.get(name, {}))(None)

    def selected(updates, root, malicious):
        before = rule(updates)
        out = []
        for smooth in (None, surrogate):
            sent = optimize_attack(
                updates, malicious, rule, smooth, start="honest", steps=15, max_malicious=M
            )
            picked = jnp.any(jnp.all(rule(sent) == sent, 1) & malicious)
            out.append((jnp.sign(before) @ (before - rule(sent)), picked))
        return out

    (plain, picked), (smooth, picked_smooth) = jax.jit(partial(jax.lax.map, lambda a: selected(*a)))(
        samples()
    )
    assert np.mean(smooth) > 1.3 * np.mean(plain)
    if name == "krum":
        assert np.sum(picked_smooth) == SEEDS > np.sum(picked)


def test_gradient_ascent_does_what_it_says():
    """On the mean, all is known: each row moves straight along −s, by sizes that fall linearly to 0."""
    updates, _, malicious = make()
    steps, rate = 8, 0.2
    sent = np.asarray(optimized(updates, malicious, mean, start="honest", steps=steps, learning_rate=rate))
    sign = np.sign(updates.astype(float).mean(0))
    norms = sorted(np.linalg.norm(row) for row in updates[~malicious].astype(float))
    typical = norms[(len(norms) - 1) // 2]
    moved = rate * typical * sum(1 - t / steps for t in range(steps))
    expected = updates[malicious] - moved * sign / np.sqrt(D)
    np.testing.assert_allclose(sent[malicious], expected, rtol=1e-4, atol=1e-4)


def test_starts():
    updates, _, malicious = make()
    honest = updates[~malicious].astype(float)
    sign = np.sign(updates.astype(float).mean(0))
    norms = sorted(np.linalg.norm(honest, axis=1))
    shift = norms[(len(norms) - 1) // 2] / np.sqrt(D) * sign
    expected = {
        "honest": updates[malicious],
        "trim": np.asarray(jitted(trim_attack)(updates, malicious, KEY))[malicious],
        "negative_mean": np.tile(-honest.mean(0), (M, 1)),
        # The mean suffers most from the largest shift.
        "shifted_mean": np.tile(honest.mean(0) - 2.0 * shift, (M, 1)),
    }
    values = {}
    for name, rows in expected.items():
        sent = np.asarray(optimized(updates, malicious, mean, None, KEY, start=name, steps=0))
        np.testing.assert_allclose(sent[malicious], rows, rtol=1e-4, atol=1e-4)
        values[name] = damage(mean, updates, sent)
    best = np.asarray(optimized(updates, malicious, mean, None, KEY, steps=0))
    assert damage(mean, updates, best) == pytest.approx(max(values.values()))
    # A start that helps the server is not sent.
    backwards = optimized(updates, malicious, lambda stack: -mean(-stack[:1] + 0 * stack), None, KEY)
    np.testing.assert_array_equal(np.asarray(backwards)[~malicious], updates[~malicious])


def test_the_best_iterate_is_sent_not_the_last():
    updates, _, malicious = make()
    center = mean(updates)

    def wary(stack):
        """The mean, unless it strays: then a reward for the server."""
        moved = mean(stack)
        far = jnp.linalg.norm(moved - center) > 0.6
        return jnp.where(far, moved + 10.0 * jnp.sign(center), moved)

    sent = optimized(updates, malicious, wary, start="honest", steps=10, learning_rate=0.05)
    assert damage(wary, updates, sent) > 0
    assert 0.4 < np.linalg.norm(np.asarray(mean(sent) - center)) <= 0.6


def test_results_and_gradients_that_are_not_finite_are_rejected():
    updates, _, malicious = make()
    center = mean(updates)

    def breaks(stack):
        moved = mean(stack)
        return jnp.where(jnp.linalg.norm(moved - center) > 0.6, jnp.nan, moved)

    sent = np.asarray(optimized(updates, malicious, breaks, steps=10, learning_rate=0.5))
    assert np.isfinite(sent).all()
    assert damage(breaks, updates, sent) > 0

    def no_slope(stack):
        return mean(jnp.sqrt(jnp.abs(stack - stack)) + stack)

    sent = np.asarray(optimized(updates, malicious, no_slope, start="honest", steps=3))
    np.testing.assert_array_equal(sent, updates)
    broken = updates.copy()
    worst = np.flatnonzero(~malicious)[:2]
    broken[worst] = [[np.nan], [np.inf]]
    sent = np.asarray(optimized(broken, malicious, median, partial(SURROGATES["median"]), KEY, steps=3))
    assert np.isfinite(sent[malicious]).all()
    assert damage(median, broken, sent) > 0


def test_bound_and_masks():
    updates, _, malicious = make()
    attack = partial(optimize_attack, rule=partial(krum, num_malicious=M), surrogate=SOFT_KRUM, steps=4)
    jitted = jax.jit(attack, static_argnames="max_malicious")
    full = np.asarray(jitted(updates, malicious))
    np.testing.assert_allclose(jitted(updates, malicious, max_malicious=M), full, rtol=1e-4, atol=1e-5)
    assert np.isfinite(np.asarray(jitted(updates, np.ones(N, bool)))).all()
    np.testing.assert_array_equal(jitted(updates, np.zeros(N, bool)), updates)


SOFT_KRUM = partial(SURROGATES["krum"], num_malicious=M)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1 must be a whole number of at least 0"),
        ({"steps": 1.5}, r"steps=1\.5 must be"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0 must be larger than 0"),
        ({"start": "zero"}, 'start=\'zero\' must be "best" or "honest"'),
    ],
)
def test_bad_arguments(options, message):
    updates, _, malicious = make()
    with pytest.raises(ValueError, match=f"optimize_attack: {message}"):
        optimize_attack(updates, malicious, mean, **options)


def test_a_rule_without_a_gradient_needs_a_surrogate():
    updates, _, malicious = make()
    rule = partial(covariance_filter, num_malicious=M)
    with pytest.raises(ValueError, match="the rule has no gradient; it needs a surrogate, or steps=0"):
        optimized(updates, malicious, rule, steps=2)
    assert damage(rule, updates, optimized(updates, malicious, rule, steps=0)) > 0


# --- surrogates ---------------------------------------------------------------------------------------

HYPER = {
    "krum": [
        {"num_malicious": 3},
        {"num_malicious": 2, "power": 1},
        {"num_malicious": 3, "num_neighbors": 8},
    ],
    "multi_krum": [
        {"num_malicious": 3},
        {"num_malicious": 0, "num_neighbors": 4},
        {"num_malicious": 3, "num_selected": 5},
        {"num_malicious": 3, "num_selected": 2, "power": 1, "num_neighbors": 8},
    ],
    "trimmed_mean": [{"trim": 3}, {"trim": 0}, {"trim": 5}],
    "median": [{}],
    "covariance_filter": [{"num_malicious": 3}],
}
SOFT = [(name, hyper) for name, choices in HYPER.items() for hyper in choices]


# Rules that average some rows, with a soft edge of their selection.
SOFTENED = [case for case in first_rows(RULE_CASES) if case.name in set(SURROGATES) - set(HYPER)]


def test_every_surrogate_is_tested():
    assert set(HYPER) | {case.name for case in SOFTENED} == set(SURROGATES) <= set(RULES)


@pytest.mark.parametrize("case", SOFTENED, ids=lambda case: case.name)
def test_a_soft_edge_is_the_rule_when_cold_and_has_a_gradient_where_rows_are_left_out(case):
    @jax.jit
    def both(updates, others, temperature):
        arrays = [others[name] for name in case.arrays]

        def soft(rows):
            return SURROGATES[case.name](rows, *arrays, **case.hyper, temperature=temperature)

        result, backwards = jax.vjp(soft, updates)
        return case.call(updates, others), result, backwards(jnp.arange(float(updates.shape[1])))[0]

    updates, others = make_rows(uneven=True)
    others = {name: others[name] for name in case.arrays}
    expected, cold, _ = both(updates, others, 1e-6)
    np.testing.assert_allclose(cold, expected, rtol=1e-4, atol=1e-5)
    _, warm, slopes = both(updates, others, 0.3)
    assert not np.allclose(warm, expected, atol=1e-3)
    assert (np.abs(slopes).max(1) > 0).all()
    # Rows that are not finite have no slope, and equal rows no edge; squares of tiny ones vanish.
    broken, (first, second) = updates.copy(), np.setdiff1d(np.arange(N), case.honest)[:2]
    broken[first], broken[second] = np.nan, np.inf
    for rows in (broken, np.ones_like(updates), 0 * updates, np.float32(1e-30) * updates):
        _, warm, slopes = both(rows, others, 0.3)
        assert np.isfinite(warm).all()
        assert np.isfinite(np.delete(slopes, [first, second], axis=0)).all()


def test_the_soft_edge_of_aksel_tells_where_to_go():
    """Its own gradient is silent about what it leaves out."""
    rule, smooth = (partial(f, num_malicious=M) for f in (RULES["aksel"].function, SURROGATES["aksel"]))

    def found(updates, root, malicious):
        before = rule(updates)
        sent = [
            optimize_attack(updates, malicious, rule, each, start="honest", steps=12, max_malicious=M)
            for each in (None, smooth)
        ]
        return jax.lax.map(lambda stack: jnp.sign(before) @ (before - rule(stack)), jnp.stack(sent))

    plain, soft = np.asarray(jax.jit(partial(jax.lax.map, lambda a: found(*a)))(samples())).T
    assert np.mean(soft) > 2 * np.mean(plain)


@pytest.mark.parametrize(("name", "hyper"), SOFT)
def test_cold_surrogates_are_their_rules(name, hyper):
    cold = {} if name == "covariance_filter" else {"temperature": 1e-5}

    def both(updates, traced):
        given = {**hyper, **traced}
        return SURROGATES[name](updates, **given, **cold), RULES[name].function(updates, **hyper)

    # The number of rows to drop may be traced.
    first = next(iter(hyper), None)
    traced = {first: hyper[first]} if hyper and hyper == HYPER[name][0] else {}
    for n in (12, 13) if name in ("median", "trimmed_mean") else (12,):
        jitted = jax.jit(both)
        for seed in range(3):
            updates, _, _ = make(seed, n=n)
            updates[0] *= 30.0
            np.testing.assert_allclose(*jitted(updates, {}), rtol=1e-4, atol=1e-4)
        if traced:
            np.testing.assert_allclose(*jitted(updates, traced), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["krum", "multi_krum", "trimmed_mean", "median"])
def test_warm_surrogates_scale_with_the_updates(name):
    soft = jax.jit(partial(SURROGATES[name], **HYPER[name][0]))
    updates, _, _ = make()
    crowded = np.zeros((N, D), np.float32)
    crowded[-3:] = updates[-3:]
    for rows in (updates, crowded):
        straight = np.asarray(soft(rows))
        for factor in np.float32([1e-30, 1e-8, 1e8, 1e30]):
            np.testing.assert_allclose(soft(rows * factor) / factor, straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["krum", "multi_krum", "trimmed_mean", "median"])
def test_warm_surrogates_are_smooth_and_give_every_row_a_gradient(name):
    hyper = HYPER[name][0]
    soft = jax.jit(partial(SURROGATES[name], **hyper))
    slopes = jax.jit(jax.grad(lambda u: jnp.sum(soft(u) * jnp.arange(D))))
    updates, _, _ = make(2)
    assert not np.allclose(soft(updates), jitted(RULES[name].function)(updates, **hyper), atol=1e-3)
    gradient = np.asarray(slopes(updates))
    assert (np.abs(gradient).max(1) > 0).all()
    # A small move changes the result by little, however near to an edge.
    nudged = updates + 1e-4 * np.random.default_rng(0).normal(size=updates.shape).astype(np.float32)
    assert np.abs(np.asarray(soft(nudged)) - np.asarray(soft(updates))).max() < 5e-3
    assert np.isfinite(np.asarray(slopes(np.ones((N, D), np.float32)))).all()
    broken = updates.copy()
    broken[:3] = [[np.nan], [np.inf], [-np.inf]]
    assert np.isfinite(np.asarray(soft(broken))).all()
    assert np.isfinite(np.asarray(slopes(broken))[3:]).all()


def test_a_value_inside_has_a_gradient_that_points_out():
    updates, _, _ = make(1)
    for name, hyper in (("trimmed_mean", {"trim": 3}), ("median", {})):
        gradient = np.asarray(
            jax.jit(jax.grad(lambda u, f=SURROGATES[name], h=hyper: f(u, **h).sum()))(updates)
        )
        assert (gradient >= 0).all()
        np.testing.assert_allclose(gradient.sum(0), 1.0, rtol=1e-5)


def test_krum_scores_pull_rows_towards_selection():
    """The gradient of soft Krum brings a row far out nearer to the others."""
    updates, _, _ = make(3)
    updates[0] += 2.0
    away = updates[0] - updates[1:].mean(0)
    # What the server gets moves along `away` where row 0 gains weight.
    gradient = np.asarray(jax.jit(jax.grad(lambda u: SOFT_KRUM(u) @ away))(updates))
    assert gradient[0] @ away < 0


@pytest.mark.parametrize("name", ["krum", "multi_krum", "trimmed_mean", "median"])
def test_temperatures_out_of_range(name):
    updates, _, _ = make()
    with pytest.raises(ValueError, match=r"temperature=0\.0 must be larger than 0"):
        SURROGATES[name](updates, **HYPER[name][0], temperature=0.0)


def test_a_configured_rule_finds_its_surrogate():
    table = {"name": "krum", "num_malicious": 3, "num_neighbors": 5}
    aggregator = make_surrogate(bind_rule(parse_config({"aggregator": table}).aggregator))
    updates, _, _ = make()
    result = aggregator.aggregate(updates, aggregator.init(N, D), fljax.aggregators.Context())[0]
    expected = SURROGATES["krum"](updates, num_malicious=3, num_neighbors=5)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert make_surrogate(bind_rule(parse_config({"aggregator": {"name": "mean"}}).aggregator)) is None


# --- in the simulator ---------------------------------------------------------------------------------


@lru_cache
def error_of_a_run(rule, attack, **options):
    fraction = 0.0 if attack == "none" else 0.2
    config = {
        "rounds": 4,
        "eval_every": 4,
        "num_clients": 10,
        "partition": {"name": "iid"},
        "aggregator": {"name": rule, **({"num_malicious": 2} if rule == "krum" else {})},
        "attack": {"name": attack, "fraction": fraction, **options},
    }
    summary = fljax.run(parse_config(config)).summary
    assert not summary["diverged"]
    return summary["test_error"]


@pytest.mark.slow
def test_in_the_simulator():
    ascent = error_of_a_run("krum", "optimize_attack", steps=3)
    assert ascent > error_of_a_run("krum", "none")
    optimum = error_of_a_run("fltrust", "fltrust_attack", search="optimum")
    assert optimum > error_of_a_run("fltrust", "fltrust_attack", sweeps=2)


def test_against_fltrust_the_optimum_is_at_least_what_ascent_finds():
    updates, root, malicious = make()
    rule = partial(fltrust, root_update=root)
    ascent = optimized(updates, malicious, rule, steps=15)
    optimum = jitted(fltrust_attack)(updates, root, malicious, KEY, search="optimum")
    flipped = sign_flip(updates, malicious)
    best, found, usual = (damage(rule, updates, sent) for sent in (optimum, ascent, flipped))
    assert usual < found <= best * (1 + 1e-4)
