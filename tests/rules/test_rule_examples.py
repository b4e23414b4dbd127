"""Worked examples, cases by hand that separate published variants, ties, bounds and their messages."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    adaptive_clip,
    bucketing,
    bulyan,
    centered_clipping,
    geometric_median,
    krum,
    mean,
    mean_around_median,
    multi_krum,
    nnm,
    phocas,
    trimmed_mean,
)
from tests.rules.bulyan import bulyan_picks as reference_bulyan_picks
from tests.rules.case import make
from tests.rules.geometric_median import weiszfeld_weights as reference_weiszfeld_weights
from tests.support.programs import jitted

adaptive_clip, bucketing, bulyan, centered_clipping, krum = map(
    jitted, (adaptive_clip, bucketing, bulyan, centered_clipping, krum)
)
mean, mean_around_median, multi_krum, nnm, phocas, trimmed_mean = map(
    jitted, (mean, mean_around_median, multi_krum, nnm, phocas, trimmed_mean)
)

# Rows (1,2,3), (4,5,6), (7,8,9): the worked example of ByzFL's documentation.
WORKED = jnp.arange(1.0, 10.0).reshape(3, 3)
# Krum scores with f = 1 are 10, 5, 13, 52 and over 4000.
LINE = jnp.array([[0.0], [1.0], [3.0], [7.0], [50.0]])


def column(*values):
    return jnp.array(values, jnp.float32)[:, None]


def test_published_worked_example():
    three_steps = geometric_median(
        WORKED, start="zero", smoothing=0.1, smoothing_unit=1.0, max_iterations=3, tolerance=0.0
    )
    np.testing.assert_allclose(three_steps, [3.78788764, 4.78788764, 5.78788764], rtol=1e-6)
    np.testing.assert_allclose(
        adaptive_clip(WORKED, num_malicious=1), [*WORKED[:2], [4.41004009, 5.04004582, 5.67005155]], rtol=1e-6
    )
    mixed = [[2.5, 3.5, 4.5], [2.5, 3.5, 4.5], [5.5, 6.5, 7.5]]
    np.testing.assert_array_equal(nnm(WORKED, num_malicious=1), mixed)
    np.testing.assert_array_equal(multi_krum(WORKED, num_malicious=0), [4.0, 5.0, 6.0])


def test_geometric_median_of_the_worked_example_converges_to_the_middle_row():
    for start in ("mean", "zero", "median"):
        np.testing.assert_allclose(geometric_median(WORKED, start=start), [4.0, 5.0, 6.0], atol=1e-4)


def test_values_near_the_median_or_the_trimmed_mean_by_hand():
    rows = column(0, 1, 2, 10, 100)
    # Median 2: the three nearest are 2, 1, 0.
    np.testing.assert_allclose(mean_around_median(rows, num_malicious=2), [1.0])
    # Trimmed mean 13/3: the four nearest are 2, 1, 0 and 10.
    np.testing.assert_allclose(phocas(rows, trim=1), [3.25])
    np.testing.assert_allclose(mean_around_median(rows, num_malicious=1), [3.25])
    np.testing.assert_allclose(trimmed_mean(rows, trim=1), [13 / 3], rtol=1e-6)
    # Median 2 and trimmed mean 4.
    apart = column(-20, -1, 2, 8, 20, 30, 2)
    np.testing.assert_allclose(trimmed_mean(apart, trim=2), [4.0])
    np.testing.assert_allclose(mean_around_median(apart, num_malicious=3), [(2 + 2 - 1 + 8) / 4])
    np.testing.assert_allclose(phocas(apart, trim=2), [(2 + 2 + 8 - 1 + 20) / 5], rtol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_of_two_values_as_near_the_smaller_counts(traced):
    def call(rule, rows, name, value):
        if traced:
            return jax.jit(lambda given: rule(rows, **{name: given}))(value)
        return rule(rows, **{name: value})

    np.testing.assert_allclose(call(mean_around_median, column(0, 4, 8), "num_malicious", 1), [2.0])
    np.testing.assert_allclose(call(mean_around_median, column(8, 4, 0), "num_malicious", 1), [2.0])
    np.testing.assert_allclose(call(mean_around_median, column(6, 4, 0, 2), "num_malicious", 1), [2.0])
    np.testing.assert_allclose(call(phocas, column(0, 4, 8), "trim", 1), [2.0])


def test_multi_krum_by_hand():
    np.testing.assert_allclose(multi_krum(LINE, num_malicious=1), [11 / 4])
    np.testing.assert_allclose(multi_krum(LINE, num_malicious=1, num_selected=2), [0.5])
    np.testing.assert_allclose(multi_krum(LINE, num_malicious=1, num_selected=3), [4 / 3], rtol=1e-6)
    np.testing.assert_array_equal(
        multi_krum(LINE, num_malicious=1, num_selected=1), krum(LINE, num_malicious=1)
    )


def test_ties_go_to_the_lowest_rows():
    # All scores are equal: the first n − f rows.
    corners = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(
        multi_krum(corners, num_malicious=1, strict=False), corners[:3].mean(0), rtol=1e-6
    )
    np.testing.assert_allclose(
        multi_krum(corners[::-1], num_malicious=1, strict=False), corners[1:].mean(0), rtol=1e-6
    )
    # The middle row is as far from both others.
    np.testing.assert_allclose(nnm(column(-1, 0, 1), num_malicious=1), column(-0.5, -0.5, 0.5))
    np.testing.assert_allclose(nnm(column(1, 0, -1), num_malicious=1), column(0.5, 0.5, -0.5))
    # ARC with f = 1 of 4 clips the first of ⌊1.5⌋ = 1 longest rows to the length of the next: equal lengths.
    same = jnp.array([[3.0, 4.0], [-3.0, 4.0], [5.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(adaptive_clip(same, num_malicious=1), same)


def test_bulyan_by_hand():
    rows = column(0, 1, 2, 3, 4, 5, 90)
    # Four neighbours: 2 scores 4 + 1 + 1 + 4 like 3, and goes first. Then three of 0, 1, 3, 4, 5, 90: 3 with
    # 1 + 4 + 4. Then two of 0, 1, 4, 5, 90: 1 with 1 + 9 like 4. Then one of 0, 4, 5, 90: 4 and 5 with 1, and
    # 4 is the nearer to 0. Then one of 0, 5, 90: 0 and 5 with 25, and 5 is the nearer to 90.
    assert reference_bulyan_picks(rows, 1) == [2, 3, 1, 4, 5]
    # The picks' median is 3, the three values nearest it 2, 3 and 4.
    np.testing.assert_allclose(bulyan(rows, num_malicious=1), [3.0])
    # Without malicious rows everybody is picked and averaged.
    updates, _ = make()
    np.testing.assert_allclose(bulyan(updates, num_malicious=0), mean(updates), rtol=1e-5, atol=1e-6)


def test_centered_clipping_by_hand():
    rows = jnp.array([[3.0, 4.0], [0.0, 1.0], [-6.0, -8.0], [0.0, 0.0]])
    # Lengths 5, 1, 10 and 0 from the centre, clipped to 5: (3 + 0 − 3 + 0, 4 + 1 − 4 + 0) / 4.
    np.testing.assert_allclose(centered_clipping(rows, jnp.zeros(2), radius=5.0), [0.0, 0.25], atol=1e-7)
    # A row at the centre moves nothing and divides nothing by zero; a radius beyond all rows gives the mean.
    np.testing.assert_array_equal(centered_clipping(rows[3:], rows[3], radius=1.0), rows[3])
    np.testing.assert_allclose(centered_clipping(rows, rows[0], radius=100.0), mean(rows), atol=1e-6)
    one_by_one = centered_clipping(rows, jnp.ones(2), radius=2.0)
    for _ in range(6):
        one_by_one = centered_clipping(rows, one_by_one, radius=2.0)
    np.testing.assert_allclose(
        centered_clipping(rows, jnp.ones(2), radius=2.0, num_iterations=7), one_by_one, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("traced", [False, True])
def test_the_place_of_a_row_decides_nothing(traced):
    orders = np.array(list(itertools.permutations(range(7))))
    column = np.float32([90, 0, 1.1, 2.3, 3.2, 4.7, 5.9])

    def of_order(order, f):
        rows = jnp.asarray(column)[order][:, None]
        update, info = RULES["bulyan"].function.explained(rows, num_malicious=f if traced else 1)
        told = {"num_malicious": f if traced else 1, "num_neighbors": f if traced else 1}
        chosen = RULES["krum"].function(rows, **told)
        pair = RULES["multi_krum"].function(rows, num_selected=1, **told)
        return update[0], jnp.zeros(7, bool).at[order].set(info["selected"]), chosen[0], pair[0]

    updates, selected, chosen, pair = jax.jit(jax.vmap(of_order, (0, None)))(orders, 1)
    assert not selected[:, 0].any()
    # The last picks: 4.7 of the pair 4.7, 5.9, because it is the nearer to 0; then 5.9, the nearer to 90.
    np.testing.assert_array_equal(selected, np.tile(selected[:1], (len(orders), 1)))
    np.testing.assert_array_equal(selected[0], [False, False, *[True] * 5])
    np.testing.assert_allclose(updates, np.mean([2.3, 3.2, 4.7]), rtol=1e-6)
    # One neighbour: 2.3 and 3.2 are the nearest pair, and 2.3 is the nearer to another row.
    np.testing.assert_array_equal(chosen, np.float32(2.3))
    np.testing.assert_array_equal(pair, np.float32(2.3))


@pytest.mark.parametrize(
    ("n", "size", "sizes"), [(12, 5, [5, 5, 2]), (12, 4, [4] * 3), (7, 7, [7]), (5, 1, [1] * 5)]
)
def test_buckets(n, size, sizes):
    # Rows of the identity show who is in which bucket.
    buckets = np.asarray(bucketing(jnp.eye(n), jax.random.key(0), bucket_size=size))
    assert (buckets > 0).sum(1).tolist() == sizes
    np.testing.assert_allclose(buckets.sum(1), 1.0, rtol=1e-6)
    assert ((buckets > 0).sum(0) == 1).all()


def test_buckets_are_drawn_afresh_and_evenly():
    keys = jax.random.split(jax.random.key(0), 300)
    buckets = jax.jit(jax.vmap(lambda key: bucketing(jnp.eye(6), key, bucket_size=2)))(keys)
    members = np.asarray(buckets > 0).astype(float)
    together = np.einsum("kbi,kbj->ij", members, members)
    pairs = together[~np.eye(6, dtype=bool)] / 300
    # A pair shares a bucket with probability 1/5; five standard deviations.
    assert np.abs(pairs - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 300)


def median_problems():
    random = np.random.default_rng(0)
    cloud = random.normal(size=(9, 4))
    star = np.concatenate([np.zeros((1, 4)), cloud[:4], -cloud[:4]])
    return {
        "cloud": (cloud, None),
        "weights": (cloud, random.uniform(1, 5, 9)),
        "one row has most of the weight": (cloud, np.array([20.0, *np.ones(8)])),
        "optimum at a row in the middle": (star, None),
        "five of nine are copies": (np.concatenate([np.tile(cloud[:1], (5, 1)), cloud[1:5]]), None),
        "pairs of copies": (np.concatenate([cloud[:4], cloud[:4]]), None),
        "three on a line": (np.outer([0.0, 1.0, 10.0], cloud[0]), None),
        "four on a line": (np.outer([0.0, 1.0, 3.0, 10.0], cloud[0]), None),
        "one far away": (np.concatenate([cloud[:8], 1e6 * cloud[8:]]), None),
        "a zero weight": (cloud, np.array([0.0, *np.ones(8)])),
    }


@pytest.mark.parametrize("start", ["median", "mean", "zero"])
@pytest.mark.parametrize("problem", median_problems())
def test_geometric_median_is_optimal(problem, start):
    rows, weights = median_problems()[problem]
    with jax.enable_x64(True):
        point = geometric_median(
            jnp.asarray(rows), weights, start=start, tolerance=1e-9, max_iterations=100_000, smoothing=1e-6
        )
        assert point.dtype == jnp.float64
    point = np.asarray(point)
    weights = np.ones(len(rows)) if weights is None else weights
    lengths = np.linalg.norm(rows - point, axis=1)
    there = lengths <= 2e-6 * np.sort(lengths)[2 * len(rows) // 3]
    # Rows at the minimum hold it by their weight; the others' unit vectors do not pull harder.
    pull = (weights[~there] / lengths[~there]) @ (rows - point)[~there]
    assert np.linalg.norm(pull) <= weights[there].sum() + 1e-8 * weights.sum()
    # The smoothed optimum is within the smoothing of the true one where that is a row.
    at_row = {"one row has most of the weight": 0, "optimum at a row in the middle": 0, "three on a line": 1}
    if problem in at_row:
        np.testing.assert_allclose(point, rows[at_row[problem]], atol=2e-6)
    elif problem == "five of nine are copies":
        np.testing.assert_allclose(point, rows[0], atol=2e-6)


@pytest.mark.parametrize("problem", ["cloud", "weights", "pairs of copies", "one far away"])
def test_geometric_median_is_optimal_in_float32(problem):
    rows, weights = median_problems()[problem]
    rows = rows.astype(np.float32)
    weights = None if weights is None else weights.astype(np.float32)
    point = np.asarray(geometric_median(rows, weights, max_iterations=1000), np.float64)
    pull = reference_weiszfeld_weights(rows, point, weights) @ (rows - point)
    assert np.linalg.norm(pull) <= 3e-6 * (len(rows) if weights is None else weights.sum())


# Entry, hyper-parameter, and its largest value for n = 12 rows.
LARGEST = [
    ("trimmed_mean", "trim", 5),
    ("winsorized_mean", "trim", 5),
    ("mean_around_median", "num_malicious", 5),
    ("phocas", "trim", 5),
    ("krum", "num_malicious", 4),
    ("multi_krum", "num_malicious", 4),
    ("bulyan", "num_malicious", 2),
    ("faba", "num_malicious", 5),
    ("gas", "num_malicious", 5),
    ("aksel", "num_malicious", 5),
    ("foundation", "num_malicious", 5),
    ("norm_filter", "num_malicious", 5),
    ("nearest_to_pivot", "num_malicious", 5),
    ("minimum_diameter", "num_malicious", 5),
    ("smallest_spectrum", "num_malicious", 5),
    ("covariance_filter", "num_malicious", 5),
    ("divide_and_conquer", "num_malicious", 5),
    ("spectral_filter", "num_malicious", 5),
    ("zeno", "num_malicious", 11),
    ("adaptive_clip", "num_malicious", 5),
    ("nnm", "num_malicious", 5),
]


# What else they need.
REQUIRED = {"spectral_filter": {"sigma": 1.9}, "gas": {"rule": "trimmed_mean"}}
ARRAYS = {"divide_and_conquer": ["key"], "gas": ["key"], "zeno": ["params", "root_loss"]}


def test_every_bound_is_in_the_table():
    bounded = {
        name
        for name, rule in {**RULES, **PRE_AGGREGATORS}.items()
        if {"num_malicious", "trim"} & set(inspect.signature(rule.function).parameters)
    }
    assert bounded == {name for name, _, _ in LARGEST}


@pytest.mark.parametrize(("name", "hyper", "largest"), LARGEST)
def test_bounds(name, hyper, largest):
    rule = {**RULES, **PRE_AGGREGATORS}[name].function
    updates, others = make()
    arrays = [others[array] for array in ARRAYS.get(name, [])]

    def call(value):
        return rule(updates, *arrays, **REQUIRED.get(name, {}), **{hyper: value})

    with pytest.raises(ValueError, match=rf"^{name}: {hyper}={largest + 1} needs .*, got n=12$"):
        call(largest + 1)
    for value in (-1, 1.5, True):
        with pytest.raises(
            ValueError, match=rf"^{name}: {hyper}={value} must be a whole number of at least 0$"
        ):
            call(value)
    # Traced, the same values are clamped, as the docstrings say.
    traced = jax.jit(call)
    for given, meant in ((largest + 1, largest), (100, largest), (-1, 0), (0, 0), (largest, largest)):
        np.testing.assert_allclose(traced(given), call(meant), rtol=1e-5, atol=1e-5, err_msg=f"{given}")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: multi_krum(jnp.ones((2, 2)), num_malicious=0), "multi_krum: needs at least 3 rows, got n=2"),
        (
            lambda: multi_krum(jnp.ones((5, 2)), num_malicious=1, num_selected=6),
            "multi_krum: num_selected=6 needs .*, got n=5",
        ),
        (
            lambda: multi_krum(jnp.ones((5, 2)), num_malicious=1, num_selected=0),
            "multi_krum: num_selected=0 must be a whole number of at least 1",
        ),
        (
            lambda: bulyan(jnp.ones((10, 2)), num_malicious=2),
            "bulyan: num_malicious=2 needs n > 10 rows \\(n > 8 with strict=False\\), got n=10",
        ),
        (lambda: bulyan(jnp.ones((2, 2)), num_malicious=0), "bulyan: .*, got n=2"),
        (
            lambda: nnm(jnp.ones((8, 2)), num_malicious=4),
            "nnm: num_malicious=4 needs n > 8 rows \\(n > 4 with strict=False\\), got n=8",
        ),
        (
            lambda: adaptive_clip(jnp.ones((8, 2)), num_malicious=4),
            "adaptive_clip: num_malicious=4 needs n > 8 rows, got n=8",
        ),
        (lambda: phocas(jnp.ones((8, 2)), trim=4), "phocas: trim=4 needs n > 8 rows, got n=8"),
        (
            lambda: mean_around_median(jnp.ones((8, 2)), num_malicious=4),
            "mean_around_median: num_malicious=4 needs n > 8 rows .*, got n=8",
        ),
        (
            lambda: bucketing(jnp.ones((8, 2)), jax.random.key(0), bucket_size=9),
            "bucketing: bucket_size=9 must be a whole number from 1 to 8",
        ),
        (lambda: bucketing(jnp.ones((8, 2)), jax.random.key(0), bucket_size=0), "bucketing: bucket_size=0 "),
        (
            lambda: geometric_median(jnp.ones((5, 2)), jnp.ones(4)),
            r"geometric_median: weights must be \(5,\)",
        ),
        (lambda: geometric_median(jnp.ones((5, 2)), smoothing=-1.0), "geometric_median: smoothing=-1.0"),
        (
            lambda: geometric_median(jnp.ones((5, 2)), smoothing_unit=-1.0),
            "geometric_median: smoothing_unit=-1.0",
        ),
        (lambda: geometric_median(jnp.ones((5, 2)), start="row"), "geometric_median: start='row'"),
        (
            lambda: centered_clipping(jnp.ones((5, 2)), jnp.ones(3), radius=1.0),
            r"centered_clipping: center must be \(2,\)",
        ),
        (
            lambda: centered_clipping(jnp.ones((5, 2)), jnp.ones(2), radius=0.0),
            "centered_clipping: radius=0.0",
        ),
        (
            lambda: centered_clipping(jnp.ones((5, 2)), jnp.ones(2), radius=1.0, num_iterations=0),
            "centered_clipping: num_iterations=0",
        ),
    ],
)
def test_errors_name_rule_and_numbers(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", sorted({**RULES, **PRE_AGGREGATORS}))
def test_every_rule_says_that_it_takes_a_matrix(name):
    function = {**RULES, **PRE_AGGREGATORS}[name].function
    title = "foolsgold" if name == "foolsgold" else function.__name__
    others = {
        **make()[1],
        "sigma": 1.0,
        "bound": 1.0,
        "step": 1.0,
        "num_sent": 1,
        "std": 1.0,
        "trim": 1,
        "num_malicious": 1,
        "radius": 1.0,
        "bucket_size": 2,
        "threshold": 1,
    }
    parameters = list(inspect.signature(function).parameters.values())[1:]
    arrays = [
        others[p.name] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty
    ]
    hyper = {p.name: others[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    for wrong in (jnp.ones(5), jnp.ones((0, 37)), jnp.ones((2, 3, 4))):
        with pytest.raises(ValueError, match=rf"^{title}: updates must be \(n, d\)"):
            function(wrong, *arrays, **hyper)
