"""Rules on six rows, five alike and one hostile, and on rounds: numbers that were worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from fljax.aggregators import RULES, Context, from_registry
from fljax.metrics import certified_radius, smoothed_votes, vote_bounds
from fljax.numerics.k_means import cluster_gaps
from tests.rules.afa import afa
from tests.rules.case import D, N, make
from tests.rules.gas import scores_of
from tests.rules.sparse_fed import sparse_fed
from tests.support.programs import jitted

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
ROOT = np.array([1.0, 0.5, -0.1, 0.3], np.float32)
MODEL = np.array([0.5, -0.5, 0.25, 1.0], np.float32)
KEY = jax.random.key(0)
WEIGHTS = np.arange(1.0, 7.0, dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "arrays", "hyper", "expected"),
    [
        ("huber", (), {"radius": 0.5}, (0.934311, 0.524633, -0.072012, 0.278651)),
        ("huber", (WEIGHTS,), {"radius": 0.5}, (0.901310, 0.529754, 0.008412, 0.270344)),
        ("aksel", (), {"num_malicious": 1, "count": "n-f"}, (1.0, 0.5, -0.14, 0.3)),
        ("faba", (), {"num_malicious": 2}, (0.95, 0.55, -0.125, 0.25)),
        ("foundation", (), {"num_malicious": 1}, (1.057143, 0.442857, -0.142857, 0.357143)),
        ("foundation", (), {"num_malicious": 0, "rule": "median"}, (1.1, 0.4, -0.2, 0.4)),
        ("winsorized_mean", (), {"trim": 1}, (0.95, 0.55, -0.083333, 0.25)),
        (
            "spectral_filter",
            (),
            {"num_malicious": 1, "sigma": 1e-6},
            (0.977934, 0.493649, -0.199586, 0.279174),
        ),
        ("fedseca", (), {"sparsity": 0.5}, (0.91, 0.449384, 0.0, 0.258959)),
        ("residual_reweighting", (), {}, (0.999987, 0.500013, -0.139990, 0.299987)),
        # The long row turns the mean its way, and an honest one is the outlier.
        ("afa", (), {}, (0.22, 0.76, 0.64, 0.06)),
        ("flod", (ROOT,), {"step": 1.0}, (1.0, 1.0, -0.777778, 1.0)),
        ("crfl", (MODEL, KEY), {"radius": 1.0, "std": 0.0}, (0.019763, 0.655929, 0.248972, -0.324308)),
    ],
)
def test_six_rows(name, arrays, hyper, expected):
    np.testing.assert_allclose(jitted(RULES[name].function)(A, *arrays, **hyper), expected, atol=3e-6)


def test_zeno_pp_scores_rows_at_the_root_s_length():
    rule = jax.jit(lambda rate: RULES["zeno_pp"].function.explained(A, ROOT, rate=rate, epsilon=0.1))
    update, info = rule(0.1)
    assert info["selected"].tolist() == [True] * 5 + [False]
    rescaled = A[:5] / np.linalg.norm(A[:5], axis=1, keepdims=True) * np.linalg.norm(ROOT)
    np.testing.assert_allclose(update, rescaled.mean(0), rtol=1e-5)


def test_gas_adds_up_distances_in_groups():
    # Coordinates 1 and 3, and 2 and 4.
    scores = scores_of(np.float64(A), [0, 2, 1, 3], 1, 2, "median")
    expected = [0.141421, 0.316228, 0.424264, 0.413065, 0.608504, 7.643730]
    np.testing.assert_allclose(scores, expected, atol=2e-6)
    update = RULES["gas"].function(A, KEY, num_malicious=1, num_groups=2, rule="median")
    np.testing.assert_allclose(update, [1.0, 0.5, -0.14, 0.3], atol=1e-6)


def test_auror_keeps_the_coordinates_of_its_first_rounds():
    gaps = cluster_gaps(jnp.asarray(A), jnp.ones(6, bool))
    np.testing.assert_allclose(gaps, [4.0, 1.5, 4.14, 1.3], rtol=1e-5)
    rule = from_registry(RULES, "auror", threshold=2.0, num_rounds=2)
    step, state = jax.jit(rule.aggregate), rule.init(6, 4)
    for rows, columns, kept in (
        (A[:, ::-1], [1, 3], 5),
        (A, [0, 2], 5),
        # What differs in the other two alone is not seen any more.
        (A * [0, 1, 0, 1], [0, 2], 6),
        (A, [0, 2], 5),
    ):
        update, state, info = step(jnp.asarray(rows, jnp.float32), state, Context())
        assert np.flatnonzero(state.indicative).tolist() == columns
        assert info["selected"].tolist() == [i < kept for i in range(6)]
        np.testing.assert_allclose(update, np.mean(rows[:kept], axis=0), rtol=1e-5, atol=1e-6)


def test_sparse_fed_sends_later_what_it_did_not_send():
    rule = from_registry(RULES, "sparse_fed", radius=1.0, num_sent=2, decay=0.0)
    step, state = jax.jit(rule.aggregate), rule.init(5, 4)
    for expected in ((0.832443, 0.427016, 0.0, 0.0), (0.832443, 0.0, 0.0, 0.500165)):
        update, state, _ = step(A[:5], state, Context())
        np.testing.assert_allclose(update, expected, atol=1e-6)
    # With momentum, and a row that is not finite, over more rounds.
    rule = from_registry(RULES, "sparse_fed", radius=2.0, num_sent=7, decay=0.7)
    step, state, held = jax.jit(rule.aggregate), rule.init(N, D), np.zeros((2, D))
    for seed in range(5):
        updates, _ = make(seed)
        updates[2, 3] = np.nan
        update, state, _ = step(updates, state, Context())
        np.testing.assert_allclose(update, sparse_fed(updates, 2.0, 7, 0.7, held), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state, held, rtol=1e-4, atol=1e-5)


def test_afa_remembers_and_blocks_clients():
    clients, cohort, random = 9, 6, np.random.default_rng(0)
    rule = from_registry(RULES, "afa", width=1.0)
    step, state = jax.jit(rule.aggregate), rule.init(clients, 4)
    good, bad = np.full((2, clients), 3.0)
    for _ in range(12):
        ids = random.permutation(clients)[:cohort]
        updates = (A[1] + 0.1 * random.normal(size=(cohort, 4))).astype(np.float32)
        # Client 4 sends the opposite.
        updates[ids == 4] *= -1
        trust = good[ids] / (good[ids] + bad[ids])
        trust[beta.cdf(0.5, good[ids], bad[ids]) > 0.95] = 0.0
        sizes = WEIGHTS[:cohort]
        update, state, info = step(updates, state, Context(client_ids=jnp.asarray(ids), weights=sizes))
        expected = afa(updates, sizes, width=1.0, trust=trust)
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
        kept = np.asarray(info["selected"])
        good[ids[kept]] += 1
        bad[ids[~kept & (trust > 0)]] += 1
        np.testing.assert_array_equal(state.good, good)
        np.testing.assert_array_equal(state.bad, bad)
    # It was blocked: its bad rounds are counted no further.
    assert beta.cdf(0.5, good[4], bad[4]) > 0.95
    assert bad[4] < 12 + 3


def test_crfl_clips_a_growing_ball_and_leaves_the_last_model_without_noise():
    hyper = {"radius": 0.5, "growth": 0.25, "cap": 0.9, "std": 0.1, "num_rounds": 3}
    rule = jax.jit(lambda t: RULES["crfl"].function(A, MODEL, KEY, None, t, **hyper))
    noise = 0.1 * jax.random.normal(KEY, (4,))
    for t, limit in ((0, 0.75), (1, 0.9), (2, 0.9)):
        model = MODEL + np.asarray(rule(t)) - (noise if t < 2 else 0.0)
        np.testing.assert_allclose(np.linalg.norm(model), limit, rtol=1e-5)


def test_crfl_certifies_a_radius():
    def one(value):
        return jnp.array([value])

    attack = {
        "shares": one(1 / 20),
        "scales": one(10.0),
        "local_steps": one(30),
        "learning_rates": one(1e-3),
        "poisoned": one(0.05),
    }
    training = {"std": 0.01, "smoothness": 17**0.5, "radii": jnp.array([3.1, 3.2, 3.3])}
    radius = certified_radius(jnp.array([0.9, 0.05, 1.0]), jnp.array([0.05, 0.9, 0.0]), **attack, **training)
    np.testing.assert_allclose(radius, [1.974995, np.nan, np.inf], rtol=1e-5)
    # Two attackers with half of it each, and noise of its own in later rounds.
    halves = {name: jnp.repeat(value, 2) for name, value in attack.items()}
    halves["scales"] = halves["scales"] / 2
    both = certified_radius(one(0.9), one(0.05), **halves, **training, stds=jnp.array([2.0, 3.0, 4.0]))
    kept = np.prod(
        [2 * 0.5 * (1 + _erf(r / s / 2**0.5)) - 1 for r, s in ((3.1, 2.0), (3.2, 3.0), (3.3, 4.0))]
    )
    np.testing.assert_allclose(both, [1.974995 / np.sqrt(kept)], rtol=1e-4)
    lower, upper = vote_bounds(jnp.array([[700, 0, 300]]))
    np.testing.assert_allclose((lower[0], upper[0]), (0.7 - 0.058770, 0.3 + 0.058770), atol=1e-6)


def _erf(x):
    """By its series."""
    total, term = 0.0, x
    for k in range(60):
        total += term / (2 * k + 1)
        term *= -x * x / (k + 1)
    return 2 / np.pi**0.5 * total


def test_noisy_copies_vote():
    def apply(params, x):
        return x @ params["w"] + params["b"]

    params = {"w": jnp.eye(2), "b": jnp.zeros(2)}
    x = jnp.array([[3.0, 0.0], [0.0, 3.0], [0.1, 0.0]])
    votes = jax.jit(lambda: smoothed_votes(apply, params, x, KEY, std=0.2, num_copies=400))()
    assert votes.sum(1).tolist() == [400] * 3
    assert votes[0, 0] == votes[1, 1] == 400
    # The difference of the third one's logits is normal with mean 0.1 and variance 2 · 0.04 (1 + 0.01).
    share = 0.5 * (1 + _erf(0.1 / (2 * 0.04 * 1.01) ** 0.5 / 2**0.5))
    np.testing.assert_allclose(votes[2, 0] / 400, share, atol=4 * (0.25 / 400) ** 0.5)
