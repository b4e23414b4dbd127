"""Every partition has its own law, and none of the others could stand in for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fljax.data import (
    PARTITIONS,
    dirichlet,
    dirichlet_sizes,
    iid,
    partition_by_label_bias,
    power_law_sizes,
    shards,
    similarity,
)
from fljax.data.partitions.index_table import MOST_DRAWS
from fljax.errors import ConfigError

M, N, CLIENTS = 10, 20_000, 40
BALANCED = np.random.default_rng(0).permutation(np.arange(N) % M).astype(np.int32)

# One call per scheme; the tests below tell all of them apart.
SCHEMES = {
    "iid": lambda labels, seed, n, s: iid(labels, seed, num_clients=n, min_size=s),
    "label_bias": lambda labels, seed, n, s: partition_by_label_bias(
        labels, seed, num_clients=n, num_classes=M, min_size=s
    ),
    "per class": lambda labels, seed, n, s: dirichlet(labels, seed, num_clients=n, alpha=0.5, min_size=s),
    "per client": lambda labels, seed, n, s: dirichlet(
        labels, seed, num_clients=n, alpha=0.5, per="client", min_size=s
    ),
    "shards": lambda labels, seed, n, s: shards(labels, seed, num_clients=n, min_size=s),
    "similarity": lambda labels, seed, n, s: similarity(labels, seed, num_clients=n, min_size=s),
    "dirichlet_sizes": lambda labels, seed, n, s: dirichlet_sizes(labels, seed, num_clients=n, min_size=s),
    "power_law_sizes": lambda labels, seed, n, s: power_law_sizes(labels, seed, num_clients=n, min_size=s),
}
schemes = pytest.mark.parametrize("name", SCHEMES)


def owners(table, counts, size):
    """(N,) the client of each example; every example must have exactly one."""
    assert table.dtype == counts.dtype == np.int32
    held = np.arange(table.shape[1]) < counts[:, None]
    assert table.shape[1] == counts.max()
    assert (table[~held] == -1).all()
    np.testing.assert_array_equal(np.sort(table[held]), np.arange(size))
    owner = np.empty(size, int)
    owner[table[held]] = np.repeat(np.arange(len(counts)), counts)
    return owner


def class_counts(labels, drawn):
    """(n, M) examples of each client and class."""
    owner = owners(*drawn, len(labels))
    found = np.zeros((len(drawn[1]), M), int)
    np.add.at(found, (owner, labels), 1)
    return found


@st.composite
def problems(draw):
    number, clients = draw(st.integers(1, 300)), draw(st.integers(1, 12))
    classes = draw(st.integers(1, M))
    labels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, classes, number)
    return labels, clients, draw(st.integers(1, 8)), draw(st.integers(0, 2**32))


@schemes
@settings(max_examples=40, deadline=None)
@given(problem=problems())
def test_any_problem_is_covered_once_or_refused(name, problem):
    labels, clients, min_size, seed = problem
    try:
        table, counts = SCHEMES[name](labels, seed, clients, min_size)
    except ConfigError:
        # Enough examples must do, unless sizes are random, shards too small or groups too many.
        if name in ("iid", "per client", "similarity", "dirichlet_sizes", "power_law_sizes"):
            assert len(labels) < clients * min_size
        return
    owners(table, counts, len(labels))
    assert counts.shape == (clients,)
    assert counts.min() >= min_size
    again = SCHEMES[name](labels, seed, clients, min_size)
    np.testing.assert_array_equal(table, again[0])
    np.testing.assert_array_equal(counts, again[1])


@schemes
def test_another_seed_is_another_draw(name):
    first, other = (owners(*SCHEMES[name](BALANCED, seed, CLIENTS, 1), N) for seed in (0, 1))
    assert (first != other).mean() > 0.2


# ------------------------------------------------------------------------------------------- the laws
# Each takes (draws, n, M) counts of examples by client and class: do they follow one scheme's law?


def label_spread(counts):
    """Variance of the class shares of a client, beyond what a plain sample would have."""
    sizes = counts.sum(-1, keepdims=True)
    shares = counts / np.maximum(sizes, 1)
    sampling = (1 / M) * (1 - 1 / M) / np.maximum(sizes, 1)
    return float(((shares - 1 / M) ** 2 - sampling).mean())


def near(value, expected, tolerance):
    return abs(value - expected) <= tolerance * expected


def equal_sizes(counts):
    return np.ptp(counts.sum(-1), axis=-1).max() <= 1


def is_iid(counts):
    return equal_sizes(counts) and abs(label_spread(counts)) < 2e-4


def is_label_bias(counts):
    # Group g is the clients 4g to 4g + 3; half of class g's examples is there.
    of_group = counts.reshape(len(counts), M, CLIENTS // M, M).sum(2).mean(0) / (N / M)
    # Its clients are chosen one example at a time, which makes sizes vary as counts do.
    sizes = counts.sum(-1)
    expected = np.where(np.eye(M), 0.5, 0.5 / (M - 1))
    return np.allclose(of_group, expected, atol=0.02) and near(sizes.var(), N / CLIENTS, 0.25)


def is_per_class(counts):
    # The share of a class at one client: mean 1/n, variance (1/n)(1 - 1/n)/(n alpha + 1), alpha = 0.5.
    shares = counts / counts.sum(1, keepdims=True)
    variance = (1 / CLIENTS) * (1 - 1 / CLIENTS) / (CLIENTS * 0.5 + 1)
    # Classes are independent: a client's size varies as a mean of ten shares does.
    sizes = counts.sum(-1) / N
    return near(shares.var(), variance, 0.15) and near(sizes.var(), variance / M, 0.25)


def is_per_client(counts):
    # The share of a class among one client's examples has variance (1/M)(1 - 1/M)/(alpha + 1), alpha = 0.5,
    # and takes any value; with 40 clients the classes that run out cost a third of the variance.
    spread = label_spread(counts)
    return equal_sizes(counts) and near(spread, 0.1 * 0.9 / 1.5, 0.35) and np.unique(counts).size > 200


def is_shards(counts):
    # Two shards of 250 examples: two classes, or twice the same one.
    present = (counts > 0).sum(-1)
    return equal_sizes(counts) and present.max() <= 2 and set(np.unique(counts)) == {0, 250, 500}


def is_similarity(counts):
    # Half of a client's 500 examples is iid; the other half is one or two neighbouring classes.
    biggest_two = np.sort(counts, -1)[..., -2:].sum(-1) / counts.sum(-1)
    return equal_sizes(counts) and near(biggest_two.mean(), 0.5 + 0.5 * 2 / M, 0.1) and counts.min() > 5


def is_dirichlet_sizes(counts):
    shares = counts.sum(-1) / N
    variance = (1 / CLIENTS) * (1 - 1 / CLIENTS) / (CLIENTS * 0.5 + 1)
    return near(shares.var(), variance, 0.3) and abs(label_spread(counts)) < 5e-3


def is_power_law_sizes(counts):
    ranked = -np.sort(-counts.sum(-1), -1)
    expected = 1 / np.arange(1, CLIENTS + 1)
    return np.allclose(ranked, 1 + (N - CLIENTS) * expected / expected.sum(), atol=1.01)


LAWS = {
    "iid": is_iid,
    "label_bias": is_label_bias,
    "per class": is_per_class,
    "per client": is_per_client,
    "shards": is_shards,
    "similarity": is_similarity,
    "dirichlet_sizes": is_dirichlet_sizes,
    "power_law_sizes": is_power_law_sizes,
}


@pytest.fixture(scope="module")
def drawn():
    return {
        name: np.stack([class_counts(BALANCED, scheme(BALANCED, seed, CLIENTS, 1)) for seed in range(12)])
        for name, scheme in SCHEMES.items()
    }


@pytest.mark.parametrize("law", LAWS)
def test_a_law_holds_for_its_own_scheme_and_for_no_other(law, drawn):
    assert [name for name, counts in drawn.items() if LAWS[law](counts)] == [law]


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_dirichlet_concentration_per_class(alpha):
    n = 20
    counts = np.stack(
        [class_counts(BALANCED, dirichlet(BALANCED, s, num_clients=n, alpha=alpha)) for s in range(40)]
    )
    shares = counts / counts.sum(1, keepdims=True)
    assert near(shares.var(), (1 / n) * (1 - 1 / n) / (n * alpha + 1), 0.12)


@pytest.mark.parametrize(("alpha", "tolerance"), [(0.1, 0.25), (1.0, 0.15), (10.0, 0.1)])
def test_dirichlet_concentration_per_client(alpha, tolerance):
    # The concentration is alpha in all, not alpha for each class: ten times less would show.
    counts = np.stack(
        [
            class_counts(BALANCED, dirichlet(BALANCED, s, num_clients=200, alpha=alpha, per="client"))
            for s in range(4)
        ]
    )
    assert near(label_spread(counts), 0.1 * 0.9 / (alpha + 1), tolerance)


def test_dirichlet_per_client_follows_the_data_sets_classes():
    labels = np.repeat([0, 1, 2], [7000, 2000, 1000])
    counts = class_counts(labels, dirichlet(labels, 0, num_clients=50, alpha=200.0, per="client"))
    np.testing.assert_allclose(counts[:, :3] / 200, np.tile([0.7, 0.2, 0.1], (50, 1)), atol=0.15)


@pytest.mark.parametrize("per", ["class", "client"])
@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_dirichlet_at_its_bounds(per, alpha):
    try:
        counts = class_counts(BALANCED, dirichlet(BALANCED, 0, num_clients=5, alpha=alpha, per=per))
    except ConfigError:
        assert (per, alpha) == ("class", 1e-6)  # ten classes can miss one of five clients
        return
    biggest = counts.max(1) / counts.sum(1)
    if alpha > 1:
        assert biggest.max() < 0.2
    else:
        # Ten classes of one client each: whoever wants a class that is gone takes another.
        assert biggest.mean() > 0.45


def test_shards_of_unequal_classes_are_still_few_stretches():
    labels = np.random.default_rng(3).choice(M, 5003, p=np.arange(1, 11) / 55)
    table, counts = shards(labels, 0, num_clients=20, shards_per_client=3)
    assert np.ptp(counts) <= 3
    assert class_counts(labels, (table, counts)).astype(bool).sum(1).max() <= 6
    one = class_counts(BALANCED, shards(BALANCED, 0, num_clients=M, shards_per_client=1))
    assert sorted(one.argmax(1)) == list(range(M))
    assert (one.max(1) == N // M).all()


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.8])
def test_similarity_share(gamma):
    counts = class_counts(BALANCED, similarity(BALANCED, 0, num_clients=M, gamma=gamma))
    # Client i has class i of the sorted part and a tenth of the other, but for sampling.
    np.testing.assert_allclose(np.diag(counts) / counts.sum(1), 1 - gamma + gamma / M, atol=0.04)
    assert (counts.argmax(1) == np.arange(M)).all()


def test_size_skews_keep_the_minimum():
    for draw in (dirichlet_sizes, power_law_sizes):
        assert draw(BALANCED, 0, num_clients=CLIENTS, min_size=100)[1].min() >= 100
        assert (draw(BALANCED[:400], 0, num_clients=CLIENTS, min_size=10)[1] == 10).all()
    assert np.ptp(power_law_sizes(BALANCED, 0, num_clients=30, exponent=0.0)[1]) <= 1
    sizes = dirichlet_sizes(BALANCED, 0, num_clients=CLIENTS, alpha=1e-6)[1]
    assert sorted(sizes)[-2:] == [1, N - CLIENTS + 1]


@pytest.mark.parametrize("seed", range(3))
def test_a_minimum_that_already_holds_changes_nothing(seed):
    for name in ("per class", "label_bias"):
        free = SCHEMES[name](BALANCED, seed, M, 1)
        np.testing.assert_array_equal(free[0], SCHEMES[name](BALANCED, seed, M, int(free[1].min()))[0])
        more = SCHEMES[name](BALANCED, seed, M, int(free[1].min()) + 1)
        assert more[1].min() > free[1].min()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dirichlet(BALANCED, 0, num_clients=5, alpha=0.0), "alpha=0.0 must be between 1e-6 and 1e6"),
        (lambda: dirichlet(BALANCED, 0, num_clients=5, alpha=float("nan")), "alpha=nan"),
        (
            lambda: dirichlet(BALANCED, 0, num_clients=5, per="label"),
            "per='label' must be 'class'",
        ),
        (
            lambda: dirichlet(BALANCED[:100], 0, num_clients=50, alpha=0.01),
            f"dirichlet: none of {MOST_DRAWS} draws .* the smallest 0.*larger alpha",
        ),
        (lambda: dirichlet(BALANCED[:9], 0, num_clients=5, min_size=2), "9 examples cannot give each of 5"),
        (lambda: shards(BALANCED[:50], 0, num_clients=20, shards_per_client=3), "between 1 and 2"),
        (lambda: shards(BALANCED, 0, num_clients=20, shards_per_client=0), "shards_per_client=0"),
        (
            lambda: shards(BALANCED[:59], 0, num_clients=10, min_size=5),
            "only 4 examples, fewer than min",
        ),
        (lambda: similarity(BALANCED, 0, num_clients=5, gamma=1.5), "gamma=1.5 must be between 0 and 1"),
        (lambda: dirichlet_sizes(BALANCED, 0, num_clients=5, alpha=-1.0), "dirichlet_sizes: alpha=-1.0"),
        (lambda: power_law_sizes(BALANCED, 0, num_clients=5, exponent=-0.1), "exponent=-0.1"),
        (lambda: iid(BALANCED, 0, num_clients=5, min_size=0), "min_size=0 must be at least 1"),
        (lambda: iid(BALANCED, 0, num_clients=0), "num_clients=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_every_scheme_is_told_apart():
    tested = {"dirichlet" if name.startswith("per ") else name for name in SCHEMES}
    assert tested | {"by_client"} == set(PARTITIONS)
    assert set(LAWS) == set(SCHEMES)
