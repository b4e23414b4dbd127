"""The paper's partition."""

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
from fljax.data.partitions.registry import register_partition
from fljax.errors import ConfigError


@register_partition("label_bias", title="label bias", source="Fang et al. 2020", by_label=True)
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
