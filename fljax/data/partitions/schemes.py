"""Which client holds which example: the paper's groups, iid, natural clients, and the table of schemes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import (
    IndexTable,
    Seed,
    as_generator,
    check_sizes,
    draw_owners,
    index_table,
)
from fljax.data.partitions.label_skew import dirichlet, shards, similarity
from fljax.data.partitions.size_skew import dirichlet_sizes, power_law_sizes
from fljax.errors import ConfigError


class Partition(NamedTuple):
    """One registry entry: the function, and where the scheme was published."""

    function: Callable[..., IndexTable]
    summary: str
    source: str


def partition_by_label_bias(
    labels: ArrayLike,
    seed: Seed,
    *,
    num_clients: int,
    num_classes: int,
    bias: float = 0.5,
    min_size: int = 1,
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
        min_size: examples that every client must get; drawn again until it does, at most 100 times.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or no draw gave every client `min_size` examples.

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
    check_sizes("label_bias", len(labels), num_clients, min_size)
    random = as_generator(seed)
    count = len(labels)

    def draw() -> np.ndarray:
        own = random.random(count) < bias
        other = (labels + 1 + random.integers(num_classes - 1, size=count)) % num_classes
        group = np.where(own, labels, other)
        place = (group + random.random(count)) * num_clients / num_classes
        return np.minimum(place.astype(np.int64), num_clients - 1)

    advice = "fewer clients, a smaller bias or more data"
    return index_table(draw_owners(draw, num_clients, min_size, "label_bias", advice), num_clients, random)


def iid(labels: ArrayLike, seed: Seed, *, num_clients: int, min_size: int = 1) -> IndexTable:
    """Shuffle the examples and deal them out evenly; client sizes differ by at most one.

    Args:
        labels: (N,), only its length is used.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        min_size: examples that every client must get, N ≥ n · min_size.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if there are too few examples.

    Example:
        >>> iid([0] * 7, 0, num_clients=3)[1].tolist()
        [3, 2, 2]

    Source: McMahan et al., AISTATS 2017.
    """
    random = as_generator(seed)
    owner = np.empty(np.shape(labels)[0], np.int64)
    check_sizes("iid", len(owner), num_clients, min_size)
    owner[random.permutation(len(owner))] = np.arange(len(owner)) % num_clients
    return index_table(owner, num_clients, random)


def by_client(
    labels: ArrayLike,
    seed: Seed,
    *,
    client_ids: ArrayLike,
    num_clients: int | None = None,
    min_size: int = 1,
) -> IndexTable:
    """Natural clients: every example stays with the user it comes from.

    Args:
        labels: (N,), only its length is used.
        seed: orders the examples inside each client.
        client_ids: (N,) integers in [0, n).
        num_clients: n; None for the largest id + 1.
        min_size: examples that every client must have.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if `num_clients` is not the number of natural clients or one of them is too small.

    Example:
        >>> by_client([0, 1, 1], 0, client_ids=[1, 0, 1])[1].tolist()
        [1, 2]
    """
    owner = np.asarray(client_ids, np.int64)
    if owner.shape != np.shape(labels):
        raise ConfigError(f"by_client: {owner.size} client ids for {np.size(labels)} examples")
    natural = int(owner.max()) + 1
    if num_clients is not None and num_clients != natural:
        raise ConfigError(f"by_client: num_clients={num_clients}, but the data set has {natural} clients")
    small = np.flatnonzero(np.bincount(owner, minlength=natural) < min_size)
    if len(small):
        raise ConfigError(
            f"by_client: {len(small)} of {natural} clients (client {small[0]} first) have fewer than "
            f"min_size={min_size} examples outside the root dataset"
        )
    return index_table(owner, natural, as_generator(seed))


PARTITIONS: Mapping[str, Partition] = {
    "label_bias": Partition(partition_by_label_bias, "the paper's groups with bias q", "Fang et al. 2020"),
    "iid": Partition(iid, "shuffled and dealt out evenly", "McMahan et al. 2017"),
    "by_client": Partition(by_client, "natural clients (users)", "the data set's own users"),
    "dirichlet": Partition(
        dirichlet,
        "Dirichlet shares: of each class over clients, or of each client's classes",
        "Yurochkin et al. 2019; Hsu et al. 2019",
    ),
    "shards": Partition(shards, "a few pieces each of the examples sorted by label", "McMahan et al. 2017"),
    "similarity": Partition(
        similarity, "a share gamma iid, the rest sorted by label", "Karimireddy et al. 2020"
    ),
    "dirichlet_sizes": Partition(
        dirichlet_sizes, "iid labels, client sizes by a Dirichlet draw", "Li et al. 2022"
    ),
    "power_law_sizes": Partition(
        power_law_sizes, "iid labels, client sizes by a power law of their rank", "Li et al. 2020"
    ),
}
