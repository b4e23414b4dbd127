"""What is particular to the spectral and subset rules: examples, ties, limits, searches, removed rows."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import (
    RULES,
    covariance_filter,
    divide_and_conquer,
    mean,
    minimum_diameter,
    smallest_spectrum,
)
from fljax.numerics.eigen import LARGEST_DENSE, exact_pair, iterative_pair
from fljax.numerics.subsets import binomials, random_coordinates, subsets_at
from fljax.numerics.vertex_cover import LARGEST_SEARCH, coverable, smallest_diameter
from tests.rules.case import RuleCase, make
from tests.rules.covariance_filter import covariance_filter as reference_covariance_filter
from tests.rules.covariance_filter import within_its_guarantee
from tests.rules.divide_and_conquer import divide_and_conquer as reference_divide_and_conquer
from tests.rules.divide_and_conquer import drawn_coordinates
from tests.rules.minimum_diameter import minimum_diameter as reference_minimum_diameter
from tests.rules.smallest_spectrum import smallest_spectrum as reference_smallest_spectrum
from tests.rules.table import RULE_CASES
from tests.support.programs import jitted

covariance_filter, divide_and_conquer, minimum_diameter, smallest_spectrum = map(
    jitted, (covariance_filter, divide_and_conquer, minimum_diameter, smallest_spectrum)
)
smallest_diameter = jitted(smallest_diameter)

# Rows (1,2,3), (4,5,6), (7,8,9): the worked example of ByzFL's documentation.
WORKED = jnp.arange(1.0, 10.0).reshape(3, 3)
REFERENCES = {case.name: case.reference for case in RULE_CASES}
KEY = jax.random.key(0)


def all_four(updates, num_malicious):
    return {
        "minimum_diameter": minimum_diameter(updates, num_malicious=num_malicious),
        "smallest_spectrum": smallest_spectrum(updates, num_malicious=num_malicious),
        "covariance_filter": covariance_filter(updates, num_malicious=num_malicious),
        "divide_and_conquer": divide_and_conquer(updates, KEY, num_malicious=num_malicious),
    }


def selected(rule, updates, *arrays, **hyper):
    return np.flatnonzero(
        jitted(RULES[rule].function.explained)(updates, *arrays, **hyper)[1]["selected"]
    ).tolist()


def test_the_published_example():
    results = all_four(WORKED, 1)
    np.testing.assert_allclose(results["minimum_diameter"], [2.5, 3.5, 4.5], rtol=1e-6)
    np.testing.assert_allclose(results["smallest_spectrum"], [2.5, 3.5, 4.5], rtol=1e-6)
    np.testing.assert_allclose(results["covariance_filter"], [4, 5, 6], rtol=1e-6)
    # The middle row has score 0; the outer ones tie, and the lower row stays.
    np.testing.assert_allclose(results["divide_and_conquer"], [2.5, 3.5, 4.5], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_without_malicious_rows_all_are_the_mean(n):
    updates, _ = make(n=n)
    for name, result in all_four(updates, 0).items():
        np.testing.assert_allclose(result, mean(updates), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(6))
def test_small_stacks_with_many_ties(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(3, 10))
    f = int(random.integers(1, (n - 1) // 2 + 1))
    rows = random.integers(0, 4, (n, int(random.integers(1, 4)))).astype(np.float32)
    for rule, expected in (
        (minimum_diameter, reference_minimum_diameter),
        (smallest_spectrum, reference_smallest_spectrum),
    ):
        # The first of equal subsets, although float32 computes them a little different.
        np.testing.assert_allclose(rule(rows, num_malicious=f), expected(rows, f), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [1e2, 1e4])
@pytest.mark.parametrize("seed", range(2))
def test_rows_far_from_the_origin(offset, seed):
    updates, _ = make(seed, uneven=True)
    updates = updates + np.float32(offset)
    for name, result in all_four(updates, 3).items():
        hyper = {"drawn": [np.arange(updates.shape[1])]} if name == "divide_and_conquer" else {}
        expected = REFERENCES[name](updates, num_malicious=3, **hyper)
        np.testing.assert_allclose(result - offset, expected - offset, rtol=1e-4, atol=2e-6 * offset)


@pytest.mark.parametrize("large", [1e3, 1e9, 1e17])
def test_far_rows_of_different_size_do_not_hide_each_other(large):
    updates, _ = make(spread=0.1)
    updates[[2, 5, 9]] = np.array([[30.0], [large], [-large / 7]], np.float32)
    honest = np.delete(updates, [2, 5, 9], axis=0)
    for rule in (minimum_diameter, smallest_spectrum, covariance_filter):
        result = rule(updates, num_malicious=3)
        assert np.linalg.norm(result - honest.mean(0)) < 0.5
    # DnC looks once, along one axis, on which the smallest of the three is nobody.
    assert not {5, 9} & set(selected("divide_and_conquer", updates, KEY, num_malicious=3))


@pytest.mark.parametrize("count", [2, 4])
def test_non_finite_rows_count_as_removed(count):
    updates, _ = make(n=11, uneven=True)
    bad = [3, 0, 8, 10][:count]
    updates[bad[0]], updates[bad[1], 4] = np.nan, -np.inf
    updates[bad[2:]] = 3e38
    rest = np.delete(updates, bad, axis=0)
    # Of n − k rows n − f stay, or weights of n − 2f.
    np.testing.assert_allclose(
        covariance_filter(updates, num_malicious=4),
        reference_covariance_filter(rest, 4 - count / 2),
        rtol=2e-5,
        atol=2e-6,
    )
    for rule in (minimum_diameter, smallest_spectrum):
        expected = REFERENCES[rule.__name__](rest, 4 - count)
        np.testing.assert_allclose(rule(updates, num_malicious=4), expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(
        divide_and_conquer(updates, KEY, num_malicious=4),
        reference_divide_and_conquer(rest, [np.arange(37)], 4 - count),
        rtol=2e-5,
        atol=2e-6,
    )


# --- smallest diameter --------------------------------------------------------------------------------


def test_the_search_decides_as_trying_does():
    search = jitted(coverable)
    waiting = jnp.zeros((7, 10), bool)
    answers = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        budget = int(random.integers(0, 6))
        apart = np.triu(random.random((10, 10)) < random.uniform(0.05, 0.9), 1)
        apart = apart | apart.T
        alive = random.random(10) < 0.9
        subsets = (list(s) for size in range(budget + 1) for s in combinations(np.flatnonzero(alive), size))
        rests = (np.setdiff1d(np.flatnonzero(alive), out) for out in subsets)
        possible = any(not apart[np.ix_(rest, rest)].any() for rest in rests)
        found = search(jnp.asarray(apart, jnp.float32), jnp.asarray(alive), jnp.int32(budget), waiting)
        assert bool(found) == possible, seed
        answers.append(possible)
    assert 15 <= sum(answers) <= 45


@pytest.mark.parametrize("size", [3, 5])
def test_the_search_ends_on_hard_graphs(size):
    # Separate cliques or circles, one row short of what they need: nothing shows it but trying.
    block = np.ones((size, size)) - np.eye(size)
    if size == 5:
        block = np.roll(np.eye(5), 1, 0) + np.roll(np.eye(5), -1, 0)
    need = {3: 2, 5: 3}[size]
    blocks = 30 // need
    apart = jnp.asarray(np.kron(np.eye(blocks), block), jnp.float32)
    everyone, waiting = jnp.ones(len(apart), bool), jnp.zeros((31, len(apart)), bool)
    search = jitted(coverable)
    assert not search(apart, everyone, jnp.int32(blocks * need - 1), waiting)
    assert search(apart, everyone, jnp.int32(blocks * need), waiting)


def test_the_smallest_diameter_of_a_hundred_rows():
    # 5.4e20 subsets. The crowd of 80 is the only one with its diameter; the others look like its members.
    random = np.random.default_rng(0)
    rows = random.normal(size=(100, 200))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    outside = random.permutation(100)[:20]
    rows[outside] *= 1.3
    assert selected("minimum_diameter", rows, num_malicious=20) == np.setdiff1d(range(100), outside).tolist()


def test_infinite_and_equal_distances():
    squares = jnp.full((6, 6), jnp.inf).at[2:, 2:].set(3.0)
    assert smallest_diameter(squares, jnp.int32(2), 2).tolist() == [False, False, True, True, True, True]
    # More rows are hopeless than may be left out: any subset is as good as another.
    assert smallest_diameter(squares, jnp.int32(1), 2).tolist() == [True] * 5 + [False]
    assert smallest_diameter(jnp.zeros((5, 5)), jnp.int32(2), 2).tolist() == [True] * 3 + [False] * 2


# --- smallest spectrum --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "f"), [(1, 0), (5, 0), (5, 2), (9, 4), (12, 1)])
def test_subsets_come_in_lexicographic_order(n, f):
    table = jnp.asarray(binomials(n, f + 1))
    expected = list(combinations(range(n), n - f))
    members = jitted(subsets_at)(jnp.arange(len(expected)), jnp.int32(f), table)
    assert [tuple(np.flatnonzero(row).tolist()) for row in members] == expected


def test_binomials_that_do_not_fit_are_larger_than_any_place():
    assert binomials(60, 12).max() == np.iinfo(np.int32).max
    assert (binomials(60, 12) >= 0).all()


def test_several_chunks_find_what_one_does(monkeypatch):
    updates, _ = make(uneven=True)
    chosen = selected("smallest_spectrum", updates, num_malicious=3)
    monkeypatch.setattr("fljax.aggregators._smallest_spectrum.ENTRIES_PER_CHUNK", 144 * 7)
    # Another function, or it would be the program that has been compiled with one chunk.
    info = jax.jit(lambda rows: RULES["smallest_spectrum"].function.explained(rows, num_malicious=3)[1])(
        updates
    )
    assert np.flatnonzero(info["selected"]).tolist() == chosen
    assert chosen != list(range(9)), "the choice is not what the loop starts with"


# --- leading eigenpair --------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", ["round", "one axis", "two equal axes"])
def test_the_iteration_finds_the_exact_eigenpair(spread):
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 300))
    if spread == "one axis":
        rows[:20] += 2.0
    elif spread == "two equal axes":
        rows = np.zeros((80, 300))
        rows[np.arange(80), np.arange(80) % 2] = np.where(np.arange(80) % 4 < 2, 1.0, -1.0)
        rows += 1e-3 * random.normal(size=(80, 300))
    shares = random.random(80) * (random.random(80) < 0.9)
    shares = shares / shares.sum() if spread != "two equal axes" else np.full(80, 1 / 80)
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    squares = jnp.asarray(squares / squares.max(), jnp.float32)
    shares = jnp.asarray(shares, jnp.float32)
    (value, image), (expected, exact) = (
        jitted(iterative_pair)(squares, shares),
        jitted(exact_pair)(squares, shares),
    )
    np.testing.assert_allclose(value, expected, rtol=2e-5)
    if spread != "two equal axes":
        np.testing.assert_allclose(image**2, exact**2, rtol=2e-2, atol=2e-3 * float(jnp.max(exact**2)))


def test_many_rows_use_the_iteration():
    random = np.random.default_rng(0)
    n = LARGEST_DENSE + 40
    rows = random.normal(size=(n, 30)).astype(np.float32)
    hostile = random.permutation(n)[:100]
    rows[hostile] = 0.8 + 0.1 * rows[hostile]
    honest = np.delete(rows, hostile, axis=0)
    np.testing.assert_allclose(
        covariance_filter(rows, num_malicious=100), reference_covariance_filter(rows, 100), atol=2e-4
    )
    assert np.linalg.norm(honest.mean(0) - covariance_filter(rows, num_malicious=100)) < 0.5
    np.testing.assert_allclose(
        divide_and_conquer(rows, KEY, num_malicious=100),
        reference_divide_and_conquer(rows, [np.arange(30)], 100),
        atol=2e-4,
    )


# --- covariance filter --------------------------------------------------------------------------------


def test_the_guarantee_is_none_the_mean_has():
    case = RuleCase("covariance_filter", reference_covariance_filter, {"num_malicious": 3})
    updates, others = make()
    updates[:3] += 100
    assert within_its_guarantee(case, updates, others, covariance_filter(updates, num_malicious=3))
    assert not within_its_guarantee(case, updates, others, updates.mean(0))


def test_copies_end_the_filter():
    rows = np.repeat(np.array([[1.0, 2.0], [5.0, 5.0]], np.float32), [7, 2], axis=0)
    np.testing.assert_allclose(covariance_filter(rows, num_malicious=3), [1.0, 2.0], rtol=1e-6)
    info = jitted(RULES["covariance_filter"].function.explained)(rows, num_malicious=3)[1]
    np.testing.assert_allclose(info["weights"], [1 / 7] * 7 + [0, 0], rtol=1e-6)


def test_the_weights_explain_the_result():
    updates, _ = make(uneven=True)
    result, info = jitted(RULES["covariance_filter"].function.explained)(updates, num_malicious=5)
    np.testing.assert_allclose(info["weights"].sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(info["weights"] @ updates, result, rtol=1e-5, atol=1e-6)
    assert np.ptp(info["weights"]) > 0.05


# --- divide and conquer -------------------------------------------------------------------------------


def test_coordinates_are_drawn_without_replacement():
    drawn = random_coordinates(KEY, 50, 20, 200)
    counts = np.zeros(50)
    for those in drawn:
        assert len(set(those.tolist())) == 20
        counts[np.asarray(those)] += 1
    # 200 draws of 20 in 50: 80 times each, with a standard deviation of 7.
    assert counts.sum() == 4000
    assert (np.abs(counts - 80) < 5 * 7).all()
    other = random_coordinates(jax.random.key(1), 50, 20, 1)[0]
    assert set(other.tolist()) != set(drawn[0].tolist())


def test_iterations_that_agree_on_no_row():
    # One coordinate at a time condemns one of three rows; after many iterations none is left.
    rows = jnp.eye(3)
    hyper = {"num_malicious": 1, "subspace_size": 1, "num_iterations": 10}
    for seed in range(4):
        key = jax.random.key(seed)
        (drawn,) = drawn_coordinates(rows, key, **hyper)
        condemned = np.bincount(np.concatenate(drawn), minlength=3)
        assert (condemned > 0).all()
        fewest = np.flatnonzero(condemned == condemned.min()).tolist()
        assert selected("divide_and_conquer", rows, key, **hyper) == fewest


def test_a_row_is_removed_for_a_coordinate_that_is_not_drawn():
    updates, _ = make()
    hyper = {"num_malicious": 1, "subspace_size": 3}
    (drawn,) = drawn_coordinates(updates, KEY, **hyper)
    updates[4, next(j for j in range(37) if j not in drawn[0])] = np.nan
    assert selected("divide_and_conquer", updates, KEY, **hyper) == [i for i in range(12) if i != 4]


@pytest.mark.parametrize(
    ("fraction", "removed"), [(0.29, 29), (0.3, 30), (0.999, 99), (1.0, 100), (1.5, 150)]
)
def test_how_many_rows_an_iteration_removes(fraction, removed):
    rows = np.random.default_rng(0).normal(size=(201, 2)).astype(np.float32)
    for f, c in ((100, fraction), (jnp.int32(100), fraction), (100, jnp.float32(fraction))):
        chosen = selected("divide_and_conquer", rows, KEY, num_malicious=f, filter_fraction=c)
        assert len(chosen) == 201 - removed


# --- limits -------------------------------------------------------------------------------------------

ONES = jnp.ones((8, 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: minimum_diameter(ONES, num_malicious=4),
            "minimum_diameter: .*=4 needs n > 8 rows .*, got n=8",
        ),
        (lambda: smallest_spectrum(ONES, num_malicious=-1), "smallest_spectrum: num_malicious=-1"),
        (lambda: covariance_filter(ONES, num_malicious=4), "covariance_filter: .*=4 needs n > 8 rows"),
        (lambda: divide_and_conquer(ONES, KEY, num_malicious=4), "divide_and_conquer: .*=4 needs n > 8"),
        (lambda: covariance_filter(ONES[0], num_malicious=0), r"updates must be \(n, d\)"),
        (
            lambda: minimum_diameter(jnp.ones((120, 2)), num_malicious=51),
            "num_malicious=51 is more than the 50 rows .*; use multi_krum",
        ),
        (
            lambda: jax.jit(lambda f: minimum_diameter(jnp.ones((120, 2)), num_malicious=f))(3),
            "traced num_malicious could be up to 59 for n=120, .* pass a plain number",
        ),
        (
            lambda: smallest_spectrum(jnp.ones((100, 2)), num_malicious=20),
            "has 535,983,370,403,809,682,970 subsets, more than the 10,000 .*; use covariance_filter",
        ),
        (
            lambda: jax.jit(lambda f: smallest_spectrum(jnp.ones((30, 2)), num_malicious=f))(1),
            "up to 14 for n=30, which has 145,422,675 subsets, .* pass a plain number",
        ),
        (
            lambda: divide_and_conquer(ONES, KEY, num_malicious=1, num_iterations=0),
            "num_iterations=0 must be a whole number of at least 1",
        ),
        (
            lambda: divide_and_conquer(ONES, KEY, num_malicious=1, subspace_size=2.5),
            "subspace_size=2.5 must be a whole number",
        ),
        (
            lambda: divide_and_conquer(ONES, KEY, num_malicious=1, filter_fraction=0.0),
            "filter_fraction=0.0 must be larger than 0",
        ),
    ],
)
def test_errors_name_rule_and_numbers(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_traced_numbers_are_clamped():
    updates, _ = make()
    for rule in (minimum_diameter, smallest_spectrum, covariance_filter):
        traced = jax.jit(lambda f, rule=rule: rule(updates, num_malicious=f))
        np.testing.assert_allclose(traced(100), rule(updates, num_malicious=5), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(traced(-3), mean(updates), rtol=1e-5, atol=1e-6)
    assert LARGEST_SEARCH >= 49, "any f is possible for the hundred clients of the paper"


def test_more_hostile_rows_than_told_stay_finite():
    updates, _ = make()
    updates[:8] = np.nan
    for rule in ("covariance_filter", "divide_and_conquer"):
        arrays = [KEY] if rule == "divide_and_conquer" else []
        assert np.isfinite(jitted(RULES[rule].function)(updates, *arrays, num_malicious=3)).all()
