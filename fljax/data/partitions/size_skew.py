"""Partitions whose clients differ in size only; every client's labels are an iid sample."""

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import (
    IndexTable,
    Seed,
    as_generator,
    check_alpha,
    check_sizes,
    index_table,
)
from fljax.data.partitions.registry import register_partition
from fljax.errors import ConfigError


@register_partition("dirichlet_sizes", title="Dirichlet sizes", source="Li et al. 2022")
def dirichlet_sizes(
    labels: ArrayLike, seed: Seed, *, num_clients: int, alpha: float = 0.5, min_size: int = 1
) -> IndexTable:
    """Client sizes by one Dirichlet draw: size_i = s + (N − n·s)·p_i, p ~ Dir(α·1), s = `min_size`.

    E[p_i] = 1/n and Var[p_i] = (1/n)(1 − 1/n)/(nα + 1): a smaller α is more unequal. `min_size` holds by
    construction: every client has its first s examples before the others are shared out.

    Args:
        labels: (N,), only its length is used.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        alpha: α in [1e-6, 1e6].
        min_size: s ≥ 1.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or N < n·s.

    Example:
        >>> int(dirichlet_sizes([0] * 90, 0, num_clients=3, alpha=0.5)[1].sum())
        90

    Source: Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022 (quantity skew).
    """
    check_alpha("dirichlet_sizes", alpha)
    check_sizes("dirichlet_sizes", np.shape(labels)[0], num_clients, min_size)
    random = as_generator(seed)
    return _deal(np.shape(labels)[0], random.dirichlet(np.full(num_clients, alpha)), min_size, random)


@register_partition("power_law_sizes", title="power law sizes", source="Li et al. 2020")
def power_law_sizes(
    labels: ArrayLike, seed: Seed, *, num_clients: int, exponent: float = 1.0, min_size: int = 1
) -> IndexTable:
    """Client sizes by rank: size = s + (N − n·s)·r^−a / Σ k^−a, the ranks r = 1..n in random order.

    `exponent` 0 gives equal sizes. `min_size` holds by construction, as in `dirichlet_sizes`.

    Args:
        labels: (N,), only its length is used.
        seed: a whole number, a JAX key or a NumPy generator.
        num_clients: n.
        exponent: a ≥ 0.
        min_size: s ≥ 1.

    Returns:
        `(table, counts)`, every example with exactly one client.

    Raises:
        ConfigError: if a number is out of range or N < n·s.

    Example:
        >>> sorted(power_law_sizes([0] * 110, 0, num_clients=3, exponent=1.0)[1].tolist())
        [20, 30, 60]

    Source: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, deals its examples
    out by a power law without giving the exponent; this is Zipf's law.
    """
    if not 0 <= exponent < np.inf:
        raise ConfigError(f"power_law_sizes: exponent={exponent} must be finite and at least 0")
    check_sizes("power_law_sizes", np.shape(labels)[0], num_clients, min_size)
    random = as_generator(seed)
    shares = np.exp(-exponent * np.log(np.arange(1, num_clients + 1)))
    return _deal(np.shape(labels)[0], random.permutation(shares / shares.sum()), min_size, random)


def _deal(count: int, shares: np.ndarray, min_size: int, random: np.random.Generator) -> IndexTable:
    """Shuffled examples in stretches of `min_size` and a share of the rest."""
    rest = count - len(shares) * min_size
    edges = np.rint(np.cumsum(shares) * rest).astype(np.int64)
    edges[-1] = rest  # whatever the shares' rounding
    sizes = min_size + np.diff(edges, prepend=0)
    owner = np.empty(count, np.int64)
    owner[random.permutation(count)] = np.repeat(np.arange(len(shares)), sizes)
    return index_table(owner, len(shares), random)
