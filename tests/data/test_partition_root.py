"""Partitions cover, are disjoint and seeded; the root dataset has the counts it promises."""

import inspect

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fljax.data import (
    PARTITIONS,
    by_client,
    dirichlet,
    dirichlet_sizes,
    iid,
    partition_by_label_bias,
    power_law_sizes,
    root_dataset,
    shards,
    similarity,
)
from fljax.errors import ConfigError

LABELS = np.random.default_rng(0).integers(0, 10, 20_000).astype(np.int32)
IDS = np.random.default_rng(1).integers(0, 30, 20_000)
CALLS = {
    "label_bias": lambda seed: partition_by_label_bias(
        LABELS, seed, num_clients=50, num_classes=10, bias=0.5
    ),
    "iid": lambda seed: iid(LABELS, seed, num_clients=37),
    "by_client": lambda seed: by_client(LABELS, seed, client_ids=IDS),
    "dirichlet": lambda seed: dirichlet(LABELS, seed, num_clients=20),
    "shards": lambda seed: shards(LABELS, seed, num_clients=37),
    "similarity": lambda seed: similarity(LABELS, seed, num_clients=37),
    "dirichlet_sizes": lambda seed: dirichlet_sizes(LABELS, seed, num_clients=37, min_size=30),
    "power_law_sizes": lambda seed: power_law_sizes(LABELS, seed, num_clients=37),
}
every = pytest.mark.parametrize("name", CALLS)


def test_every_registry_entry_is_tested():
    assert set(CALLS) == set(PARTITIONS)


@every
def test_every_example_has_exactly_one_client(name):
    table, counts = CALLS[name](3)
    assert table.dtype == counts.dtype == np.int32
    slots = np.arange(table.shape[1]) < counts[:, None]
    assert table.shape[1] == counts.max()
    assert (table[~slots] == -1).all()
    np.testing.assert_array_equal(np.sort(table[slots]), np.arange(len(LABELS)))


@every
def test_the_seed_decides(name):
    first, again, other = CALLS[name](3), CALLS[name](3), CALLS[name](4)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()
    typed, raw = CALLS[name](jax.random.key(3)), CALLS[name](jax.random.PRNGKey(3))
    np.testing.assert_array_equal(typed[0], raw[0])


@every
def test_examples_inside_a_client_are_shuffled(name):
    table, counts = CALLS[name](3)
    # The first half of a client's slots must not be the data set's first half.
    half = table[0, : counts[0] // 2]
    assert abs(half.mean() - table[0, : counts[0]].mean()) < 0.15 * len(LABELS)
    assert (np.diff(table[0, : counts[0]]) < 0).any()


@pytest.mark.parametrize("bias", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("num_clients", [10, 50, 25])
def test_label_bias_follows_the_groups(bias, num_clients):
    table, counts = partition_by_label_bias(LABELS, 0, num_clients=num_clients, num_classes=10, bias=bias)
    client = np.empty(len(LABELS), int)
    for i, row in enumerate(table):
        client[row[: counts[i]]] = i
    # Client i covers the stretch [i, i+1)/n of the unit interval, group l the stretch [l, l+1)/10.
    overlap = np.array(
        [
            [
                max(0.0, min((i + 1) / num_clients, (g + 1) / 10) - max(i / num_clients, g / 10))
                for g in range(10)
            ]
            for i in range(num_clients)
        ]
    )
    in_group = np.full((10, 10), (1 - bias) / 9)
    np.fill_diagonal(in_group, bias)
    expected = 10 * in_group @ overlap.T  # label → client
    found = np.zeros((10, num_clients))
    np.add.at(found, (LABELS, client), 1)
    found /= np.bincount(LABELS)[:, None]
    np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(0.25 / 2000))
    np.testing.assert_allclose(found.sum(1), 1)


def test_iid_sizes_differ_by_at_most_one():
    assert np.ptp(iid(LABELS, 0, num_clients=37)[1]) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: partition_by_label_bias(LABELS, 0, num_clients=5, num_classes=10), "num_clients=5"),
        (lambda: partition_by_label_bias(LABELS, 0, num_clients=20, num_classes=10, bias=1.5), "bias=1.5"),
        (lambda: partition_by_label_bias([0, 0], 0, num_clients=2, num_classes=1), "num_classes=1"),
        (lambda: iid([0, 1], 0, num_clients=3), "2 examples cannot give each of 3 clients"),
        (lambda: by_client([0, 1], 0, client_ids=[0, 1], num_clients=3), "has 2 clients"),
        (
            lambda: by_client([0, 1, 1], 0, client_ids=[0, 2, 2]),
            r"1 of 3 clients \(client 1 first\)",
        ),
        (lambda: by_client([0, 1], 0, client_ids=[0, 1], min_size=2), "2 of 2 clients.*min_size=2"),
        (lambda: by_client([0, 1], 0, client_ids=[0]), "1 client ids for 2 examples"),
        (lambda: root_dataset(LABELS, 0, size=20_000), "size=20000"),
        (lambda: root_dataset(LABELS, 0, size=0), "size=0"),
        (lambda: root_dataset(LABELS, 0, bias=1.1), "bias=1.1"),
        (lambda: root_dataset(LABELS, 0, bias=0.5, bias_class=10), "bias_class=10"),
        (lambda: root_dataset([0, 1, 1, 1], 0, size=3, bias=0.3, bias_class=1), "class 0 wanted"),
    ],
)
def test_what_cannot_be_is_one_sentence(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 600),
    bias=st.one_of(st.none(), st.floats(0, 1)),
    bias_class=st.integers(0, 9),
    seed=st.integers(0, 5),
)
def test_root_dataset(size, bias, bias_class, seed):
    picked = root_dataset(LABELS, seed, size=size, bias=bias, bias_class=bias_class)
    assert picked.dtype == np.int32
    assert len(np.unique(picked)) == size
    counts = np.bincount(LABELS[picked], minlength=10)
    if bias is not None:
        assert counts[bias_class] == int(size * bias + 1e-9)
        others = np.delete(counts, bias_class)
        assert np.ptp(others) <= 1


def test_the_authors_default_is_stratified():
    counts = np.bincount(LABELS[root_dataset(LABELS, 0, size=100, bias=0.1)])
    np.testing.assert_array_equal(counts, 10)


def test_uniform_root_is_uniform():
    skewed = np.r_[np.zeros(9000, int), np.ones(1000, int)]
    share = np.mean([skewed[root_dataset(skewed, seed, size=100)].mean() for seed in range(200)])
    assert abs(share - 0.1) < 0.01


def test_partition_functions_take_labels_and_seed_first():
    for entry in PARTITIONS.values():
        assert list(inspect.signature(entry.function).parameters)[:2] == ["labels", "seed"]
