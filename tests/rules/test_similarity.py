"""What is particular to the rules by signs, norms, similarity and a trusted pivot."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import MeanShift, estimate_bandwidth

from fljax.aggregators import (
    RULES,
    Context,
    chain,
    clip,
    foolsgold,
    foolsgold_aggregator,
    foolsgold_mean,
    from_registry,
    mean,
    nearest_to_pivot,
    norm_filter,
    sign_guard,
    sign_majority,
    stateless_pre,
)
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.mean_shift import bandwidth_of, largest_cluster, mean_shift
from tests.rules.case import make
from tests.rules.foolsgold import cosine as reference_cosine
from tests.rules.foolsgold import foolsgold as reference_foolsgold
from tests.rules.foolsgold import foolsgold_mean as reference_foolsgold_mean
from tests.rules.foolsgold import foolsgold_rounds as reference_foolsgold_rounds
from tests.rules.sign_guard import bandwidth_of as reference_bandwidth_of
from tests.rules.sign_guard import mean_shift as reference_mean_shift
from tests.rules.sign_guard import sign_features as reference_sign_features
from tests.rules.sign_guard import sign_guard as reference_sign_guard
from tests.support.programs import jitted

clip, foolsgold, foolsgold_mean, mean, nearest_to_pivot, norm_filter, sign_majority = map(
    jitted, (clip, foolsgold, foolsgold_mean, mean, nearest_to_pivot, norm_filter, sign_majority)
)
bandwidth_of, largest_cluster, mean_shift, pairwise_cosines = map(
    jitted, (bandwidth_of, largest_cluster, mean_shift, pairwise_cosines)
)

# Rows (1,2,3), (4,5,6), (7,8,9): the worked example of ByzFL's documentation.
WORKED = jnp.arange(1.0, 10.0).reshape(3, 3)
KEY = jax.random.key(0)


@lru_cache
def compiled(name, **hyper):
    return jax.jit(partial(RULES[name].function.explained, **hyper))


def selected(name, *arguments, **hyper):
    return np.flatnonzero(compiled(name, **hyper)(*arguments)[1]["selected"]).tolist()


def guarded(rows, key, **hyper):
    return compiled("sign_guard", **hyper)(rows, key)[0]


# --- CGE and MoNNA ------------------------------------------------------------------------------------


def test_worked_examples():
    np.testing.assert_array_equal(norm_filter(WORKED, num_malicious=1), [2.5, 3.5, 4.5])
    # The other two are equally far from the middle row: the lower one counts.
    np.testing.assert_array_equal(nearest_to_pivot(WORKED, num_malicious=1, pivot=1), [2.5, 3.5, 4.5])
    np.testing.assert_array_equal(nearest_to_pivot(WORKED, num_malicious=1, pivot=2), [5.5, 6.5, 7.5])


def test_ties_go_to_the_lowest_row():
    rows = np.array([[3.0, 4.0], [0.0, 5.0], [1.0, 0.0], [-5.0, 0.0], [4.0, -3.0]], np.float32)
    assert selected("norm_filter", rows, num_malicious=2) == [0, 1, 2]
    around = rows + np.float32(8.0)
    around[2] = 8.0
    assert selected("nearest_to_pivot", around, num_malicious=2, pivot=2) == [0, 1, 2]


def test_the_pivot_counts_among_its_copies():
    rows = np.ones((7, 3), np.float32)
    rows[5] = 2.0
    assert selected("nearest_to_pivot", rows, num_malicious=3, pivot=6) == [0, 1, 2, 6]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_and_nobody_malicious(n):
    rows = make(n=n, d=5)[0]
    np.testing.assert_allclose(norm_filter(rows, num_malicious=0), rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(nearest_to_pivot(rows, num_malicious=0), rows.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(sign_majority(rows), np.sign(np.sign(rows).sum(0)))
    result = guarded(rows, KEY, coordinate_fraction=1.0)
    np.testing.assert_allclose(result, reference_sign_guard(rows, 0, coordinate_fraction=1.0), rtol=1e-5)
    np.testing.assert_allclose(
        foolsgold_mean(rows, rows), reference_foolsgold_mean(rows, rows), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("offset", [0.0, 1e3, -3e4])
def test_near_the_pivot_far_from_the_origin(offset):
    random = np.random.default_rng(0)
    rows = (offset + random.uniform(0.5, 2.0, (20, 1)) * random.normal(size=(20, 30))).astype(np.float32)
    exact = np.linalg.norm(rows.astype(np.float64) - rows[4], axis=1)
    assert selected("nearest_to_pivot", rows, num_malicious=9, pivot=4) == sorted(np.argsort(exact)[:11])


@pytest.mark.parametrize("size", [1e-37, 1e-25, 1e25, 3e37])
def test_norms_that_overflow_or_underflow_are_ordered(size):
    rows = np.array([[1, 4], [-2, 2], [0, 3], [5, 0], [1, 1]], np.float64)
    scaled = (rows * size).astype(np.float32)
    assert selected("norm_filter", scaled, num_malicious=2) == [1, 2, 4]
    assert selected("nearest_to_pivot", scaled, num_malicious=2) == [0, 2, 4]
    result = norm_filter(scaled, num_malicious=2) / np.float32(size)
    np.testing.assert_allclose(result, rows[[1, 2, 4]].mean(0), rtol=1e-5)


@pytest.mark.parametrize("rule", [norm_filter, nearest_to_pivot])
def test_all_but_one_row_more_than_half_may_be_non_finite(rule):
    rows = make(n=9)[0]
    rows[1], rows[4, 3], rows[5, 0], rows[8] = np.nan, np.inf, -np.inf, np.nan
    honest = rows[[0, 2, 3, 6, 7]]
    np.testing.assert_allclose(rule(rows, num_malicious=4), honest.mean(0), rtol=1e-5)


def test_traced_values_are_clamped_as_documented():
    rows = make()[0]
    traced = jax.jit(lambda f, p: nearest_to_pivot(rows, num_malicious=f, pivot=p))
    last = nearest_to_pivot(rows, num_malicious=5, pivot=11)
    np.testing.assert_allclose(traced(100, 100), last, rtol=1e-6)
    np.testing.assert_allclose(
        traced(-1, -1), nearest_to_pivot(rows, num_malicious=0, pivot=0), rtol=1e-6, atol=1e-7
    )
    traced = jax.jit(lambda f: norm_filter(rows, num_malicious=f))
    np.testing.assert_allclose(traced(100), norm_filter(rows, num_malicious=5), rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda u: norm_filter(u, num_malicious=2),
            "norm_filter: num_malicious=2 needs n > 4 rows .*, got n=4",
        ),
        (lambda u: norm_filter(u, num_malicious=-1), "num_malicious=-1"),
        (lambda u: nearest_to_pivot(u, num_malicious=2), "num_malicious=2 needs n > 4 rows .*, got n=4"),
        (lambda u: nearest_to_pivot(u, num_malicious=1, pivot=4), "pivot=4 needs to be a row, 0 to n - 1"),
        (lambda u: nearest_to_pivot(u, num_malicious=1, pivot=-1), "pivot=-1"),
        (lambda u: sign_majority(u[0]), r"sign_majority: updates must be \(n, d\)"),
        (lambda u: sign_guard(u, KEY, lower=3.0), "upper=3.0 must be larger than lower=3.0"),
        (lambda u: sign_guard(u, KEY, coordinate_fraction=0.0), "coordinate_fraction=0.0"),
        (lambda u: sign_guard(u, KEY, quantile=2.0), "quantile=2.0"),
        (lambda u: sign_guard(u, KEY, similarity="cos"), "similarity='cos'"),
        (lambda u: foolsgold(u, confidence=0.0), "foolsgold: confidence=0.0 must be larger than 0"),
        (lambda u: foolsgold_mean(u, u[:3]), r"history must be \(4, 2\), one row per update"),
        (lambda u: foolsgold_mean(u, u, normalize="n"), "normalize='n'"),
        (lambda u: foolsgold_aggregator(normalize="n"), "normalize='n'"),
        (
            lambda u: foolsgold_aggregator().aggregate(u, jnp.zeros((5, 2)), Context()),
            "got 4 rows for 5 clients and no client_ids",
        ),
    ],
)
def test_errors_name_rule_and_numbers(build, message):
    with pytest.raises(ValueError, match=message):
        build(jnp.ones((4, 2)))


# --- the majority vote --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 100, 1001])
def test_votes_of_any_number_of_rows(n):
    random = np.random.default_rng(n)
    rows = random.choice([-2.0, -0.0, 0.0, 1e-30, np.nan, np.inf, -np.inf, 1e38], (n, 50)).astype(np.float32)
    expected = np.sign((rows > 0).sum(0) - (rows < 0).sum(0).astype(int))
    np.testing.assert_array_equal(sign_majority(rows), expected)


def test_votes_may_be_integers():
    votes = sign_majority(jnp.array([[1, -1], [1, 1], [-1, -1]], jnp.int8))
    assert votes.dtype == jnp.float32
    assert votes.tolist() == [1.0, -1.0]


# --- SignGuard ----------------------------------------------------------------------------------------


def point_sets():
    """Blobs, scattered points and points on a coarse grid, 1 to 4 features."""
    for seed in range(45):
        random = np.random.default_rng(seed)
        n, k = random.integers(7, 50), random.integers(1, 5)
        if seed % 3 == 0:
            points = random.random((n, k))
        elif seed % 3 == 1:
            points = random.integers(0, 4, (n, k)) / 3
        else:
            points = random.random((4, k))[random.integers(0, 4, n)] + 0.05 * random.normal(size=(n, k))
        yield points.astype(np.float32), random.choice([0.3, 0.5])


def test_mean_shift_equals_scikit_learn():
    several = 0
    for points, quantile in point_sets():
        # Rows that do not count, of any value, to keep one shape.
        padded = np.full((50, points.shape[1]), 0.4, np.float32)
        padded[: len(points)] = points
        valid = np.arange(50) < len(points)
        bandwidth = bandwidth_of(padded, valid, quantile)
        np.testing.assert_allclose(
            bandwidth, (1 + 1e-5) * estimate_bandwidth(points, quantile=quantile), rtol=2e-6
        )
        expected = MeanShift(bandwidth=float(bandwidth), bin_seeding=True, cluster_all=False).fit(points)
        found = jax.device_get(mean_shift(padded, valid, bandwidth))
        np.testing.assert_array_equal(found.labels[: len(points)], expected.labels_)
        assert (found.labels[len(points) :] == -1).all()
        sizes = np.bincount(expected.labels_[expected.labels_ >= 0])
        np.testing.assert_array_equal(found.sizes[: len(sizes)], sizes)
        assert found.sizes.sum() == sizes.sum()
        several += len(sizes) > 1
    assert several > 15


def test_a_point_halfway_between_two_centres_belongs_to_the_denser_one():
    """Sign shares (1/3, 0, 2/3) of two rows lie exactly between those of four others on either side."""
    signs = np.array([[1, -1, -1], [0, 0, 0], [1, 1, -1], [-1, -1, -1]], np.float32)[
        [0, 0, 1, 1] + [2, 3] * 4
    ]
    points = reference_sign_features(signs, 0, 3)
    bandwidth = reference_bandwidth_of(points, 0.5)
    labels = np.asarray(mean_shift(jnp.float32(points), np.ones(12, bool), jnp.float32(bandwidth)).labels)
    np.testing.assert_array_equal(labels, reference_mean_shift(points, bandwidth))
    assert labels[0] == labels[1] == labels[4]


def test_mean_shift_of_many_points_in_several_steps():
    random = np.random.default_rng(0)
    # Points that share no grid cell: every one of the 300 is a seed, more than climb at once.
    points = np.concatenate([random.random((200, 3)), 3 + 0.5 * random.random((100, 3))]).astype(np.float32)
    expected = MeanShift(bandwidth=0.11, bin_seeding=True, cluster_all=False).fit(points)
    found = mean_shift(points, np.ones(300, bool), jnp.float32(0.11))
    agreed = np.mean(np.asarray(found.labels) == expected.labels_)
    assert agreed == 1.0
    assert len(expected.cluster_centers_) > 100


def test_identical_points_are_one_cluster():
    points = jnp.full((7, 3), 1 / 3)
    bandwidth = bandwidth_of(points, jnp.arange(7) != 2, 0.5)
    assert largest_cluster(points, jnp.arange(7) != 2, bandwidth).tolist() == [i != 2 for i in range(7)]
    assert not largest_cluster(points, jnp.zeros(7, bool), bandwidth).any()


@pytest.mark.parametrize("seed", range(6))
def test_sign_guard_equals_the_published_recipe(seed):
    """Signs, bandwidth and clusters by scikit-learn, 40 rows of which 10 are hostile."""
    random = np.random.default_rng(seed)
    rows = (0.4 + random.normal(size=(40, 300))).astype(np.float32)
    rows[:5] *= -1
    rows[5:8] *= 20
    rows[8:10] *= 0.01
    d, size = 300, 30
    key = jax.random.key(seed)
    start = int(jax.random.randint(jax.random.split(key)[0], (), 0, d - size + 1, np.int32))
    window = rows[:, start : start + size]
    features = np.stack([(np.sign(window) == s).mean(1) for s in (1, 0, -1)], axis=1)
    features = features / (features.max(0) + 1e-8)
    bandwidth = estimate_bandwidth(features, quantile=0.5, n_samples=50) * (1 + 1e-5)
    labels = MeanShift(bandwidth=bandwidth, bin_seeding=True, cluster_all=False).fit(features).labels_
    norms = np.linalg.norm(rows, axis=1)
    median = np.median(norms)
    usual = (norms > 0.1 * median) & (norms < 3 * median)
    inside = usual & (labels == np.argmax(np.bincount(labels[labels >= 0])))
    assert selected("sign_guard", rows, key) == np.flatnonzero(inside).tolist()
    assert not inside[5:10].any()
    assert inside[10:].sum() > 15
    clipped = rows[inside] * np.minimum(1, median / norms[inside])[:, None]
    np.testing.assert_allclose(guarded(rows, key), clipped.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("similarity", ["none", "cosine", "distance"])
def test_non_finite_rows_are_as_if_absent(similarity):
    rows = make(n=9)[0]
    more = np.insert(rows, [0, 3, 3, 8, 9], 0.0, axis=0)
    more[0], more[4, 2], more[5, 36], more[11], more[13] = np.nan, np.inf, -np.inf, np.nan, 3e38
    hyper = {"coordinate_fraction": 0.4, "similarity": similarity}
    np.testing.assert_allclose(guarded(more, KEY, **hyper), guarded(rows, KEY, **hyper), rtol=1e-5, atol=1e-6)


def test_no_row_selected_is_no_update():
    zeros = np.zeros((6, 10), np.float32)
    zeros[0] = 1.0
    for rows in (zeros, np.full((6, 10), np.nan, np.float32)):
        update, info = compiled("sign_guard")(rows, KEY)
        np.testing.assert_array_equal(update, np.zeros(10))
        assert not info["selected"].any()


def test_bounds_on_the_norm_are_strict():
    rows = np.outer([1.0, 1.0, 1.0, 2.0, 0.5], [1.0, 2.0, 2.0]).astype(np.float32)
    everything = {"coordinate_fraction": 1.0}
    assert selected("sign_guard", rows, KEY, lower=0.5, upper=2.0, **everything) == [0, 1, 2]
    assert selected("sign_guard", rows, KEY, lower=0.4, upper=2.1, **everything) == [0, 1, 2, 3, 4]
    # Longer rows count with the median length, shorter ones with their own.
    np.testing.assert_allclose(guarded(rows, KEY, **everything), [0.9, 1.8, 1.8], rtol=1e-6)


def test_the_key_draws_window_and_rows():
    random = np.random.default_rng(0)
    rows = random.normal(size=(120, 400)).astype(np.float32)
    chosen = {tuple(selected("sign_guard", rows, jax.random.key(seed))) for seed in range(4)}
    assert len(chosen) == 4
    assert selected("sign_guard", rows, KEY) == selected("sign_guard", rows, KEY)
    # One window only, and the bandwidth from 50 of the 120 rows.
    whole = {
        tuple(selected("sign_guard", rows, jax.random.key(seed), coordinate_fraction=1.0))
        for seed in range(8)
    }
    assert len(whole) > 1


def test_sign_guard_of_many_rows_sorts_out_the_hostile_ones():
    random = np.random.default_rng(0)
    rows = (0.3 + random.normal(size=(1000, 500))).astype(np.float32)
    rows[:300] *= -1
    rows[300:400] = np.nan
    chosen = np.array(selected("sign_guard", rows, KEY, coordinate_fraction=0.5))
    assert (chosen >= 400).all()
    assert len(chosen) > 500


# --- FoolsGold ----------------------------------------------------------------------------------------


def clients(seed=0, honest=6, sybils=4, d=60):
    random = np.random.default_rng(seed)
    target = random.normal(size=d)
    rows = np.concatenate(
        [
            random.normal(size=(honest, d)) + 0.3 * random.normal(size=d),
            np.linspace(0.1, 9, sybils)[:, None] * target,
        ]
    )
    return rows.astype(np.float32)


@pytest.mark.parametrize("d", [60, 20_000])
def test_parallel_sybils_have_no_weight(d):
    weights = np.asarray(foolsgold(clients(d=d)))
    np.testing.assert_array_equal(weights[6:], 0.0)
    assert (weights[:6] > 0.5).all()


def test_similar_sybils_have_little_weight_but_a_lone_attacker_has_all():
    rows = clients(sybils=5)
    rows[6:] += 0.05 * np.random.default_rng(1).normal(size=(5, 60))
    weights = np.asarray(foolsgold(rows))
    assert weights[6:].max() < 0.1
    alone = np.asarray(foolsgold(rows[:7]))
    assert alone[6] == 1.0


def test_weights_of_many_clients():
    random = np.random.default_rng(0)
    groups = random.normal(size=(20, 200))[random.integers(0, 20, 150)]
    rows = (groups + random.uniform(0.2, 1.0, (150, 1)) * random.normal(size=(150, 200))).astype(np.float32)
    expected = reference_foolsgold(rows)
    assert ((expected > 0) & (expected < 1)).sum() > 20
    np.testing.assert_allclose(foolsgold(rows), expected, rtol=1e-4, atol=1e-5)


def test_weights_by_hand():
    # Cosines 1 between the first two, 8/(5√5) between them and the third: pardoned to its square.
    sums = np.array([[3.0, 4.0, 0.0], [3.0, 4.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, -2.0]], np.float32)
    share = 1 - 64 / 125
    expected = np.log(share / (1 - share)) + 0.5
    np.testing.assert_allclose(foolsgold(sums), [0, 0, expected, 1], rtol=1e-5)
    np.testing.assert_allclose(foolsgold(sums, confidence=0.5), [0, 0, expected / 2, 1], rtol=1e-5)
    np.testing.assert_allclose(foolsgold(sums, confidence=9.0), [0, 0, 1, 1], rtol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 12])
def test_clients_all_alike_are_not_believed(n):
    rows = np.outer(np.arange(1, n + 1), make()[0][0]).astype(np.float32)
    np.testing.assert_array_equal(foolsgold(rows), np.zeros(n))
    for normalize in ("clients", "weights", "none"):
        np.testing.assert_array_equal(foolsgold_mean(rows, rows, normalize=normalize), np.zeros(37))
    assert foolsgold(rows[:1]).tolist() == [1.0]


def test_only_directions_of_the_history_count():
    rows = make(uneven=True)[0]
    lengths = np.float32(10.0) ** np.linspace(-30, 30, 12).astype(np.float32)
    np.testing.assert_allclose(foolsgold(rows * lengths[:, None]), foolsgold(rows), rtol=1e-4, atol=1e-5)
    exact = [[reference_cosine(a, b) for b in rows.astype(float)] for a in rows.astype(float)]
    np.testing.assert_allclose(pairwise_cosines(rows * lengths[:, None]).cosines, exact, atol=2e-6)


def test_a_non_finite_or_zero_history():
    rows = make(uneven=True)[0]
    rows[2, 5], rows[7], rows[9] = np.nan, np.inf, 0.0
    weights = np.asarray(foolsgold(rows))
    np.testing.assert_allclose(weights, reference_foolsgold(rows), rtol=1e-4, atol=1e-5)
    assert weights[2] == weights[7] == 0.0
    assert weights[9] == 1.0


def test_a_non_finite_update_does_not_set_the_scale():
    rows = clients()
    rows[0] = np.eye(60)[0]
    updates = rows.copy()
    weights = np.asarray(jitted(RULES["foolsgold"].function.explained)(updates, rows)[1]["weights"])
    updates[0, 3] = np.nan
    without = np.asarray(jitted(RULES["foolsgold"].function.explained)(updates, rows)[1]["weights"])
    np.testing.assert_allclose(weights, foolsgold(rows), rtol=1e-5)
    assert without[0] == 0.0
    assert without[1:6].max() == 1.0
    np.testing.assert_allclose(without, reference_foolsgold(rows, present=range(1, 10)), rtol=1e-4, atol=1e-5)


def rounds(seed, num_clients, cohort, count=6, d=20):
    random = np.random.default_rng(seed)
    centers = random.normal(size=(num_clients, d))
    for t in range(count):
        ids = random.choice(num_clients, cohort, replace=False)
        updates = (centers[ids] + random.normal(size=(cohort, d))).astype(np.float32)
        if t in (2, 3):
            updates[1, t] = np.nan
            updates[0] = np.inf if t == 2 else updates[0]
        yield ids.astype(np.int32), updates


@pytest.mark.parametrize(("num_clients", "cohort"), [(12, 5), (7, 7), (9, 1)])
@pytest.mark.parametrize("normalize", ["clients", "weights"])
def test_rounds_with_sampled_cohorts(num_clients, cohort, normalize):
    played = list(rounds(0, num_clients, cohort)) if cohort > 1 else list(rounds(0, num_clients, 2))
    cohort = max(cohort, 2)
    rule = from_registry(RULES, "foolsgold", normalize=normalize)

    @jax.jit
    def play(ids, updates):
        def step(state, given):
            update, state, info = rule.aggregate(given[1], state, Context(client_ids=given[0]))
            return state, (update, info["weights"])

        return jax.lax.scan(step, rule.init(num_clients, 20), (ids, updates))

    history, (results, weights) = play(*(np.stack(arrays) for arrays in zip(*played, strict=True)))
    expected, expected_history = reference_foolsgold_rounds(played, num_clients, normalize=normalize)
    np.testing.assert_allclose(history, expected_history, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(results, expected, rtol=2e-4, atol=1e-5)
    assert weights.shape == (6, cohort)
    assert weights[2, 0] == weights[2, 1] == weights[3, 1] == 0.0


def test_everybody_in_order_needs_no_ids():
    rule = foolsgold_aggregator()
    aggregate = jax.jit(rule.aggregate)
    plain = given = shuffled = rule.init(8, 20)
    order = np.random.default_rng(0).permutation(8)
    for _, updates in rounds(1, 8, 8):
        plain_update, plain, _ = aggregate(updates, plain, Context())
        given_update, given, _ = aggregate(updates, given, Context(client_ids=jnp.arange(8)))
        moved, shuffled, info = aggregate(updates[order], shuffled, Context(client_ids=jnp.array(order)))
        np.testing.assert_allclose(given_update, plain_update, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(moved, plain_update, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shuffled, plain, rtol=1e-6)
        np.testing.assert_array_equal(given, plain)
        assert info["weights"].shape == (8,)


def test_a_history_that_overflows_ends_a_client():
    rule = foolsgold_aggregator()
    aggregate, state = jax.jit(rule.aggregate), rule.init(4, 20)
    rows = clients(honest=4, sybils=0, d=20)
    rows[1] = 3e38
    for _ in range(3):
        update, state, info = aggregate(rows, state, Context())
        assert np.isfinite(update).all()
    assert info["weights"][1] == 0.0
    others = foolsgold(rows[[0, 2, 3]])
    np.testing.assert_allclose(np.delete(info["weights"], 1), others, rtol=1e-4, atol=1e-5)


def test_behind_a_pre_aggregator_and_under_vmap():
    rule = chain(stateless_pre(clip, radius=1.0), foolsgold_aggregator())
    stacks = np.stack([updates for _, updates in rounds(2, 6, 6, count=3)])[:2]
    ids = jnp.arange(6)

    def one(updates):
        state = rule.init(6, 20)
        return rule.aggregate(updates, state, Context(client_ids=ids))[0]

    mapped = jax.jit(jax.vmap(one))(stacks)
    clipped = [clip(updates, radius=1.0) for updates in stacks]
    np.testing.assert_allclose(mapped, [foolsgold_mean(c, c) for c in clipped], rtol=1e-4, atol=1e-6)
    _, state, _ = jax.eval_shape(rule.aggregate, stacks[0], rule.init(6, 20), Context())
    assert jax.tree.structure(rule.init(6, 20)) == jax.tree.structure(state)


def test_half_precision_updates_keep_a_wide_history():
    rule = foolsgold_aggregator()
    rows = jnp.ones((3, 4), jnp.bfloat16)
    update, state, info = jax.eval_shape(rule.aggregate, rows, rule.init(3, 4), Context())
    assert (update.dtype, state.dtype, info["weights"].dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


def test_explanations_explain_the_update():
    updates, others = make(uneven=True)
    for name, arguments, hyper in (
        ("norm_filter", (), {"num_malicious": 4}),
        ("nearest_to_pivot", (), {"num_malicious": 4, "pivot": 3}),
    ):
        update, info = jitted(RULES[name].function.explained)(updates, *arguments, **hyper)
        assert info["selected"].sum() == 8
        np.testing.assert_allclose(update, mean(updates, info["selected"].astype(jnp.float32)), rtol=1e-5)
    update, info = jitted(RULES["foolsgold"].function.explained)(updates, others["history"])
    np.testing.assert_array_equal(info["weights"], foolsgold(others["history"]))
    np.testing.assert_allclose(update, info["weights"] @ updates / 12, rtol=1e-5, atol=1e-6)
