"""A model's tensors as columns of the updates."""

import math
from itertools import accumulate
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.base import Head, Layers
from fljax.numerics.checks import ArgumentError, shown
from fljax.numerics.sharding import column_devices


def checked_layers(layers: Any, d: int) -> Layers:
    """The tensors that d columns are made of, also from a list of their shapes.

    Raises:
        ArgumentError: if they are none, or have another number of entries.
    """
    if not isinstance(layers, Layers):
        try:
            layers = Layers(layers)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"layers must be the shapes of a model's tensors, got {shown(layers)}"
            ) from None
    total = sum(math.prod(shape) for shape in layers.shapes)
    if total != d:
        raise ArgumentError(f"layers have {total} entries in all, the updates {d}")
    return layers


def checked_head(head: Any, d: int) -> Head:
    """The last layer among d columns.

    Raises:
        ArgumentError: if it is none, or reaches beyond them.
    """
    if not isinstance(head, Head):
        raise ArgumentError(f"head must be a Head, got {shown(head)}")
    end = max(head.kernel + head.num_features * head.num_classes, (head.bias or 0) + head.num_classes)
    if end > d:
        raise ArgumentError(f"head reaches to entry {end}, the updates have {d}")
    return head


def starts_of(layers: Layers) -> list[int]:
    """Where the tensors begin, and where the last one ends."""
    return [0, *accumulate(math.prod(shape) for shape in layers.shapes)]


def columns_of(layers: Layers) -> Array:
    """Which column belongs to which tensor, (d, number of tensors) bool."""
    starts = np.array(starts_of(layers), np.int32)
    columns = jnp.arange(starts[-1], dtype=jnp.int32)[:, None]
    return (columns >= starts[:-1]) & (columns < starts[1:])


def taken(updates: Array, start: int, size: int) -> Array:
    """Neighbouring columns from a place that is known while compiling, (n, size).

    On several devices every one gets all of them: a sum, where a slice would put the stack together.
    """
    if column_devices() == 1:
        return updates[:, start : start + size]
    return updates[:, start + jnp.arange(size)]


def of_head(updates: Array, head: Head) -> tuple[Array, Array | None]:
    """The last layer's part of every row: kernels (n, h, M), and biases (n, M) or None."""
    n, h, num_classes = updates.shape[0], head.num_features, head.num_classes
    kernel = taken(updates, head.kernel, h * num_classes)
    if head.transposed:
        kernel = jnp.swapaxes(kernel.reshape(n, num_classes, h), 1, 2)
    bias = None if head.bias is None else taken(updates, head.bias, num_classes)
    return kernel.reshape(n, h, num_classes), bias
