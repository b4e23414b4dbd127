"""The partition of data that come from users."""

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import IndexTable, Seed, as_generator, index_table
from fljax.data.partitions.registry import register_partition
from fljax.errors import ConfigError


@register_partition("by_client", title="natural clients", source="the data set's own users")
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
