"""Clusters of rows: the tools against scikit-learn, and the rules that use them on numbers worked by hand."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import RULES, Context, from_registry
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.eigen import principal_scores
from fljax.numerics.hdbscan import hdbscan
from fljax.numerics.k_means import (
    clusters_of_numbers,
    k_means,
    k_means_of_points,
    number_of_clusters,
    number_of_point_clusters,
    upper_of_two,
)
from fljax.numerics.linkage import bottlenecks, largest_label, majority_component, two_clusters
from fljax.numerics.masked import masked_median, mz_scores
from fljax.numerics.order_statistics import top_of_rows
from fljax.numerics.quasi_newton import hessian_product
from tests.rules.clustering import clipped_clustering as reference_clipped_clustering
from tests.rules.flame import cosine_distances as reference_distances
from tests.rules.flame import majority as reference_majority
from tests.rules.multi_metrics import multi_metrics as reference_multi_metrics
from tests.rules.rflbat import gap_statistic, lloyd
from tests.rules.rounding import wide

# Five honest rows and a hostile one, a global model, and an update of the server's own.
A = np.array(
    [
        [1.0, 0.5, -0.2, 0.3],
        [0.8, 0.6, -0.1, 0.4],
        [1.1, 0.4, -0.3, 0.1],
        [0.9, 0.7, 0.1, 0.2],
        [1.2, 0.3, -0.2, 0.5],
        [-3.0, 2.0, 4.0, -1.0],
    ],
    np.float32,
)
W = np.array([0.5, -0.5, 0.25, 1.0], np.float32)


@lru_cache
def compiled(function, **static):
    return jax.jit(lambda *arrays: function(*arrays, **static))


def explained(rule, *arrays, **hyper):
    update, info = compiled(RULES[rule].function.explained, **hyper)(*arrays)
    return np.asarray(update), (np.flatnonzero(info["selected"]) + 1).tolist()


def every(rows):
    return np.ones(len(rows), bool)


def as_lowest(labels):
    """Labels of any kind as the lowest point of each cluster."""
    labels = np.asarray(labels)
    return [int(np.flatnonzero(labels == label)[0]) if label >= 0 else -1 for label in labels]


# --- the rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "arrays", "hyper", "kept", "expected"),
    [
        # Sums of distances over their median: .946452, .950707, 1.028737, .971263, 1.057893, 3.973574.
        (
            "rflbat",
            (),
            {"first_limit": 4.0, "num_clusters": 1},
            [1, 2, 3, 4, 5, 6],
            [1 / 3, 0.75, 0.55, 1 / 12],
        ),
        ("rflbat", (), {"first_limit": 3.0, "num_clusters": 1}, [1, 2, 3, 4, 5], [1.0, 0.5, -0.14, 0.3]),
        ("flame", (W,), {"noise_multiplier": 0.0}, [1, 2, 3, 5], [0.986148, 0.439801, -0.193071, 0.310204]),
        (
            "flame",
            (W,),
            {"noise_multiplier": 0.0, "on": "updates"},
            [1, 2, 3, 5],
            [0.986148, 0.439801, -0.193071, 0.310204],
        ),
        ("clipped_clustering", (), {}, [1, 2, 3, 4, 5], [0.968918, 0.491841, -0.134457, 0.288163]),
        (
            "clipped_clustering",
            (),
            {"linkage": "single"},
            [1, 2, 3, 4, 5],
            [0.968918, 0.491841, -0.134457, 0.288163],
        ),
        ("clustering", (), {}, [1, 2, 3, 4, 5], [1.0, 0.5, -0.14, 0.3]),
        ("multi_metrics", (), {"share": 0.5}, [1, 2, 3], [0.966667, 0.5, -0.2, 0.266667]),
        ("alignins", (W,), {"sparsity": 0.5}, [1, 2, 3, 4, 5], [0.962144, 0.489759, -0.132965, 0.286455]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_worked_numbers(rule, arrays, hyper, kept, expected):
    update, selected = explained(rule, A, *arrays, **hyper)
    assert selected == kept
    np.testing.assert_allclose(update, expected, atol=2e-6)


def test_clipped_clustering_remembers_norms_of_sampled_cohorts():
    rule = from_registry(RULES, "clipped_clustering", num_rounds=3)
    aggregate = jax.jit(rule.aggregate)
    state, random, past = rule.init(9, 4), np.random.default_rng(0), []
    for number in range(5):
        rows = A * random.uniform(0.2, 3.0, (6, 1)).astype(np.float32)
        if number == 1:
            rows[2, 0] = np.nan
        ids = jnp.asarray(random.permutation(9)[:6])
        update, state, _ = aggregate(rows, state, Context(client_ids=ids))
        # The norms of the last three rounds, this one among them.
        expected = reference_clipped_clustering(rows, [norm for norms in past[-2:] for norm in norms])
        np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-6)
        past.append([norm for norm in np.linalg.norm(rows, axis=1) if np.isfinite(norm)])


def test_multi_metrics_of_wide_rows():
    random = np.random.default_rng(9)
    rows = (random.uniform(0.5, 2.0, (7, 1)) * random.normal(size=(7, 3000))).astype(np.float32)
    update = compiled(RULES["multi_metrics"].function, share=0.5)(rows)
    np.testing.assert_allclose(update, reference_multi_metrics(rows, share=0.5), rtol=1e-5, atol=1e-6)


def test_flame_draws_noise_in_proportion_to_the_median_norm():
    update = compiled(RULES["flame"].function, noise_multiplier=0.5)
    rows = np.repeat(A, 2000, axis=1)
    params = np.repeat(W, 2000)
    noisy = np.asarray(update(rows, params, jax.random.key(3)))
    quiet = np.asarray(compiled(RULES["flame"].function, noise_multiplier=0.0)(rows, params))
    expected = 0.5 * np.median(np.linalg.norm(rows, axis=1))
    np.testing.assert_allclose(np.std(noisy - quiet), expected, rtol=0.05)
    assert abs(np.mean(noisy - quiet)) < 0.05 * expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RULES["flame"].function(A), "^flame: noise_multiplier=0.001 needs a key$"),
        (lambda: RULES["flame"].function(A, noise_multiplier=0.0), '^flame: on="models" needs params'),
        (lambda: RULES["flame"].function(A, W, on="both"), "^flame: on='both' must be \"models\" or"),
        (lambda: RULES["alignins"].function(A, W, sparsity=0.0), "^alignins: sparsity=0.0 must be"),
        (
            lambda: RULES["alignins"].function(A, W[:3]),
            r"^alignins: params must be \(4,\), got shape \(3,\)$",
        ),
        (lambda: RULES["multi_metrics"].function(A, share=0.0), "^multi_metrics: share=0.0 must be"),
        (lambda: RULES["multi_metrics"].function(A, on="models"), '^multi_metrics: on="models" needs params'),
        (lambda: RULES["clustering"].function(A, linkage="ward"), "^clustering: linkage='ward' must be"),
        (
            lambda: from_registry(RULES, "clipped_clustering", num_rounds=0),
            "^clipped_clustering: num_rounds=0 must be a whole number of at least 1$",
        ),
    ],
)
def test_arguments_out_of_range_are_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the tools ------------------------------------------------------------------------------------------


def test_majority_component_is_the_first_that_holds_a_majority():
    angles = np.radians([0, 4, 9, 15, 22, 80, 84, 89])
    distances = compiled(cosine_distances)(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    assert np.flatnonzero(compiled(majority_component)(distances, every(angles))).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(np.sort(bottlenecks(distances), 1)[0, 4], 1 - np.cos(np.radians(7)), rtol=1e-5)


def test_majority_component_is_what_hdbscan_finds():
    random = np.random.default_rng(0)
    found = compiled(majority_component)
    general = compiled(hdbscan, min_cluster_size=6, min_samples=1, allow_single_cluster=True)
    for _ in range(20):
        # Whole numbers: many ties and copies.
        points = random.integers(0, 6, (11, 2)).astype(np.float32)
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32)
        component = np.asarray(found(distances, every(points)))
        assert np.flatnonzero(component).tolist() == reference_majority(distances).tolist()
        np.testing.assert_array_equal(np.asarray(general(distances, every(points))) >= 0, component)


def test_bottlenecks_are_those_of_all_paths():
    random = np.random.default_rng(1)
    distances = random.uniform(1, 2, (9, 9)).astype(np.float32)
    distances = np.triu(distances, 1) + np.triu(distances, 1).T
    expected = distances
    for k in range(9):
        expected = np.minimum(expected, np.maximum(expected[:, k : k + 1], expected[k : k + 1]))
    np.testing.assert_array_equal(compiled(bottlenecks)(distances), expected)


ROWS = np.array([(1, 0), (0.9, 0.1), (0.8, -0.1), (-0.2, 1), (-0.1, 0.9), (0.5, 0.6)], np.float32)


@pytest.mark.parametrize(
    ("linkage", "expected"),
    [("average", [0, 0, 0, 3, 3, 3]), ("complete", [0, 0, 0, 3, 3, 3]), ("single", [0, 0, 0, 3, 3, 0])],
)
def test_two_clusters_are_those_of_scikit_learn(linkage, expected):
    cluster = pytest.importorskip("sklearn.cluster")
    found = compiled(two_clusters, linkage=linkage)
    assert found(compiled(cosine_distances)(ROWS), every(ROWS)).tolist() == expected
    random = np.random.default_rng(2)
    for _ in range(10):
        points = random.normal(size=(11, 3))
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32)
        valid = every(points)
        valid[[2, 5]] = False
        known = cluster.AgglomerativeClustering(2, metric="precomputed", linkage=linkage)
        labels = np.full(11, -1)
        labels[valid] = known.fit_predict(distances[valid][:, valid])
        assert found(distances, valid).tolist() == as_lowest(labels)
    assert largest_label(jnp.array([1, -1, 1, 3, 3, -1])).tolist() == [True, False, True, *[False] * 3]


LINE = np.array([0, 0.1, 0.25, 0.4, 3, 3.2, 3.3, 3.7, 9], np.float32)


@pytest.mark.parametrize(
    ("size", "samples", "single", "expected"),
    [
        (3, 2, False, [0, 0, 0, 0, 4, 4, 4, 4, -1]),
        (5, 5, False, [-1] * 9),
        (5, 5, True, [-1, -1, 2, 2, 2, 2, 2, -1, -1]),
    ],
)
def test_hdbscan_on_a_line(size, samples, single, expected):
    found = compiled(hdbscan, min_cluster_size=size, min_samples=samples, allow_single_cluster=single)
    distances = np.abs(LINE[:, None] - LINE)
    assert found(distances, every(LINE)).tolist() == expected
    # A point that does not count changes nothing.
    larger = np.zeros((10, 10), np.float32)
    larger[1:, 1:] = distances
    labels = found(larger, np.arange(10) > 0)
    assert labels.tolist() == [-1, *(label + 1 if label >= 0 else -1 for label in expected)]


# With more neighbours the largest of core distances ties, and the order in which NumPy sorts ties decides.
@pytest.mark.parametrize(("size", "samples", "single"), [(2, 1, False), (3, 1, True)])
def test_hdbscan_is_that_of_scikit_learn(size, samples, single):
    cluster = pytest.importorskip("sklearn.cluster")
    found = compiled(hdbscan, min_cluster_size=size, min_samples=samples, allow_single_cluster=single)
    random = np.random.default_rng(size)
    for _ in range(20):
        points = random.normal(size=(14, 2)) + random.integers(0, 3, (14, 1)) * random.uniform(0, 4)
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32)
        known = cluster.HDBSCAN(
            min_cluster_size=size,
            min_samples=samples + 1,  # the point itself counts there
            metric="precomputed",
            allow_single_cluster=single,
            copy=True,
        )
        assert found(distances, every(points)).tolist() == as_lowest(known.fit_predict(distances))


def test_k_means_finds_what_scikit_learn_does_and_keeps_empty_clusters():
    cluster = pytest.importorskip("sklearn.cluster")
    random = np.random.default_rng(3)
    for _ in range(5):
        points = random.normal(size=(20, 4)) + 6 * random.integers(0, 3, (20, 1))
        squares = np.square(points[:, None] - points[None]).sum(-1).astype(np.float32)
        known = cluster.KMeans(3, n_init=10, random_state=0).fit_predict(points)
        found = compiled(k_means, num_clusters=3)(squares, every(points))
        assert as_lowest(found) == as_lowest(known)
    alike = compiled(k_means, num_clusters=3)(np.zeros((20, 20), np.float32), np.arange(20) > 2)
    assert alike.tolist() == [-1] * 3 + [0] * 17


def best_cost(values, k):
    """The smallest sum of squares of k clusters, by trying all of them."""
    values = np.sort(np.asarray(values, np.float64))
    if k == 1:
        return np.square(values - values.mean()).sum()
    return min(
        best_cost(values[:cut], k - 1) + best_cost(values[cut:], 1) for cut in range(k - 1, len(values))
    )


def test_clusters_of_numbers_are_the_best_ones():
    random = np.random.default_rng(4)
    found = compiled(clusters_of_numbers, most=4)
    for _ in range(3):
        values = np.sort(random.uniform(size=9)).astype(np.float32)
        padded = np.r_[values, np.inf, np.inf].astype(np.float32)
        expected = [best_cost(values, k) for k in (1, 2, 3, 4)]
        np.testing.assert_allclose(found(padded, 9).sums, expected, rtol=1e-5)
    scores = np.array([0.10, 0.11, 0.09, 0.12, 0.10, 0.24, 0.24], np.float32)
    scaled = np.sort((scores - 0.09) / 0.15).astype(np.float32)
    np.testing.assert_allclose(found(scaled, 7).sums[:3], [1.197460, 0.023111, 0.005185], rtol=1e-3)
    assert np.flatnonzero(compiled(upper_of_two)(scores, every(scores))).tolist() == [5, 6]
    assert compiled(upper_of_two)(np.ones(4, np.float32), np.arange(4) < 3).tolist() == [True] * 3 + [False]


def test_gap_statistic_counts_clusters_of_numbers():
    found = compiled(number_of_clusters)
    random = np.random.default_rng(5)
    near = random.normal(size=40).astype(np.float32) * 0.01
    assert int(found(random.uniform(size=40).astype(np.float32), every(near))) == 1
    for clusters in (2, 3):
        # Of three equally spaced clusters two are no better than one.
        values = near + np.square(np.arange(40) % clusters)
        assert int(found(values.astype(np.float32), every(near))) == clusters
    # Numbers that do not count are not looked at.
    assert int(found(np.where(np.arange(40) < 20, near, np.nan), np.arange(40) < 20)) <= 2
    assert int(found(np.ones(40, np.float32), every(near))) == 1


def test_gap_statistic_counts_clusters_of_points():
    random = np.random.default_rng(1)
    corners = np.array([(0, 0), (9, 9), (0, 9), (9, 0), (4, 5)], np.float32)
    for count in (1, 2, 3, 4, 5):
        places = corners[np.arange(30) % count]
        points = (places + 0.3 * random.normal(size=(30, 2))).astype(np.float32)
        valid = np.arange(30) < 28
        points[~valid] = np.nan
        found = int(number_of_point_clusters(points, valid))
        assert found == gap_statistic(wide(points[valid]), 30)
        # Two clusters of four in a square are no better than one.
        assert found == (count if count < 4 else 1)
        labels, squares = k_means_of_points(points, valid, count, most=6)
        expected, sums = lloyd(wide(points[valid]), count)
        assert labels.tolist() == [*expected, -1, -1]
        np.testing.assert_allclose(squares, sums, rtol=1e-4)


def test_principal_scores_are_those_of_the_singular_vectors():
    rows = np.random.default_rng(6).normal(size=(9, 20))
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    centred = rows[1:] - rows[1:].mean(0)
    vectors, values, _ = np.linalg.svd(centred, full_matrices=False)
    scores = compiled(principal_scores, count=2)(squares.astype(np.float32), np.arange(9) > 0)
    np.testing.assert_allclose(np.abs(scores[1:]), np.abs(vectors * values)[:, :2], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(scores[0], 0)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_cosine_distances_of_models_keep_their_digits(size):
    random = np.random.default_rng(7)
    params = random.normal(size=2000).astype(np.float32)
    rows = (size * random.normal(size=(10, 2000))).astype(np.float32)
    expected = reference_distances(rows, np.asarray(params, np.float64))
    off = ~np.eye(10, dtype=bool)
    found = np.asarray(compiled(cosine_distances)(rows, params))
    np.testing.assert_allclose(found[off], expected[off], rtol=5e-6)
    # One row of another size: the careful path.
    rows[0] *= np.float32(1e-6)
    expected = reference_distances(rows, np.asarray(params, np.float64))
    found = np.asarray(compiled(cosine_distances)(rows, params))
    np.testing.assert_allclose(found[off], expected[off], rtol=5e-6)


@pytest.mark.parametrize("factor", [2.0**40, 2.0**-37])
def test_cosine_distances_of_models_of_any_size(factor):
    random = np.random.default_rng(8)
    rows, params = random.normal(size=(6, 30)).astype(np.float32), random.normal(size=30).astype(np.float32)
    expected = reference_distances(rows, wide(params))
    found = compiled(cosine_distances)(rows * np.float32(factor), params * np.float32(factor))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_cosine_distances_of_strange_rows():
    rows = np.array([[1, 0, 0], [-1, -2, -3], [0, 0, 0], [np.nan, 1, 1], [1e38] * 3, [-1e38] * 3], np.float32)
    params = np.array([1.0, 2.0, 3.0], np.float32)
    finite = [0, 1, 2, 4, 5]
    for origin in (params, np.zeros(3, np.float32)):
        found = np.asarray(compiled(cosine_distances)(rows, origin))
        expected = reference_distances(rows[finite], np.asarray(origin, np.float64))
        np.testing.assert_allclose(found[np.ix_(finite, finite)], expected, rtol=1e-5, atol=1e-7)
        assert np.isinf(np.delete(found[3], 3)).all()
        assert found[3, 3] == 0


def test_statistics_of_the_rows_that_count():
    values = np.array([4.0, 1.0, np.nan, 2.0, 9.0], np.float32)
    valid = np.isfinite(values)
    assert float(masked_median(values, valid)) == 3.0
    expected = np.abs(values[valid] - 3.0) / np.std(values[valid])
    np.testing.assert_allclose(np.asarray(mz_scores(values, valid))[valid], expected, rtol=1e-6)
    np.testing.assert_array_equal(mz_scores(np.full(4, 0.1, np.float32), np.arange(4) < 3), np.zeros(4))


def test_top_of_rows_takes_the_lowest_columns_of_ties():
    random = np.random.default_rng(8)
    for count in (1, 4, 11):
        rows = random.integers(-3, 4, (6, 11)).astype(np.float32)
        rows[0] = 0.0
        held = np.asarray(compiled(lambda rows, count: top_of_rows(rows, count).holds(rows))(rows, count))
        for row, found in zip(rows, held, strict=True):
            order = sorted(range(11), key=lambda k, row=row: (-abs(row[k]), k))
            assert np.flatnonzero(found).tolist() == sorted(order[:count])


def test_hessian_products_are_those_of_compact_l_bfgs():
    steps = np.array([[1.0, 0.0], [0.5, 1.0]], np.float32)
    changes = steps @ np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
    vector = np.array([1.0, -1.0], np.float32)
    found = compiled(hessian_product)
    product, fine = found(steps, changes, np.array([1, 0]), vector)
    assert fine
    np.testing.assert_allclose(product, [1.948968, -0.724484], rtol=1e-5)
    np.testing.assert_allclose(found(steps, -changes, np.array([1, 0]), vector)[0], -product, rtol=1e-5)
    np.testing.assert_allclose(found(steps, changes, np.array([1, 0]), steps[1])[0], changes[1], rtol=1e-5)
    # A ring that is not full, and begins anywhere.
    ring = np.stack([steps[1], np.full(2, 7.0), steps[0]]).astype(np.float32)
    changed = np.stack([changes[1], np.full(2, -3.0), changes[0]]).astype(np.float32)
    np.testing.assert_allclose(found(ring, changed, np.array([0, -1, 1]), vector)[0], product, rtol=1e-5)
    still, fine = found(0 * steps, changes, np.array([1, 0]), vector)
    assert not fine
    np.testing.assert_array_equal(still, 0)
