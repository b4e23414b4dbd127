"""A round's clients: which are drawn, and that nobody else costs anything."""

import re
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fljax.config.schema import parse_config
from fljax.data import PARTITIONS, Dataset, register_partition
from fljax.engine import batches
from fljax.engine.batches import sample_without_replacement
from fljax.engine.round import draw_cohort
from fljax.engine.state import RoundData
from fljax.simulation.experiment import assemble

NOTHING = jnp.zeros(0)


def clients(malicious, *, padding=0, named=True):
    """What a draw reads, with or without the list of attackers, which may be longer than they are many."""
    malicious = np.asarray(malicious, bool)
    ids = np.r_[np.flatnonzero(malicious), np.full(padding, len(malicious))].astype(np.int32)
    data = RoundData(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, jnp.asarray(malicious))
    return data._replace(attackers=jnp.asarray(ids)) if named else data


def drawn(data, size, in_cohort, seeds):
    keys = jax.random.split(jax.random.key(3), seeds)
    return np.asarray(jax.jit(jax.vmap(lambda k: draw_cohort(k, data, size, in_cohort)))(keys))


@pytest.mark.parametrize("in_cohort", [None, 0, 2, 3])
def test_every_possible_cohort_is_as_likely_as_the_others(in_cohort):
    malicious = np.array([0, 1, 1, 0, 0, 1, 0, 1], bool)
    possible = [
        each
        for each in combinations(range(8), 3)
        if in_cohort is None or malicious[list(each)].sum() == in_cohort
    ]
    rows = drawn(clients(malicious), 3, in_cohort, 4000)
    found, counts = np.unique(rows, axis=0, return_counts=True)
    assert [tuple(row) for row in found] == possible
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_longer_list_of_attackers_and_none_at_all_draw_the_same():
    malicious = np.random.default_rng(0).permutation(30) < 12
    rows = drawn(clients(malicious), 10, 3, 50)
    assert (np.diff(rows, axis=1) > 0).all()
    np.testing.assert_array_equal(malicious[rows].sum(1), 3)
    for other in (clients(malicious, padding=4), clients(malicious, named=False)):
        np.testing.assert_array_equal(drawn(other, 10, 3, 50), rows)
    everybody, nobody = clients(np.ones(9)), clients(np.zeros(9))
    np.testing.assert_array_equal(drawn(everybody, 9, 9, 1), [np.arange(9)])
    np.testing.assert_array_equal(drawn(nobody, 9, 0, 1), [np.arange(9)])


def test_the_last_of_a_million_clients_is_drawn_like_the_first():
    malicious = np.arange(10**6) % 5 == 0
    rows = drawn(clients(malicious), 100, 20, 40)
    np.testing.assert_array_equal(malicious[rows].sum(1), 20)
    for kind in (rows[malicious[rows]], rows[~malicious[rows]]):
        assert stats.kstest(kind / 10**6, "uniform").pvalue > 1e-3


def test_subsets_are_those_of_floyd_s_algorithm_however_they_are_found():
    counts = jnp.arange(1, 41).repeat(20)
    keys = jax.random.split(jax.random.key(0), len(counts))

    def sample(largest_loop, steps_are_cheap):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "LARGEST_LOOP", largest_loop)
            patch.setattr(batches, "_steps_are_cheap", lambda: steps_are_cheap)
            return jax.jit(jax.vmap(lambda *of: sample_without_replacement(*of, 16)))(keys, counts)

    by_loop, by_sort, by_pairs = sample(16, True), sample(0, True), sample(16, False)
    for found in (by_sort, by_pairs):
        for one, other in zip(by_loop, found, strict=True):
            np.testing.assert_array_equal(one, other)


# --- what a round costs -------------------------------------------------------------------------------

N, SIDE, HELD = 20_011, 2, 6


def six_of_all(labels, seed, *, num_clients):
    """Six examples a client, which others hold as well."""
    places = np.arange(HELD * num_clients).reshape(num_clients, HELD) % len(labels)
    return places.astype(np.int32), np.full(num_clients, HELD, np.int32)


@pytest.fixture
def registered():
    """A partition for a huge number of clients, of which no other test learns."""
    register_partition("six_of_all")(six_of_all)
    yield
    PARTITIONS.remove("six_of_all")


ROUND = {
    "num_clients": N,
    "cohort_size": 7,
    "partition": {"name": "six_of_all"},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
}
IMAGES = np.random.default_rng(0).normal(size=(60, SIDE, SIDE, 1)).astype(np.float32)
LABELS = np.arange(60, dtype=np.int32) % 3
DATA = Dataset(IMAGES, LABELS, IMAGES[:9], LABELS[:9], 3, "random")
PIXELS = [[[row, column]] for row in range(SIDE) for column in range(SIDE)]
# A row of an array is read and written in place, perhaps within one of these.
IN_PLACE = {"gather", "scatter", "dynamic-update-slice", "fusion", "call", "while", "conditional", "tuple"}
HANDED_ON = {"parameter", "get-tuple-element", "bitcast"}


@pytest.mark.parametrize(
    "change",
    [
        {
            "client": {"name": "momentum"},
            "aggregator": {"name": "foolsgold"},
            "attack": {"name": "mimic_warmup", "fraction": 0.2, "in_cohort": 2},
        },
        {
            "aggregator": {"name": "mean"},
            "attack": {
                "name": "distributed_backdoor",
                "fraction": 0.2,
                "parts": [[[r, c]] for r in range(2) for c in range(2)],
            },
        },
    ],
)
def test_a_round_touches_no_array_of_all_clients_but_in_place(change, registered):
    experiment = assemble(parse_config(ROUND | change), dataset=DATA)
    state, data = experiment.state

    def rounds(state, data):
        return jax.lax.fori_loop(0, 2, lambda _, state: experiment.step(state, data)[0], state)

    compiled = jax.jit(rounds, donate_argnums=0).lower(state, data).compile()
    many = {str(N), str(int(data.malicious.sum()))}
    results = re.findall(r" = (\([^=]*?\)|\S+) ([\w-]+)\(", compiled.as_text())
    touched = {operation for shape, operation in results if many & set(re.findall(r"\d+", shape))}
    assert touched - HANDED_ON <= IN_PLACE
    # Nor is there room for a copy of one.
    assert compiled.memory_analysis().temp_size_in_bytes < N
