"""What is particular to one rule: published examples, bounds, ties, variants, lemmas."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.tree_util import Partial

from fljax.aggregators import (
    RULES,
    Aggregator,
    Context,
    chain,
    clip,
    fltrust,
    from_registry,
    geometric_median,
    huber,
    krum,
    krum_scores,
    mean,
    median,
    on_pytrees,
    root_only,
    stateless,
    stateless_pre,
    trimmed_mean,
    trust_scores,
)
from fljax.base import Layers
from fljax.numerics.order_statistics import LARGEST_NETWORK, midpoint, sorting_network
from fljax.numerics.safe import divide
from tests.rules.case import IN_SPACE, first_rows, make
from tests.rules.krum import krum_scores as reference_krum_scores
from tests.rules.table import RULE_CASES
from tests.support.programs import jitted

clip, fltrust, geometric_median, krum, krum_scores, mean, median, root_only, trimmed_mean, trust_scores = map(
    jitted,
    (clip, fltrust, geometric_median, krum, krum_scores, mean, median, root_only, trimmed_mean, trust_scores),
)

# Rows (1,2,3), (4,5,6), (7,8,9): the worked example of ByzFL's documentation.
WORKED = jnp.arange(1.0, 10.0).reshape(3, 3)
# The hand-made FLTrust example of the specification.
CLIENTS = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [3.0, 4.0]])
ROOT = jnp.array([1.0, 0.0])


def test_published_worked_example():
    for rule in (mean, median, lambda u: trimmed_mean(u, trim=1)):
        np.testing.assert_array_equal(rule(WORKED), [4.0, 5.0, 6.0])
    clipped = [
        [0.53452248, 1.06904497, 1.60356745],
        [0.91168461, 1.13960576, 1.36752692],
        [1.00514142, 1.14873305, 1.29232469],
    ]
    np.testing.assert_allclose(clip(WORKED, radius=2.0), clipped, rtol=1e-6)


def test_fltrust_by_hand():
    np.testing.assert_allclose(trust_scores(CLIENTS, ROOT), [1.0, 0.0, 0.0, 0.6], rtol=1e-6)
    np.testing.assert_allclose(fltrust(CLIENTS, ROOT), [0.85, 0.3], rtol=1e-6)
    # NoReLU: scores 1, 0, −1, .6 sum to .6; unit rows give (1 + 1 + .36, .48) / .6.
    no_relu = fltrust(CLIENTS, ROOT, clip_negative=False)
    np.testing.assert_allclose(no_relu, [2.36 / 0.6, 0.48 / 0.6], rtol=1e-6)
    # NoNorm: (1·(2, 0) + .6·(3, 4)) / 1.6; ParNorm shrinks both rows to length 1.
    np.testing.assert_allclose(fltrust(CLIENTS, ROOT, normalize="none"), [3.8 / 1.6, 2.4 / 1.6], rtol=1e-6)
    np.testing.assert_allclose(fltrust(CLIENTS, ROOT, normalize="shrink"), [0.85, 0.3], rtol=1e-6)
    shorter = CLIENTS.at[0].set(jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(
        fltrust(shorter, ROOT, normalize="shrink"), [(0.5 + 0.36) / 1.6, 0.3], rtol=1e-6
    )
    # withServer: the root joins with score 1.
    with_server = fltrust(CLIENTS, ROOT, include_root=True)
    np.testing.assert_allclose(with_server, [(1 + 0.36 + 1) / 2.6, 0.48 / 2.6], rtol=1e-6)
    np.testing.assert_array_equal(root_only(CLIENTS, ROOT), ROOT)


def test_fltrust_without_anybody_to_trust_stays():
    away = -jnp.abs(CLIENTS) - jnp.array([[1.0, 0.0]])
    for options in ({}, {"normalize": "shrink"}, {"normalize": "none"}):
        np.testing.assert_array_equal(fltrust(away, ROOT, **options), [0.0, 0.0])
    np.testing.assert_allclose(fltrust(away, ROOT, include_root=True), ROOT)
    zero = jnp.zeros(2)
    for options in ({}, {"clip_negative": False}, {"include_root": True}, {"normalize": "none"}):
        np.testing.assert_array_equal(fltrust(CLIENTS, zero, **options), zero)
        np.testing.assert_array_equal(fltrust(jnp.zeros((4, 2)), ROOT, **options)[1], 0.0)
    np.testing.assert_array_equal(fltrust(jnp.full((4, 2), jnp.nan), ROOT), zero)


floats = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
problems = st.integers(1, 5).flatmap(
    lambda d: st.tuples(
        hnp.arrays(
            np.float32, (6, d), elements=st.one_of(floats, st.sampled_from([1e38, -1e38, np.nan, np.inf]))
        ),
        hnp.arrays(np.float32, (d,), elements=floats),
        hnp.arrays(np.float32, (d,), elements=floats),
        hnp.arrays(np.float32, (6,), elements=st.sampled_from([2.0**-20, 0.5, 3.0, 2.0**20])),
    )
)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(problem=problems)
def test_fltrust_lemma_for_any_rows(problem):
    updates, root, target, factors = (np.asarray(part, np.float64) for part in problem)
    g = np.asarray(fltrust(updates.astype(np.float32), root.astype(np.float32)), np.float64)
    length = np.linalg.norm(root)
    assert np.isfinite(g).all()
    assert np.linalg.norm(g) <= length * (1 + 1e-5)
    assert g @ root >= -1e-5 * length**2
    bound = 3 * np.linalg.norm(root - target) + 2 * np.linalg.norm(target)
    assert np.linalg.norm(g - target) <= bound * (1 + 1e-5) + 1e-30
    with np.errstate(over="ignore", invalid="ignore"):
        rescaled = (updates * factors[:, None]).astype(np.float32)
    # Neither may a row overflow, nor lose its direction where numbers become too small to be normal.
    large = (np.abs(rescaled).max(1) >= 1e-30) | (updates == 0).all(1)
    usable = large & (np.isfinite(rescaled).all(1) == np.isfinite(updates).all(1))
    again = fltrust(np.where(usable[:, None], rescaled, updates).astype(np.float32), root.astype(np.float32))
    np.testing.assert_allclose(again, g, atol=1e-4 * length + 1e-30)


def test_huge_and_tiny_rows_keep_their_direction_in_fltrust():
    for factor in (1e37, 1e-30, 1.0):
        rows = CLIENTS * jnp.array([[factor], [1.0], [1.0], [1.0]], jnp.float32)
        np.testing.assert_allclose(fltrust(rows, ROOT), [0.85, 0.3], rtol=1e-5)


def test_krum_scores_by_hand():
    rows = jnp.array([[0.0], [1.0], [3.0], [7.0], [50.0]])
    # f = 1: two nearest others. Squared: 1+9, 1+4, 4+9, 16+36, 43²+47².
    np.testing.assert_allclose(krum_scores(rows, num_malicious=1), [10, 5, 13, 52, 43**2 + 47**2], rtol=1e-6)
    np.testing.assert_allclose(krum_scores(rows, num_malicious=1, power=1), [4, 3, 5, 10, 90], rtol=1e-6)
    byzfl = krum_scores(rows, num_malicious=1, num_neighbors=3)
    np.testing.assert_allclose(byzfl, [59, 41, 29, 101, 43**2 + 47**2 + 49**2], rtol=1e-6)
    np.testing.assert_array_equal(krum(rows, num_malicious=1), [1.0])
    # The variants can disagree, here the number of neighbours.
    np.testing.assert_array_equal(krum(rows, num_malicious=1, num_neighbors=3), [3.0])


def test_krum_scores_where_the_square_of_their_unit_is_no_float():
    rows = np.zeros((7, 2), np.float32)
    rows[6] = 1e30
    np.testing.assert_array_equal(krum_scores(rows, num_malicious=1), [0.0] * 6 + [np.inf])
    rows = np.float32(1e-30) * np.arange(7, dtype=np.float32)[:, None]
    np.testing.assert_allclose(krum_scores(rows, num_malicious=2, power=1)[:2], [6e-30, 4e-30], rtol=1e-6)
    rows[6] = np.nan
    np.testing.assert_array_equal(krum_scores(rows, num_malicious=1), [0.0] * 6 + [np.inf])


def test_krum_ties_go_to_the_lowest_row():
    rows = jnp.array([[5.0, 5.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    scores = np.asarray(krum_scores(rows, num_malicious=1))
    assert np.ptp(scores[1:]) == 0
    np.testing.assert_array_equal(krum(rows, num_malicious=1), rows[1])
    identical = jnp.ones((6, 3)) * 0.1
    assert int(jnp.argmin(krum_scores(identical, num_malicious=1))) == 0


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_krum_tells_close_rows_far_from_the_origin_apart(offset):
    random = np.random.default_rng(0)
    rows = (offset + random.normal(size=(20, 50))).astype(np.float32)
    rows[7] = rows.mean(0)
    expected = int(np.argmin(reference_krum_scores(rows, 4)))
    np.testing.assert_array_equal(krum(rows, num_malicious=4), rows[expected])
    np.testing.assert_allclose(
        krum_scores(rows, num_malicious=4), reference_krum_scores(rows, 4), rtol=2e-3 if offset else 1e-5
    )


def test_krum_beside_rows_of_1e38():
    random = np.random.default_rng(0)
    rows = random.normal(size=(10, 6)).astype(np.float32)
    rows[[1, 2]], rows[3] = 1e38, np.nan
    expected = np.delete(rows, [1, 2, 3], axis=0)
    chosen = np.argmin(reference_krum_scores(np.where(np.abs(rows) < 10, rows, 1e6), 3))
    np.testing.assert_array_equal(krum(rows, num_malicious=3), rows[chosen])
    assert (expected == np.asarray(krum(rows, num_malicious=3))).all(1).any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: trimmed_mean(jnp.ones((8, 2)), trim=4), "trimmed_mean: trim=4 needs n > 8 rows, got n=8"),
        (lambda: trimmed_mean(jnp.ones((8, 2)), trim=-1), "trim=-1"),
        (lambda: trimmed_mean(jnp.ones((8, 2)), trim=1.5), "trim=1.5"),
        (lambda: krum(jnp.ones((5, 2)), num_malicious=3), "krum: num_malicious=3 needs .*, got n=5"),
        (lambda: krum(jnp.ones((2, 2)), num_malicious=0), "at least 3 rows, got n=2"),
        (lambda: krum(jnp.ones((5, 2)), num_malicious=1, power=3), "power=3"),
        (lambda: krum(jnp.ones((5, 2)), num_malicious=1, num_neighbors=5), "num_neighbors=5"),
        (lambda: krum(jnp.ones((5, 2)), num_malicious=1, num_neighbors=0), "num_neighbors=0"),
        (lambda: mean(jnp.ones((5, 2)), jnp.ones(4)), r"weights must be \(5,\)"),
        (lambda: mean(jnp.ones(5)), r"updates must be \(n, d\)"),
        (lambda: fltrust(jnp.ones((5, 2)), jnp.ones(3)), r"root_update must be \(2,\)"),
        (lambda: fltrust(jnp.ones((5, 2)), jnp.ones(2), normalize="half"), "normalize='half'"),
        (lambda: clip(jnp.ones((5, 2)), radius=0.0), "radius=0.0"),
    ],
)
def test_errors_name_rule_and_numbers(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_traced_counts_are_clamped_as_documented():
    updates, _ = make()
    traced_trim = jax.jit(lambda trim: trimmed_mean(updates, trim=trim))
    np.testing.assert_allclose(traced_trim(100), trimmed_mean(updates, trim=5), rtol=1e-6)
    np.testing.assert_allclose(traced_trim(-3), trimmed_mean(updates, trim=0), rtol=1e-5)
    traced_f = jax.jit(lambda f: krum(updates, num_malicious=f))
    np.testing.assert_array_equal(traced_f(100), krum(updates, num_malicious=4))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 20, 64])
def test_the_network_sorts(n):
    # The 0-1 principle: a network that sorts every sequence of zeros and ones sorts everything.
    if n <= 8:
        inputs = np.array(list(itertools.product([0, 1], repeat=n))).T
    else:
        inputs = np.random.default_rng(0).integers(0, 2, (n, 2000))
    rows = list(inputs)
    for i, j in sorting_network(n):
        assert i < j
        rows[i], rows[j] = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
    np.testing.assert_array_equal(np.stack(rows), np.sort(inputs, axis=0))


@pytest.mark.parametrize("n", [LARGEST_NETWORK, LARGEST_NETWORK + 1])
def test_both_ways_of_sorting_agree_with_numpy(n):
    updates = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    updates[4, 1] = np.nan
    expected = np.sort(np.where(np.isnan(updates), np.inf, updates).astype(np.float64), axis=0)
    np.testing.assert_allclose(
        jax.jit(median)(updates), (expected[(n - 1) // 2] + expected[n // 2]) / 2, rtol=1e-6
    )
    trimmed = jax.jit(lambda u: trimmed_mean(u, trim=9))(updates)
    np.testing.assert_allclose(trimmed, expected[9:-9].mean(0), rtol=1e-5)


@pytest.mark.parametrize("copies", [1, LARGEST_NETWORK])
def test_median_of_large_values_does_not_overflow(copies):
    # Compiled, half of each is no help: XLA turns the sum of two halves into half of the sum.
    rows = np.array([[3e38, -3e38], [2e38, -2e38], [-1.0, 1.0], [3e38, -3e38]], np.float32)
    for compute in (RULES["median"].function, median):
        np.testing.assert_allclose(compute(np.repeat(rows, copies, axis=0)), [2.5e38, -2.5e38], rtol=1e-6)


@jax.jit
def between(low, high):
    return midpoint(low, high)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(3e38, 3e38, 3e38), (-3e38, 3e38, 0), (3e38, np.inf, np.inf), (-np.inf, -np.inf, -np.inf), (5, 6, 5.5)],
)
def test_midpoint(low, high, expected):
    np.testing.assert_allclose(between(np.float32([low]), np.float32([high])), [expected], rtol=1e-6)


def test_composition():
    updates, others = make()
    context = Context(root_update=others["root_update"], weights=others["weights"])
    rule = chain(stateless_pre(clip, radius=1.0), stateless(fltrust))
    result, state, info = rule.aggregate(updates, rule.init(12, 37), context)
    expected = fltrust(clip(updates, radius=1.0), others["root_update"])
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert info == {}
    assert jax.tree.structure(state) == jax.tree.structure(rule.init(12, 37))
    weighted, *_ = stateless(mean).aggregate(updates, (), context)
    np.testing.assert_allclose(weighted, mean(updates, others["weights"]), rtol=1e-6)
    with pytest.raises(ValueError, match="needs root_update"):
        stateless(fltrust).aggregate(updates, (), Context())
    for pieces in ((), (stateless(mean), stateless(mean)), (stateless_pre(clip, radius=1.0),)):
        with pytest.raises(ValueError, match="exactly one Aggregator"):
            chain(*pieces)
    assert isinstance(rule, Aggregator)


def test_rules_on_pytrees_see_whole_updates():
    updates, others = make()
    tree = {"w": updates[:, :30].reshape(12, 5, 6), "b": updates[:, 30:]}
    root = {"w": others["root_update"][:30].reshape(5, 6), "b": others["root_update"][30:]}
    order = np.r_[30:37, 0:30]  # leaves come in key order: b, then w
    chosen = on_pytrees(krum)(tree, num_malicious=3)
    np.testing.assert_array_equal(
        np.r_[chosen["b"], chosen["w"].ravel()], krum(updates[:, order], num_malicious=3)
    )
    trusted = jax.jit(on_pytrees(fltrust))(tree, root)
    np.testing.assert_allclose(
        np.r_[trusted["b"], trusted["w"].ravel()],
        fltrust(updates[:, order], others["root_update"][order]),
        rtol=1e-6,
    )
    cube = updates[:, :36].reshape(12, 4, 9)
    single = on_pytrees(fltrust)(cube, others["root_update"][:36].reshape(4, 9))
    np.testing.assert_allclose(
        single.ravel(), fltrust(updates[:, :36], others["root_update"][:36]), rtol=1e-6
    )
    with pytest.raises(ValueError, match="same leading client axis"):
        on_pytrees(mean)({"w": np.ones((3, 2)), "b": np.ones((4, 2))})


def test_explanations():
    updates, others = make()
    chosen = jitted(RULES["krum"].function.explained)(updates, num_malicious=3)[1]["selected"]
    assert chosen.sum() == 1
    np.testing.assert_array_equal(updates[np.argmax(chosen)], krum(updates, num_malicious=3))
    info = jitted(RULES["fltrust"].function.explained)(updates, others["root_update"])[1]
    np.testing.assert_allclose(info["trust_scores"], trust_scores(updates, others["root_update"]), rtol=1e-6)
    weights = RULES["mean"].function.explained(updates, others["weights"])[1]["weights"]
    np.testing.assert_allclose(weights, others["weights"] / others["weights"].sum(), rtol=1e-6)


@pytest.mark.parametrize(("spread", "offset"), [(1e-5, 2e-4), (1e-4, 5e-4), (3e-5, 5e-4)])
def test_krum_is_not_misled_about_the_centre(spread, offset):
    # The negative of the honest row of median size may become the first centre; two hostile copies lie a
    # little off the honest rows, which a Gram matrix far from the origin cannot see.
    wrong = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        honest = random.normal(size=1000) + spread * random.normal(size=(6, 1000))
        shift = random.normal(size=1000)
        median_row = honest[np.argsort(np.abs(honest).max(1))[3]]
        hostile = np.stack([-median_row, *[honest.mean(0) + offset * shift] * 2])
        rows = random.permutation(np.concatenate([honest, hostile])).astype(np.float32)
        chosen = rows[np.argmin(reference_krum_scores(rows, 3))]
        wrong += not np.array_equal(krum(rows, num_malicious=3), chosen)
    assert wrong == 0


def test_trust_scores_stay_in_the_unit_interval():
    root = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    rows = np.outer(np.linspace(0.1, 3, 40), root).astype(np.float32)
    assert float(trust_scores(rows, root).max()) <= 1.0
    assert float(trust_scores(rows, root).min()) > 0.999


@pytest.mark.parametrize(("row_size", "root_size"), [(1e-10, 1e29), (1e14, 1e-26)])
def test_fltrust_between_very_different_scales(row_size, root_size):
    result = fltrust(CLIENTS * np.float32(row_size), ROOT * np.float32(root_size))
    np.testing.assert_allclose(result / np.float32(root_size), [0.85, 0.3], rtol=1e-5)


def test_gradient_at_a_vanishing_root_is_finite():
    slope = jax.grad(lambda root: fltrust(CLIENTS, root).sum())(jnp.zeros(2))
    assert np.isfinite(slope).all()


# Weights None, then rows that the start may meet: the coordinate-wise median is one of them.
AT_A_ROW = {
    "at a row": ([[5.0, 5.0], [-5.0, 4.0], [6.0, 15.0]], None),
    "at a large row": ([[5e3, 5e3], [-5e3, 4e3], [6e3, 1.5e4]], None),
    "far rows of little weight": ([[1, 2], [1.1, 2], [1e6, 0], [1e6, 1], [1e6, 2]], [10, 10, 1, 1, 1]),
    "many rows of little weight": ([[0.5, 0.6], [0.4, 0.5], *[[50.0, 50.0]] * 5], [100, 100, *[10] * 5]),
}


@lru_cache
def weiszfeld(rows, weights):
    """The plain iteration for rows in the plane, from beside their mean; once for all starts of the rule."""
    rows, weights = np.frombuffer(rows, np.float32).reshape(-1, 2), np.frombuffer(weights)
    best = weights @ rows / weights.sum() + 1e-3
    for _ in range(100_000):
        share = weights / np.maximum(np.linalg.norm(rows - best, axis=1), 1e-12)
        best = share @ rows / share.sum()
    return best


@pytest.mark.parametrize("start", ["median", "mean", "zero"])
@pytest.mark.parametrize(("rows", "weights"), AT_A_ROW.values(), ids=AT_A_ROW.keys())
def test_geometric_median_leaves_a_row_that_is_not_the_minimum(rows, weights, start):
    rows = np.array(rows, np.float32)
    shares = None if weights is None else np.array(weights, np.float32)
    point = np.asarray(geometric_median(rows, shares, start=start), np.float64)
    weights = np.ones(len(rows)) if weights is None else np.array(weights, np.float64)

    def objective(z):
        return weights @ np.linalg.norm(rows.astype(np.float64) - z, axis=1)

    assert objective(point) <= objective(weiszfeld(rows.tobytes(), weights.tobytes())) * (1 + 1e-6)


def test_geometric_median_leaves_the_median_of_the_others():
    for seed in range(5):
        others = np.random.default_rng(seed).exponential(size=(8, 50)) ** 3
        rows = np.vstack([others, np.median(others, 0)]).astype(np.float32)
        point = np.asarray(geometric_median(rows), np.float64)
        difference = rows - point
        distances = np.linalg.norm(difference, axis=1)
        assert distances.min() > 1e-3 * np.median(distances)
        assert np.linalg.norm((difference / distances[:, None]).sum(0)) <= 1e-4 * len(rows)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: trimmed_mean(jnp.ones((8, 2)), trim=-1), "trim=-1 must be a whole number of at least 0"),
        (lambda: krum(jnp.ones((8, 2)), num_malicious=1.5), "num_malicious=1.5 must be a whole number"),
        (lambda: krum(jnp.ones((8, 2)), num_malicious=float("nan")), "num_malicious=nan must be a whole"),
        (lambda: krum(jnp.ones((8, 2)), num_malicious=-5, num_neighbors=3), "num_malicious=-5"),
        (lambda: geometric_median(jnp.ones((8, 2)), max_iterations=-3), "max_iterations=-3"),
        (lambda: geometric_median(jnp.ones((8, 2)), max_iterations=10**11), "max_iterations=100000000000"),
        (lambda: geometric_median(jnp.ones((8, 2)), tolerance=-1.0), "tolerance=-1.0"),
        (lambda: clip(jnp.ones((8, 2)), radius=True), "radius=True"),
    ],
)
def test_numbers_out_of_range_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# There is no last layer to read, and there are no entries to send.
REFUSED = {
    **dict.fromkeys(("deepsight", "fl_defender", "lfighter"), "head reaches to entry 12"),
    "sparse_fed": "num_sent=2",
}


@pytest.mark.parametrize("case", first_rows(RULE_CASES), ids=lambda case: case.name)
def test_a_model_without_parameters(case):
    updates, others = make()
    others = {name: value[..., :0] if name in IN_SPACE else value for name, value in others.items()}
    unchanged = Partial(lambda params, x: x)
    others |= {"layers": Layers(()), "predict": unchanged, "features": unchanged}
    others["root_loss"] = Partial(jnp.sum)
    if said := REFUSED.get(case.name):
        with pytest.raises(ValueError, match=f"{case.name}: {said}"):
            jax.jit(case.call)(updates[:, :0], others)
        return
    assert jax.jit(case.call)(updates[:, :0], others).shape == (0,)


def test_a_carried_centre_keeps_the_digits_half_precision_has_not():
    rule = from_registry(RULES, "centered_clipping", radius=1e-3)
    rows = jnp.ones((4, 1), jnp.bfloat16)

    @jax.jit
    def rounds(state):
        return jax.lax.fori_loop(0, 1200, lambda _, s: rule.aggregate(rows, s, Context())[1], state)

    np.testing.assert_allclose(rounds(rule.init(4, 1)), [1.0], rtol=1e-3)


def test_geometric_median_beside_huge_rows():
    """The median of 12 numbers on a line, four of them at -1e30, is between the sixth and the seventh."""
    rows = np.zeros((12, 3), np.float32)
    rows[:4, 2], rows[4:7, 2] = -1e30, -1.0
    for compute in (RULES["geometric_median"].function, geometric_median):
        np.testing.assert_allclose(compute(rows), [0.0, 0.0, -1.0], atol=1e-5)


@pytest.mark.parametrize(("unit", "radius"), [(1e-36, 1e3), (1e-9, 1e30), (1.0, 1e38)])
def test_huber_with_a_radius_far_beyond_all_rows_is_the_mean(unit, radius):
    rows = np.float32(unit) * np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]], np.float32)
    np.testing.assert_allclose(huber(rows, radius=radius), rows.mean(0), rtol=1e-5)


def test_geometric_median_of_two_halves_far_apart():
    """The coordinate-wise median is half-way between them; the half with more weight has the minimum."""
    rows = np.zeros((12, 3), np.float32)
    rows[6:, 2] = -1e30
    for weight, expected in ((2.0, 0.0), (0.5, -1e30)):
        weights = np.repeat(np.float32([weight, 1.0]), 6)
        found = geometric_median(rows, weights, max_iterations=1000)
        np.testing.assert_allclose(found, [0.0, 0.0, expected], rtol=1e-5, atol=1e23)


@pytest.mark.parametrize("divisor", [2e-38, 1e-30, 0.3, 1.0, 7.0, 1e20, 3e38])
def test_division_by_any_positive_number(divisor):
    quotients = np.float64([0.0, -1.0, 3.0]) * (1e-5 if divisor > 1e30 else 1.0)
    values = (quotients * divisor).astype(np.float32)
    expected = values.astype(np.float64) / np.float64(np.float32(divisor))
    largest = np.float32(3e38)
    for compute in (divide, jax.jit(divide)):
        found = np.asarray(compute(jnp.asarray(values), jnp.float32(divisor)))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37)
        if divisor >= 1:
            assert np.asarray(compute(jnp.float32(largest), jnp.float32(divisor))) == pytest.approx(
                float(largest) / divisor, rel=1e-6
            )


@pytest.mark.parametrize("name", ["mean", "geometric_median"])
def test_weights_of_any_size(name):
    rule = RULES[name].function
    rows = np.float32([[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]])
    shares = np.array([1.0, 2.0, 0.0])
    expected = rule(rows, shares)
    np.testing.assert_allclose(expected, [7 / 3, 10 / 3] if name == "mean" else [3.0, 4.0], rtol=1e-5)
    traced = jax.jit(rule)
    for size in (1e-30, 1.0, 1.5e38):
        np.testing.assert_allclose(traced(rows, np.float32(size * shares)), expected, rtol=1e-5)
    for size in (1e-300, 1e300):
        np.testing.assert_allclose(rule(rows, size * shares), expected, rtol=1e-5)
    np.testing.assert_array_equal(traced(rows, np.zeros(3, np.float32)), [0.0, 0.0])
    np.testing.assert_array_equal(rule(rows, jnp.zeros(3)), [0.0, 0.0])
    all_largest = traced(rows, np.full(3, 3e38, np.float32))
    np.testing.assert_allclose(all_largest, rule(rows), rtol=1e-5)


@pytest.mark.parametrize("name", ["mean", "geometric_median"])
@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("array", [np.array, jnp.array, list])
def test_weights_that_are_known_to_be_wrong(name, wrong, array):
    message = rf"^{name}: weights must be finite and not negative, got {wrong:g} for row 1$"
    with pytest.raises(ValueError, match=message):
        RULES[name].function(jnp.ones((3, 2)), array([1.0, wrong, 2.0]))


def test_multi_krum_with_distances_and_with_squares():
    # Two neighbours: distances sum to 6, 5, 7, 8 and 13, squares to 26, 17, 25, 34 and 89.
    rows = jnp.array([[0.0], [1.0], [5.0], [8.0], [13.0]])
    rule = jitted(RULES["multi_krum"].function)
    for power, expected in ((1, 0.5), (2, 3.0)):
        chosen = rule(rows, num_malicious=1, num_selected=2, num_neighbors=2, power=power)
        np.testing.assert_allclose(chosen, [expected])
