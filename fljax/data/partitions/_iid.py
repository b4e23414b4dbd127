"""The partition without skew."""

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import IndexTable, Seed, as_generator, check_sizes, index_table
from fljax.data.partitions.registry import register_partition


@register_partition("iid", source="McMahan et al. 2017")
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
