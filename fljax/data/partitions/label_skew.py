"""Partitions whose clients differ in their labels: Dirichlet, shards, gamma-similarity."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import (
    IndexTable,
    Seed,
    as_generator,
    check_alpha,
    check_sizes,
    draw_owners,
    index_table,
)
from fljax.data.partitions.registry import register_partition
from fljax.errors import ConfigError


@register_partition(
    "dirichlet", title="Dirichlet", source="Yurochkin et al. 2019; Hsu et al. 2019", by_label=True
)
def dirichlet(
    labels: ArrayLike,
    seed: Seed,
    *,
    num_clients: int,
    alpha: float = 0.5,
    per: Literal["class", "client"] = "class",
    min_size: int = 1,
) -> IndexTable:
    """Shares drawn from a Dirichlet distribution; a smaller α is more skewed.

    `per="class"`: every class is split over the clients in shares p ~ Dir(α·1_n). Labels and sizes are both
    skewed. Drawn again as a whole while a client has fewer than `min_size` examples, at most 100 times.

    `per="client"`: every client has ⌊N/n⌋ or ⌈N/n⌉ examples, whose labels are drawn from its own
    q ~ Dir(α·π), π the shares of the classes in the data (for M equal classes α/M each, so that this α is
    M times the α of codes that draw from Dir(α·1_M)). Clients draw in turn, one example each, without
    replacement; where a class has run out, q is restricted to the others, and where q has no weight on any
    of those, the client draws by what is left.

    Args:
        labels: (N,) integers.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        alpha: α in [1e-6, 1e6].
        per: "class" or "client".
        min_size: examples that every client must get.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range, or no draw gave every client `min_size` examples.

    Example:
        >>> labels = np.repeat(np.arange(10), 30)
        >>> dirichlet(labels, 0, num_clients=4, alpha=0.1, per="client")[1].tolist()
        [75, 75, 75, 75]

    Source: per class Yurochkin et al., ICML 2019; per client Hsu et al., arXiv:1909.06335, 2019. Most
    libraries do the first and call it by the second's name.
    """
    check_alpha("dirichlet", alpha)
    if per not in ("class", "client"):
        raise ConfigError(f"dirichlet: per={per!r} must be 'class' or 'client'")
    labels = np.asarray(labels)
    check_sizes("dirichlet", len(labels), num_clients, min_size)
    random = as_generator(seed)
    if per == "client":
        return index_table(_mixtures(labels, num_clients, alpha, random), num_clients, random)

    def draw() -> np.ndarray:
        owner = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            mine = random.permutation(np.flatnonzero(labels == label))
            edges = np.cumsum(random.dirichlet(np.full(num_clients, alpha)))[:-1]
            owner[mine] = np.searchsorted(edges, (np.arange(len(mine)) + random.random()) / len(mine))
        return owner

    advice = "a larger alpha, a smaller min_size, fewer clients or more data"
    return index_table(draw_owners(draw, num_clients, min_size, "dirichlet", advice), num_clients, random)


def _mixtures(labels: np.ndarray, num_clients: int, alpha: float, random: np.random.Generator) -> np.ndarray:
    """Owners (N,), where clients take turns to draw an example from their own mixture of classes."""
    classes, inverse, left = np.unique(labels, return_inverse=True, return_counts=True)
    mixtures = random.dirichlet(np.maximum(alpha * left / left.sum(), 1e-12), size=num_clients)
    stock = [list(random.permutation(np.flatnonzero(inverse == c))) for c in range(len(classes))]
    owner = np.empty(len(labels), np.int64)
    undealt = len(labels)
    while undealt:
        # The last turn, if it has not an example for everyone, goes to random clients.
        waiting = random.permutation(num_clients)[:undealt]
        undealt -= len(waiting)
        while len(waiting):
            weights = np.where(left > 0, mixtures[waiting], 0.0)
            weights = np.where(weights.sum(1, keepdims=True) > 0, weights, left)
            levels = np.cumsum(weights, axis=1)
            # The last level itself is no threshold: rounding could reach it.
            drawn = (random.random((len(waiting), 1)) * levels[:, -1:] >= levels[:, :-1]).sum(1)
            refused = []
            for client, c in zip(waiting, drawn, strict=True):
                if left[c] > 0:
                    left[c] -= 1
                    owner[stock[c].pop()] = client
                else:
                    refused.append(client)
            waiting = np.array(refused, np.int64)
    return owner


@register_partition("shards", source="McMahan et al. 2017", by_label=True)
def shards(
    labels: ArrayLike, seed: Seed, *, num_clients: int, shards_per_client: int = 2, min_size: int = 1
) -> IndexTable:
    """Sort by label, cut into n·k equal shards, and give every client k = `shards_per_client` random ones.

    A client has examples of at most k classes where the size of every class is a multiple of the shard's;
    elsewhere a shard can hold the end of one class and the start of the next. Shard sizes differ by at most
    one. (n = 100 and k = 2 on MNIST: the original's 200 shards of 300.)

    Args:
        labels: (N,) integers.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        shards_per_client: k ≥ 1, n·k ≤ N.
        min_size: examples that every client must get; sizes are fixed, so it either holds or is refused.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or the shards are too small.

    Example:
        >>> labels = np.repeat(np.arange(10), 30)
        >>> table, _ = shards(labels, 0, num_clients=10, shards_per_client=2)
        >>> max(len(set(labels[row])) for row in table)
        2

    Source: McMahan et al., AISTATS 2017 ("pathological non-iid").
    """
    labels = np.asarray(labels)
    check_sizes("shards", len(labels), num_clients, min_size)
    number = num_clients * shards_per_client
    if not 0 < number <= len(labels):
        raise ConfigError(
            f"shards: shards_per_client={shards_per_client} must be between 1 and "
            f"{len(labels) // num_clients}, so that no shard of {num_clients} clients is empty"
        )
    smallest = shards_per_client * (len(labels) // number)
    if smallest < min_size:
        raise ConfigError(
            f"shards: a client of {shards_per_client} shards can have only {smallest} examples, "
            f"fewer than min_size={min_size}"
        )
    random = as_generator(seed)
    # Shards are dealt out like the examples of `iid`, in whole rounds: k to every client.
    client = random.permutation(np.arange(number) % num_clients)
    owner = np.empty(len(labels), np.int64)
    for shard, positions in enumerate(np.array_split(_sorted(labels, random), number)):
        owner[positions] = client[shard]
    return index_table(owner, num_clients, random)


@register_partition("similarity", source="Karimireddy et al. 2020", by_label=True)
def similarity(
    labels: ArrayLike, seed: Seed, *, num_clients: int, gamma: float = 0.5, min_size: int = 1
) -> IndexTable:
    """A random share γ of the examples is dealt out iid; the rest is sorted by label and cut into n parts.

    γ = 1 is `iid`; γ = 0 gives client i the i-th part of the sorted examples. Client sizes differ by at
    most one.

    Args:
        labels: (N,) integers.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        gamma: γ in [0, 1].
        min_size: examples that every client must get, N ≥ n · min_size.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or there are too few examples.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> table, _ = similarity(labels, 0, num_clients=2, gamma=0.2)
        >>> np.bincount(labels[table[0]]).min() < 20
        np.True_

    Source: Karimireddy et al., ICML 2020 (SCAFFOLD, "s % similar"); ByzFL calls it gamma_similarity_niid.
    """
    if not 0 <= gamma <= 1:
        raise ConfigError(f"similarity: gamma={gamma} must be between 0 and 1")
    labels = np.asarray(labels)
    check_sizes("similarity", len(labels), num_clients, min_size)
    random = as_generator(seed)
    order = random.permutation(len(labels))
    common = int(gamma * len(labels) + 0.5)
    owner = np.empty(len(labels), np.int64)
    # The iid part's remainder goes to the last clients and the sorted part's to the first: sizes stay even.
    owner[order[:common]] = num_clients - 1 - np.arange(common) % num_clients
    rest = order[common:]
    for client, positions in enumerate(np.array_split(_sorted(labels[rest], random), num_clients)):
        owner[rest[positions]] = client
    return index_table(owner, num_clients, random)


def _sorted(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Positions by ascending label, in random order inside each class."""
    order = random.permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]
