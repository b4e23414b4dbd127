"""The peers' update attacks against float64 references, and what each promises."""

import math
import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import Context, krum, median, nnm, trimmed_mean
from fljax.attacks import (
    Knowledge,
    Task,
    alie,
    alie_factor,
    attack_from_registry,
    constant,
    free_rider,
    gaussian,
    ipm,
    mimic,
    mimic_warmup,
    min_max,
    min_sum,
    optimized_alie,
    optimized_ipm,
)
from fljax.config.components import bind_attack, make_attack
from fljax.config.schema import AttackConfig, parse_config
from tests.attacks import pools
from tests.attacks.alie import alie as alie_reference
from tests.attacks.alie import alie_factor as alie_factor_reference
from tests.attacks.alie import alie_share
from tests.attacks.ipm import ipm as ipm_reference
from tests.attacks.line_search import line_search, redescending
from tests.attacks.mimic_warmup import Mimic
from tests.attacks.min_max import halving_search, max_allowed, towards
from tests.attacks.min_sum import sum_allowed
from tests.support.programs import jitted

alie, gaussian, ipm, min_max, min_sum, optimized_alie, optimized_ipm = map(
    jitted, (alie, gaussian, ipm, min_max, min_sum, optimized_alie, optimized_ipm)
)

KEY = jax.random.key(0)
TASK = Task(num_classes=10)
# n odd and even, d small and large.
SHAPES = [(9, 5), (8, 300)]
shapes = pytest.mark.parametrize(("n", "d"), SHAPES)


def make(seed, n, d, shift=1.0):
    random = np.random.default_rng(seed)
    spread = random.uniform(0.2, 2.0, (n, 1))
    return (shift * random.normal(size=d) + spread * random.normal(size=(n, d))).astype(np.float32)


def masks(n, seed=0):
    """0, 1, 2, … and n attackers, at random places."""
    random = np.random.default_rng(seed)
    for m in (0, 1, 2, 3, n // 2, n // 2 + 1, n - 1, n):
        yield np.isin(np.arange(n), random.permutation(n)[:m])


@lru_cache
def compiled(attack, **options):
    return jax.jit(partial(attack, **options))


def check(result, updates, malicious, expected, rtol=1e-5):
    """Honest rows untouched, malicious ones all equal to what is expected."""
    result = np.asarray(result)
    assert result[~malicious].tobytes() == updates[~malicious].tobytes()
    size = np.abs(updates).max()
    np.testing.assert_allclose(
        result[malicious], np.tile(expected, (malicious.sum(), 1)), rtol=rtol, atol=rtol * size
    )


# --- Gaussian and constant ------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["zero", "own", "mean"])
def test_gaussian_has_the_mean_and_the_spread_asked_for(around):
    updates = np.tile(np.arange(1.0, 10.0, dtype=np.float32)[:, None], (1, 20_000))
    malicious = np.arange(9) % 3 == 0
    center = {"zero": np.zeros(3), "own": np.array([1.0, 4.0, 7.0]), "mean": np.full(3, 33 / 6)}[around]
    noise = np.asarray(gaussian(updates, malicious, KEY, std=0.5, around=around))
    assert (noise[~malicious] == updates[~malicious]).all()
    standard = (noise[malicious] - center[:, None]) / 0.5
    np.testing.assert_allclose(standard.mean(1), 0, atol=0.05)
    np.testing.assert_allclose(standard.std(1), 1, atol=0.03)
    np.testing.assert_allclose((standard**4).mean(1), 3, atol=0.3)
    np.testing.assert_allclose(np.corrcoef(standard)[np.triu_indices(3, 1)], 0, atol=0.04)
    still = np.asarray(gaussian(updates, malicious, KEY, std=0.0, around=around))
    np.testing.assert_allclose(still[malicious], np.tile(center[:, None], 20_000), rtol=1e-6)


def test_gaussian_draws_by_row():
    updates = make(0, 9, 5)
    first = gaussian(updates, np.arange(9) < 2, KEY, std=1.0)
    more = gaussian(updates, np.arange(9) < 4, KEY, std=1.0)
    np.testing.assert_array_equal(first[:2], more[:2])
    for bound in (4, 5, 100):
        bounded = gaussian(updates, np.arange(9) < 4, KEY, std=1.0, max_malicious=bound)
        np.testing.assert_array_equal(bounded, more)
    few = gaussian(updates, np.arange(9) < 4, KEY, std=1.0, max_malicious=3)
    np.testing.assert_array_equal(few[3], updates[3])
    other = gaussian(updates, np.arange(9) < 4, jax.random.key(1), std=1.0)
    assert not np.allclose(other[:4], more[:4])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 1e38, 1e300])
def test_constant_sends_what_it_is_told(value):
    updates, malicious = make(0, 9, 5), np.arange(9) < 2
    with np.errstate(over="ignore"):
        expected = np.full((2, 5), value, np.float32)
    config = AttackConfig(name="constant", value=value)
    made = make_attack(bind_attack(config), TASK)
    sent, _ = made.corrupt(jnp.asarray(updates), jnp.asarray(malicious), (), Knowledge(Context()))
    for result in (
        constant(updates, malicious, value=value),
        sent,
    ):
        np.testing.assert_array_equal(result[:2], expected)
        np.testing.assert_array_equal(result[2:], updates[2:])


# --- ALIE and IPM ---------------------------------------------------------------------------------------


def test_the_factor_of_alie_is_the_published_quantile():
    for n in (*range(1, 13), 51, 100):
        counts = np.minimum(np.arange(101), n)
        found = jax.jit(jax.vmap(partial(alie_factor, n)))(counts)
        expected = [alie_factor_reference(n, m) for m in counts]
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
        # The clamp moves none of the published ones: 1 ≤ m ≤ n/2.
        for m in range(1, n // 2 + 1) if n > 2 else ():
            assert 1 / n <= alie_share(n, m) <= 1 - 1 / n
    # The paper's table for 50 workers, 24 of them corrupted.
    assert abs(float(alie_factor(50, 24)) - 1.43) < 5e-3


@shapes
@pytest.mark.parametrize(
    "options", [{}, {"knowledge": "full", "ddof": 1}, {"z": 1.5}, {"z": -0.3, "ddof": 1}]
)
def test_alie(n, d, options):
    attack = compiled(alie, **options)
    for seed, malicious in enumerate(masks(n)):
        updates = make(seed, n, d)
        check(attack(updates, malicious), updates, malicious, alie_reference(updates, malicious, **options))


def test_alie_with_one_attacker_and_its_own_row_only_is_honest():
    updates, malicious = make(0, 9, 5), np.arange(9) == 4
    np.testing.assert_array_equal(alie(updates, malicious, z=3.0), updates)
    assert not np.allclose(alie(updates, malicious, z=3.0, knowledge="full"), updates)


@shapes
def test_ipm(n, d):
    attack = compiled(ipm)
    for seed, malicious in enumerate(masks(n)):
        updates = make(seed, n, d)
        result = attack(updates, malicious, epsilon=0.3)
        check(result, updates, malicious, ipm_reference(updates, malicious, 0.3))


def test_factors_may_be_traced():
    updates, malicious = make(0, 9, 5), np.arange(9) < 3
    factors = jnp.array([0.5, 2.0])
    swept = jax.jit(
        jax.vmap(lambda f: jnp.stack([alie(updates, malicious, z=f), ipm(updates, malicious, epsilon=f)]))
    )
    for row, factor in zip(swept(factors), (0.5, 2.0), strict=True):
        np.testing.assert_allclose(row[0], alie(updates, malicious, z=factor), rtol=1e-6)
        np.testing.assert_allclose(row[1], ipm(updates, malicious, epsilon=factor), rtol=1e-6)


def test_the_worked_example_of_byzfl():
    # ByzFL's documentation: three honest rows; its ALIE takes the sample deviation of all it sees.
    rows = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]], np.float32)
    malicious = np.arange(4) == 3
    found = alie(rows, malicious, z=1.5, ddof=1, knowledge="full")
    np.testing.assert_allclose(found[3], [8.5, 9.5, 10.5], rtol=1e-6)
    np.testing.assert_allclose(ipm(rows, malicious, epsilon=2.0)[3], [-8, -10, -12], rtol=1e-6)
    np.testing.assert_array_equal(mimic(rows, malicious, target=0)[3], [1, 2, 3])


# The same rows as honest gradients: μ = (4, 5, 6), and σ = 3 everywhere with ddof 1, √6 with ddof 0. What a
# library sends instead of its gradients, and the call that sends its negative instead of our updates.
ON_GRADIENTS = {
    "ByzFL's ALIE, μ + 1.5 σ": (partial(alie, z=-1.5, knowledge="full", ddof=1), [8.5, 9.5, 10.5]),
    "ALIE of Karimireddy et al., μ − 1.5 σ": (
        partial(alie, z=1.5, knowledge="full", ddof=1),
        [-0.5, 0.5, 1.5],
    ),
    "ByzFL's IPM, −2 μ": (partial(ipm, epsilon=2.0), [-8, -10, -12]),
    # As far from (7, 8, 9) as (1, 2, 3) is: γ = 1.
    "Min-Max, μ − γσ": (partial(min_max, direction="std"), [1, 2, 3]),
    "Min-Sum, μ − γσ": (partial(min_sum, direction="std"), [1, 2, 3]),
    # All in one line: 3√3 from μ to its neighbours, as far again as the row may go.
    "Min-Max, μ − γ sign(μ)": (partial(min_max, direction="sign"), [1, 2, 3]),
}
# What FLPoison sends instead of the same rows, which are updates there.
ON_UPDATES = {
    "ALIE, μ + 1.5 σ": (partial(alie, z=1.5, knowledge="full"), np.array([4, 5, 6]) + 1.5 * np.sqrt(6)),
    "Min-Max, μ − γσ": (partial(min_max, direction="minus_std"), [1, 2, 3]),
}


@pytest.mark.parametrize("name", ON_GRADIENTS)
def test_what_is_published_on_gradients_is_turned_for_updates(name):
    attack, sent = ON_GRADIENTS[name]
    gradients = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]], np.float32)
    rate = np.float32(0.25)
    crafted = attack(-rate * gradients, np.arange(4) == 3)[3]
    np.testing.assert_allclose(crafted, -rate * np.float32(sent), rtol=1e-5)


@pytest.mark.parametrize("name", ON_UPDATES)
def test_what_is_published_on_updates_is_taken_as_it_is(name):
    attack, sent = ON_UPDATES[name]
    rows = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(attack(rows, np.arange(4) == 3)[3], sent, rtol=1e-5)


def test_statistics_leave_out_rows_they_are_not_about():
    updates, malicious = make(0, 9, 5), np.arange(9) < 3
    broken = np.where(malicious[:, None], np.nan, updates).astype(np.float32)
    rule = partial(trimmed_mean, trim=3)
    for attack in (
        partial(alie, knowledge="full"),
        partial(ipm, epsilon=1.0),
        min_max,
        min_sum,
        partial(min_sum, bound="smallest", direction="std"),
        partial(optimized_ipm, rule=rule, evaluations=4),
        partial(gaussian, key=KEY, std=1.0, around="mean"),
    ):
        np.testing.assert_allclose(attack(broken, malicious), attack(updates, malicious), rtol=1e-5)
    broken = np.where(malicious[:, None], updates, np.inf).astype(np.float32)
    for attack in (alie, partial(min_max, knowledge="partial"), partial(min_sum, knowledge="partial")):
        found, wanted = (np.asarray(attack(rows, malicious))[:3] for rows in (broken, updates))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


# --- Min-Max and Min-Sum --------------------------------------------------------------------------------

MEASURES = {
    "max": (min_max, {}, max_allowed),
    "sum": (min_sum, {}, sum_allowed),
    "smallest sum": (min_sum, {"bound": "smallest"}, partial(sum_allowed, bound="smallest")),
}
measures = pytest.mark.parametrize("name", MEASURES)
DIRECTIONS = ["unit", "std", "minus_std", "sign"]
directions = pytest.mark.parametrize("direction", DIRECTIONS)


def pushed_to_the_bound(row, pool, measure, direction, slack):
    """Feasible in float64 up to rounding, on the ray of the direction, and infeasible just beyond."""
    center, along = pools.mean(pool), towards(pool, direction)
    gamma = np.dot(row - center, along) / pools.square(along)
    np.testing.assert_allclose(row, center + gamma * along, atol=slack * max(1, np.abs(pool).max()))
    value, limit = measure(pool, row)
    assert value <= limit * (1 + slack)
    beyond, limit = measure(pool, center + (gamma * (1 + 10 * slack) + 1e-6) * along)
    assert beyond > limit
    return gamma


@measures
@directions
@shapes
def test_min_max_and_min_sum_go_as_far_as_is_allowed(name, direction, n, d):
    attack, options, measure = MEASURES[name]
    for seed, malicious in enumerate(masks(n)):
        knowledge = ("full", "partial")[seed % 2]
        updates = make(seed, n, d)
        pool = pools.pool_of(updates, malicious, knowledge)
        if not malicious.any() or len(pool) == 1:
            continue
        result = np.asarray(
            compiled(attack, direction=direction, knowledge=knowledge, **options)(updates, malicious)
        )
        row = result[malicious][0].astype(np.float64)
        gamma = pushed_to_the_bound(row, pool, measure, direction, 1e-5)
        assert gamma > 0
        check(result, updates, malicious, row, rtol=1e-7)


@measures
@directions
def test_the_published_search_is_reproduced(name, direction):
    attack, options, measure = MEASURES[name]
    # Along σ the default never comes to its end.
    search = {"start": 0.1, "tolerance": 1e-4} if "std" in direction else {}
    attack = compiled(attack, direction=direction, search="published", **search, **options)
    for seed, scale in enumerate((1.0, 1.0, 0.01, 300.0)):
        updates, malicious = scale * make(seed, 9, 5), np.arange(9) % 3 == 0
        pool = pools.pool_of(updates, malicious, "full")
        found = halving_search(pool, direction, measure, **search)
        expected = pools.mean(pool) + found * towards(pool, direction)
        row = np.asarray(attack(updates, malicious))[0]
        end = found == pytest.approx(2 * search.get("start", 10.0), rel=5e-3)
        # γ is a multiple of 2e-5; rounding may take the neighbouring one, but not where the search ends.
        step = 0.0 if end else 2e-5 * np.abs(towards(pool, direction)).max()
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1.01 * step + 1e-6 * np.abs(updates).max())
        assert end or "std" not in direction
    assert end, "the last scale must show where the search ends"


def test_the_published_search_counts_in_units_of_the_gradient():
    updates, malicious = make(0, 9, 5), np.arange(9) < 2
    for direction in DIRECTIONS:
        attack = partial(min_max, direction=direction, search="published", start=0.25, tolerance=0.01)
        small = attack(0.125 * updates, malicious, jnp.float32(0.125))
        np.testing.assert_allclose(8 * small, attack(updates, malicious), rtol=1e-5)
        far = min_max(updates, malicious, direction=direction)
        assert not np.allclose(far, attack(updates, malicious), rtol=1e-2)


def test_a_common_part_does_not_spoil_the_distances():
    updates, malicious = make(0, 9, 300) + np.float32(1000.0), np.arange(9) < 2
    pool = pools.pool_of(updates, malicious, "full")
    for name, (attack, options, measure) in MEASURES.items():
        row = np.asarray(compiled(attack, direction="std", **options)(updates, malicious))[0].astype(float)
        value, limit = measure(pool, row)
        assert abs(value / limit - 1) < 1e-4, name


def test_the_diameter_of_more_rows_than_a_block():
    random = np.random.default_rng(0)
    updates = random.normal(size=(2500, 3)).astype(np.float32)
    # The two farthest from each other, both in the last block.
    updates[2300], updates[2400] = (40, 0, 0), (-40, 1, 0)
    malicious = np.arange(2500) == 7
    row = np.asarray(min_max(updates, malicious, direction="sign"))[7].astype(float)
    distances = np.linalg.norm(np.delete(updates, 7, 0).astype(float) - row, axis=1)
    assert distances.max() == pytest.approx(np.sqrt(80**2 + 1), rel=1e-5)


def test_nowhere_to_go():
    same = np.tile(np.arange(1.0, 6.0, dtype=np.float32), (9, 1))
    malicious = np.arange(9) < 2
    opposite = np.stack([same[0], -same[0]] * 4).astype(np.float32)
    for attack in (min_max, min_sum):
        # All alike: the mean is the only row that is near enough.
        np.testing.assert_allclose(attack(same, malicious), same, rtol=1e-6)
        # A mean of zero has no opposite.
        np.testing.assert_allclose(attack(opposite, malicious[:8])[0], 0, atol=1e-6)


# --- Line searches --------------------------------------------------------------------------------------

RULES = {
    "krum": partial(krum, num_malicious=4),
    "median": median,
    "trimmed mean": partial(trimmed_mean, trim=4),
    "nnm + trimmed mean": lambda stack: trimmed_mean(nnm(stack, num_malicious=4), trim=4),
}


@pytest.mark.parametrize("kind", ["alie", "ipm"])
def test_the_line_search_takes_the_published_steps(kind):
    attack = optimized_alie if kind == "alie" else optimized_ipm
    options = {"evaluations": 12, "smallest": 0.25, "largest": 8.0}
    attack = jax.jit(partial(attack, rule=redescending, **options))
    for seed, malicious in enumerate(masks(9)):
        updates = make(seed, 9, 5)
        if not malicious.any():
            continue
        pool = pools.pool_of(updates, malicious, "full")
        if kind == "alie":
            base, along, grid = pools.mean(pool), pools.deviation(pool, 0), np.geomspace(0.25, 8, 6)
            factors = [alie_factor_reference(9, int(malicious.sum())), *grid]
        else:
            base, along, factors = 0.0, -pools.mean(pool), np.geomspace(0.25, 8, 6)
        best, seen = line_search(
            updates, malicious, redescending, base, along, factors, 12 - len(factors), 8.0
        )
        assert len(seen) == 12
        row = np.asarray(attack(updates, malicious), np.float64)[malicious][0]
        factor = np.dot(row - base, along) / pools.square(along) if pools.square(along) else best
        found = max(d for f, d in seen if abs(f - factor) <= 1e-4 * abs(f) + 1e-6)
        # Rounding may choose between factors as good.
        assert found >= max(d for _, d in seen) * (1 - 1e-5)


@pytest.mark.parametrize("name", RULES)
def test_searched_factors_beat_fixed_ones(name):
    rule, n, d, seeds = RULES[name], 15, 40, range(20)
    malicious = np.arange(n) < 4
    stack = np.stack([make(seed, n, d, shift=0.5) for seed in seeds])
    fixed = [partial(alie, knowledge="full"), partial(alie, z=1.5, knowledge="full")]
    fixed += [partial(ipm, epsilon=epsilon) for epsilon in (0.1, 0.5, 1.0, 2.0)]

    def damages(updates):
        attacks = (partial(optimized_alie, rule=rule), partial(optimized_ipm, rule=rule), *fixed)
        attacked = jnp.stack([attack(updates, malicious) for attack in attacks])
        return jnp.linalg.norm(jax.vmap(rule)(attacked) - updates[4:].mean(0), axis=1)

    found = np.asarray(jax.jit(jax.vmap(damages))(stack), np.float64)
    # Never below the factor that is evaluated first, and on average better than what others fix.
    assert (found[:, 0] >= found[:, 2] * (1 - 1e-5)).all()
    alie_found, ipm_found, *others = found.mean(0)
    assert alie_found > 1.02 * others[0]
    # Once the crafted values are beyond every value the median may take, farther ones change nothing.
    assert alie_found > 1.02 * others[1] or (name == "median" and alie_found > (1 - 1e-5) * others[1])
    assert ipm_found > 1.02 * max(others[2:])


def test_the_rule_is_run_as_often_as_is_said():
    runs = []

    def rule(stack):
        jax.debug.callback(lambda: runs.append(1))
        return jnp.median(stack, axis=0)

    updates, malicious = make(0, 9, 5), np.arange(9) < 2
    for attack in (optimized_alie, optimized_ipm):
        for evaluations in (1, 2, 7):
            runs.clear()
            jax.block_until_ready(attack(updates, malicious, rule, evaluations=evaluations))
            jax.effects_barrier()
            assert len(runs) == evaluations


def test_a_result_that_is_not_finite_is_no_success():
    updates, malicious = make(0, 9, 5), np.arange(9) < 3

    def fragile(stack):
        result = jnp.mean(stack, axis=0)
        return jnp.where(jnp.max(jnp.abs(stack)) > 50, jnp.inf, result)

    sent = np.asarray(optimized_alie(updates, malicious, fragile, largest=1000.0))
    assert 25 < np.abs(sent).max() <= 50
    for broken in (jnp.nan, jnp.inf):
        hopeless = optimized_alie(updates, malicious, lambda stack, b=broken: b * stack[0])
        np.testing.assert_allclose(hopeless, alie(updates, malicious, knowledge="full"), rtol=1e-6)


def test_the_line_search_needs_the_round():
    attack = attack_from_registry("optimized_ipm", TASK, evaluations=3)
    updates, malicious = jnp.asarray(make(0, 9, 5)), jnp.arange(9) < 2
    with pytest.raises(ValueError, match="needs rule, which this round does not provide"):
        attack.corrupt(updates, malicious, (), Knowledge(Context()))
    found = jax.jit(lambda rows: attack.corrupt(rows, malicious, (), Knowledge(Context(), rule=median))[0])(
        updates
    )
    np.testing.assert_allclose(found, optimized_ipm(updates, malicious, median, evaluations=3), rtol=1e-6)


# --- Mimic ----------------------------------------------------------------------------------------------


def test_mimic_copies_the_target_or_the_next_honest_client():
    updates = make(0, 6, 5)
    malicious = np.array([True, False, True, True, False, True])
    attack = jax.jit(mimic)
    for target, row in ((0, 1), (1, 1), (2, 4), (4, 4), (5, 1)):
        for result in (mimic(updates, malicious, target=target), attack(updates, malicious, target=target)):
            check(result, updates, malicious, updates[row], rtol=0)
    everybody = np.asarray(mimic(updates, np.ones(6, bool), target=3))
    np.testing.assert_array_equal(everybody, np.tile(updates[3], (6, 1)))


def test_mimic_finds_its_target_in_a_cohort():
    updates = make(0, 4, 5)
    ids, malicious = np.array([7, 2, 30, 11]), np.array([False, False, True, False])
    for target, row in ((2, 1), (3, 0), (8, 3), (11, 3), (12, 1), (30, 1), (99, 1)):
        check(mimic(updates, malicious, ids, target=target), updates, malicious, updates[row], rtol=0)


@pytest.mark.parametrize("choose", ["sum", "last"])
@pytest.mark.parametrize("cohort", [8, 5])
def test_mimic_learns_as_published(choose, cohort):
    clients, d, warmup = 8, 12, 4
    attack = mimic_warmup(warmup=warmup, choose=choose, seed=3)
    corrupt = jax.jit(attack.corrupt)
    targets = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        own = 2 * random.normal(size=(clients, d))
        bad = np.isin(np.arange(clients), random.permutation(clients)[:2])
        state = attack.init(clients, d)
        literal = Mimic(state.direction, clients, warmup, choose)
        for r in range(7):
            ids = np.sort(random.permutation(clients)[:cohort]).astype(np.int32)
            updates = (own[ids] + 0.3 * random.normal(size=(cohort, d))).astype(np.float32)
            malicious = bad[ids]
            expected = literal.target(updates.astype(float), malicious, ids)
            known = Knowledge(Context(round=r, client_ids=jnp.asarray(ids)))
            sent, state = corrupt(updates, malicious, state, known)
            check(sent, updates, malicious, updates[expected], rtol=0)
            targets.append((seed, r, ids[expected]))
            np.testing.assert_allclose(state.direction, literal.z, atol=2e-5)
            np.testing.assert_allclose(state.mean, literal.mu, atol=1e-5)
        assert int(state.rounds) == warmup
        if cohort == clients:
            late = {client for s, r, client in targets if s == seed and r >= warmup - 1}
            assert len(late) == 1, "the target must stay"
    assert len({client for _, _, client in targets}) > 2


def test_mimic_finds_the_direction_of_largest_variance():
    random = np.random.default_rng(0)
    clients, d = 10, 200
    planted = random.normal(size=d)
    planted /= np.linalg.norm(planted)
    amounts = random.permutation(np.linspace(-6, 6, clients))
    attack = mimic_warmup(warmup=20)
    corrupt = jax.jit(attack.corrupt)
    malicious, state = jnp.arange(clients) == 9, attack.init(clients, d)
    for _ in range(20):
        updates = amounts[:, None] * planted + 0.3 * random.normal(size=(clients, d))
        sent, state = corrupt(jnp.asarray(updates, jnp.float32), malicious, state, Knowledge(Context()))
    assert abs(float(state.direction @ planted)) > 0.95
    farthest = np.argmax(np.abs(amounts[:9]))
    np.testing.assert_allclose(sent[9], updates[farthest], rtol=1e-5)


def test_mimic_survives_rounds_without_anything_to_learn():
    attack = mimic_warmup(warmup=2)
    corrupt, state = jax.jit(attack.corrupt), attack.init(6, 5)
    updates = jnp.asarray(make(0, 6, 5))
    broken = updates.at[2, 1].set(jnp.nan)
    everybody, some = jnp.ones(6, bool), jnp.arange(6) == 5
    for rows, malicious in ((updates, everybody), (broken, some)):
        _, after = corrupt(rows, malicious, state, Knowledge(Context(client_ids=jnp.arange(6))))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            np.testing.assert_array_equal(old, new)
            assert old.dtype == new.dtype
    # A malicious row may hold anything.
    _, after = corrupt(updates.at[5].set(jnp.nan), some, state, Knowledge(Context(client_ids=jnp.arange(6))))
    _, clean = corrupt(updates, some, state, Knowledge(Context(client_ids=jnp.arange(6))))
    np.testing.assert_allclose(after.direction, clean.direction, rtol=1e-5)
    assert int(after.rounds) == 1


# --- Free-riders ----------------------------------------------------------------------------------------


def ride(attack, models, d, malicious, updates=None):
    """What one free-rider sends in every round, given the global models."""
    n = len(malicious)
    state, sent, corrupt = attack.init(n, d), [], jax.jit(attack.corrupt)
    updates = make(0, n, d) if updates is None else updates
    for r, params in enumerate(models):
        context = Context(jax.random.key(r), round=jnp.int32(r), params=jnp.asarray(params, jnp.float32))
        rows, new = corrupt(jnp.asarray(updates), jnp.asarray(malicious), state, Knowledge(context))
        assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(
            lambda a: (a.shape, a.dtype), state
        )
        np.testing.assert_array_equal(rows[~malicious], updates[~malicious])
        state = new
        sent.append(np.asarray(rows)[malicious])
    return sent


def test_free_riders_without_noise():
    malicious, models = np.array([False, True, True, False]), [np.arange(5.0), np.zeros(5), np.full(5, -0.25)]
    for rows in ride(free_rider(kind="zero"), models, 5, malicious):
        np.testing.assert_array_equal(rows, 0)
    first, second, third = ride(free_rider(kind="delta"), models, 5, malicious)
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_allclose(second, np.tile(-np.arange(5.0), (2, 1)))
    np.testing.assert_allclose(third, np.full((2, 5), -0.25))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_disguised_free_riders_fade_as_published(power):
    d, malicious = 20_000, np.array([True, False, True])
    models = np.cumsum(np.arange(1, 6)[:, None] * np.random.default_rng(0).normal(size=(5, d)), axis=0)
    rounds = ride(free_rider(kind="noise", power=power, multiplier=3.0), models, d, malicious)
    np.testing.assert_array_equal(rounds[0], 0)
    sigma = np.abs(models[1] - models[0]).mean()
    for t, rows in enumerate(rounds[1:], start=1):
        np.testing.assert_allclose(rows.std(1), 3 * sigma * t**-power, rtol=0.03)
        np.testing.assert_allclose(rows.mean(1) / rows.std(1), 0, atol=0.04)
        assert abs(np.corrcoef(rows)[0, 1]) < 0.04
    fixed = ride(free_rider(kind="noise", std=0.1, power=power), models, d, malicious)
    for t, rows in enumerate(fixed):
        np.testing.assert_allclose(rows.std(1), 0.1 * max(t, 1) ** -power, rtol=0.03)


def test_advanced_free_riders_add_noise_to_the_last_change():
    d, malicious = 20_000, np.array([True, False, True])
    models = np.cumsum(np.random.default_rng(0).normal(size=(4, d)), axis=0)
    for t, rows in enumerate(ride(free_rider(kind="delta", std=1e-3), models, d, malicious)):
        change = (models[t] - models[t - 1]) if t else np.zeros(d)
        noise = rows - change.astype(np.float32)
        np.testing.assert_allclose(noise.std(1), 1e-3, rtol=0.03)
        assert abs(np.corrcoef(noise)[0, 1]) < 0.04


def test_free_riders_say_what_is_missing():
    updates, malicious = jnp.asarray(make(0, 3, 5)), jnp.arange(3) < 1
    for attack, context, missing in (
        (free_rider(kind="delta"), Context(), "params"),
        (free_rider(kind="noise"), Context(params=jnp.zeros(5)), "a key"),
    ):
        with pytest.raises(ValueError, match=f"needs {missing}, which this round does not provide"):
            attack.corrupt(updates, malicious, attack.init(3, 5), Knowledge(context))


# --- All of them ----------------------------------------------------------------------------------------

BAD = [
    (partial(gaussian, key=KEY, std=-1.0), "gaussian: std=-1.0 must be at least 0"),
    (partial(gaussian, key=KEY, std=math.nan), "gaussian: std=nan"),
    (partial(gaussian, key=KEY, std=1.0, around="all"), "gaussian: around='all' must be \"zero\""),
    (partial(alie, z=math.inf), "alie: z=inf must be finite"),
    (partial(alie, ddof=2), "alie: ddof=2 must be 0 or 1"),
    (partial(alie, knowledge="some"), "alie: knowledge='some'"),
    (partial(ipm, epsilon=-0.5), "ipm: epsilon=-0.5 must be at least 0"),
    (partial(min_max, direction="up"), "min_max: direction='up' must be \"unit\""),
    (partial(min_max, search="fast"), "min_max: search='fast' must be \"exact\""),
    (partial(min_max, start=1e-6), "min_max: tolerance=1e-05 must be below start=1e-06"),
    (partial(min_sum, bound="mean"), "min_sum: bound='mean' must be \"largest\""),
    (partial(min_sum, knowledge="none"), "min_sum: knowledge='none'"),
    (
        partial(optimized_alie, rule=median, evaluations=0),
        "optimized_alie: evaluations=0 must be a whole number of at least 1",
    ),
    (
        partial(optimized_ipm, rule=median, evaluations=0),
        "optimized_ipm: evaluations=0 must be a whole number of at least 1",
    ),
    (partial(optimized_ipm, rule=median, smallest=0.0), "smallest=0.0 must be larger than 0"),
    (partial(mimic, target=-1), "mimic: target=-1"),
    (partial(mimic, target=9), "mimic: target=9"),
    (lambda u, m: mimic_warmup(warmup=0), "mimic_warmup: warmup=0 must be a whole number of at least 1"),
    (lambda u, m: mimic_warmup(choose="first"), "mimic_warmup: choose='first' must be"),
    (lambda u, m: free_rider(kind="lazy"), "free_rider: kind='lazy' must be"),
    (lambda u, m: free_rider(std=-1.0), "free_rider: std=-1.0 must be at least 0 and finite"),
    (lambda u, m: free_rider(power=math.inf), "free_rider: power=inf"),
]


@pytest.mark.parametrize(("attack", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments_are_named(attack, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        attack(make(0, 9, 5), np.arange(9) < 2)


@pytest.mark.parametrize(
    ("attack", "aggregator"),
    [
        (
            {"name": "optimized_alie", "evaluations": 3},
            {"name": "trimmed_mean", "trim": 2, "pre": [{"name": "nnm", "num_malicious": 2}]},
        ),
        ({"name": "mimic_warmup", "warmup": 2}, {"name": "mean"}),
        ({"name": "free_rider", "kind": "noise"}, {"name": "mean"}),
    ],
    ids=lambda table: table["name"],
)
def test_attacks_run_in_the_simulator(attack, aggregator):
    config = parse_config(
        {
            "rounds": 4,
            "eval_every": 2,
            "num_clients": 10,
            "cohort_size": 6,
            "partition": {"name": "label_bias", "bias": 0.5},
            "model": {"name": "logistic_regression"},
            "aggregator": aggregator,
            "attack": {**attack, "fraction": 0.3},
        }
    )
    result = fljax.run(config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
