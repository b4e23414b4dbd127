"""Which client holds which example: index tables, never copies.

Every partition returns `(table, counts)`: `table` (n, s_max) int32 holds the positions of client i's
examples in its first `counts[i]` slots and -1 after them. The order inside a client is random.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from fljax.errors import ConfigError

IndexTable = tuple[np.ndarray, np.ndarray]
Seed = int | np.random.Generator | jax.Array


class Partition(NamedTuple):
    """One registry entry: the function, and where the scheme was published."""

    function: Callable[..., IndexTable]
    summary: str
    source: str


def as_generator(seed: Seed) -> np.random.Generator:
    """A NumPy generator from a whole number, a typed or raw JAX key, or a generator (returned as it is)."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, jax.Array):
        typed = jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key)
        return np.random.default_rng(np.asarray(jax.random.key_data(seed) if typed else seed).ravel())
    return np.random.default_rng(seed)


def partition_by_label_bias(
    labels: ArrayLike, seed: Seed, *, num_clients: int, num_classes: int, bias: float = 0.5
) -> IndexTable:
    """The paper's groups: an example of label l goes to group l with probability q = `bias`.

    The clients are split evenly into one group per class. An example goes to its own group with probability
    q, to each other group with probability (1 − q)/(M − 1), and to a uniformly random client of the group.
    q = 1/M is iid. When M does not divide n, groups share their border clients in proportion.

    Args:
        labels: (N,) integers in [0, num_classes).
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n ≥ num_classes.
        num_classes: M ≥ 2.
        bias: q in [0, 1].

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or a client would get no example.

    Example:
        >>> table, counts = partition_by_label_bias([0, 1] * 50, 0, num_clients=2, num_classes=2, bias=1.0)
        >>> counts.tolist(), sorted(table[1].tolist())[:3]
        ([50, 50], [1, 3, 5])

    Source: Fang et al., USENIX Security 2020; Cao et al., NDSS 2021.
    """
    labels = np.asarray(labels)
    if not 0 <= bias <= 1:
        raise ConfigError(f"label_bias: bias={bias} must be between 0 and 1")
    if num_classes < 2:
        raise ConfigError(f"label_bias: num_classes={num_classes} must be at least 2")
    if num_clients < num_classes:
        raise ConfigError(
            f"label_bias: num_clients={num_clients} must be at least the number of classes, {num_classes}"
        )
    random = as_generator(seed)
    count = len(labels)
    own = random.random(count) < bias
    other = (labels + 1 + random.integers(num_classes - 1, size=count)) % num_classes
    group = np.where(own, labels, other)
    place = (group + random.random(count)) * num_clients / num_classes
    return _table(np.minimum(place.astype(np.int64), num_clients - 1), num_clients, random, "label_bias")


def iid(labels: ArrayLike, seed: Seed, *, num_clients: int) -> IndexTable:
    """Shuffle the examples and deal them out evenly; client sizes differ by at most one.

    Args:
        labels: (N,), only its length is used.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n ≤ N.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if there are fewer examples than clients.

    Example:
        >>> iid([0] * 7, 0, num_clients=3)[1].tolist()
        [3, 2, 2]

    Source: McMahan et al., AISTATS 2017.
    """
    random = as_generator(seed)
    owner = np.empty(np.shape(labels)[0], np.int64)
    owner[random.permutation(len(owner))] = np.arange(len(owner)) % num_clients
    return _table(owner, num_clients, random, "iid")


def by_client(
    labels: ArrayLike, seed: Seed, *, client_ids: ArrayLike, num_clients: int | None = None
) -> IndexTable:
    """Natural clients: every example stays with the user it comes from.

    Args:
        labels: (N,), only its length is used.
        seed: orders the examples inside each client.
        client_ids: (N,) integers in [0, n).
        num_clients: n; None for the largest id + 1.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if `num_clients` is not the number of natural clients.

    Example:
        >>> by_client([0, 1, 1], 0, client_ids=[1, 0, 1])[1].tolist()
        [1, 2]
    """
    owner = np.asarray(client_ids, np.int64)
    natural = int(owner.max()) + 1
    if num_clients is not None and num_clients != natural:
        raise ConfigError(f"by_client: num_clients={num_clients}, but the data set has {natural} clients")
    if owner.shape != np.shape(labels):
        raise ConfigError(f"by_client: {owner.size} client ids for {np.size(labels)} examples")
    return _table(owner, natural, as_generator(seed), "by_client")


def _table(owner: np.ndarray, num_clients: int, random: np.random.Generator, name: str) -> IndexTable:
    """Index table from each example's owner, in random order inside a client."""
    counts = np.bincount(owner, minlength=num_clients)
    if counts.min() == 0:
        empty = np.flatnonzero(counts == 0)
        raise ConfigError(
            f"{name}: {len(empty)} of {num_clients} clients got no example (client {empty[0]} first); "
            f"use fewer clients, a smaller bias or more data"
        )
    order = random.permutation(len(owner))
    order = order[np.argsort(owner[order], kind="stable")]
    table = np.full((num_clients, counts.max()), -1, np.int32)
    table[np.arange(counts.max()) < counts[:, None]] = order
    return table, counts.astype(np.int32)


PARTITIONS: Mapping[str, Partition] = {
    "label_bias": Partition(partition_by_label_bias, "the paper's groups with bias q", "Fang et al. 2020"),
    "iid": Partition(iid, "shuffled and dealt out evenly", "McMahan et al. 2017"),
    "by_client": Partition(by_client, "natural clients (users)", "the data set's own users"),
}
