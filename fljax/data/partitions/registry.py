"""Partitions by name."""

from collections.abc import Callable
from typing import TypeVar

from fljax.data.partitions.index_table import IndexTable
from fljax.registry import Registry, with_options

Scheme = TypeVar("Scheme", bound=Callable[..., IndexTable])

PARTITIONS = Registry("partition", by_label=False)


@with_options
def register_partition(
    name: str | None = None, *, title: str | None = None, source: str = "", by_label: bool = False
) -> Callable[[Scheme], Scheme]:
    """Make a partition known under a name, for configurations and lists; a decorator.

    The function is called as `scheme(labels, seed, **options)`, with the labels (N,) of the examples outside
    the root dataset and a NumPy generator, and returns what `fljax.data.iid` does: a table (n, s_max) of
    positions and the clients' sizes (n,). `num_clients`, `num_classes` and `client_ids`, those of them that
    it takes, come from the configuration and the data set; its other keyword-only parameters are its options.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        by_label: whether it needs the class of every example; data without one, as for regression, are
            refused then.

    Returns:
        The decorator, which returns the function as it is.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> import numpy as np
        >>> @register_partition()
        ... def in_order(labels, seed, *, num_clients: int):
        ...     '''Examples in the order of the data set, equally many to each client.'''
        ...     size = len(labels) // num_clients
        ...     return np.arange(num_clients * size).reshape(num_clients, size), np.full(num_clients, size)
        >>> PARTITIONS["in_order"].summary
        'Examples in the order of the data set, equally many to each client.'
        >>> PARTITIONS.remove("in_order")
    """
    return PARTITIONS.register(name, title=title, source=source, by_label=by_label)
