"""A model's tensors as columns of the updates."""

import math
from itertools import accumulate
from typing import Any

import jax
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


def low_frequencies(rows: Array, layers: Layers) -> Array:
    """The low frequencies of every row's tensors, (n, F).

    Every tensor is a matrix (outputs, all else), a vector one of a single row. Of its orthonormal
    two-dimensional discrete cosine transform (type II) the entries V_kl with k + l ≤ ⌊min(shape) / 2⌋ stay.

    Args:
        rows: (n, d).
        layers: the tensors that a row is made of; the last axis is that of the outputs.
    """
    found = [rows[:, :0]]
    for start, shape in zip(starts_of(layers), layers.shapes, strict=False):
        size = math.prod(shape)
        if size == 0:
            continue
        tensor = taken(rows, start, size)
        if len(shape) > 1:
            # Kernel axes come last in PyTorch, inputs before them: (h, w, in, out) to (out, in, h, w).
            axes = (len(shape), len(shape) - 1, *range(1, len(shape) - 1))
            tensor = jnp.transpose(tensor.reshape(-1, *shape), (0, *axes))
        matrix = tensor.reshape(len(rows), shape[-1] if len(shape) > 1 else 1, -1)
        low = min(matrix.shape[1:]) // 2
        left, right = (_cosines(length, low + 1, rows.dtype) for length in matrix.shape[1:])
        transformed = jnp.einsum("kh,nhw,lw->nkl", left, matrix, right, precision=jax.lax.Precision.HIGHEST)
        kept = np.add.outer(np.arange(len(left)), np.arange(len(right))) <= low
        found.append(transformed[:, *np.nonzero(kept)])
    return jnp.concatenate(found, axis=1)


def _cosines(length: int, count: int, dtype: jnp.dtype) -> Array:
    """The first rows of the orthonormal discrete cosine transform of type II, (at most count, length)."""
    k = np.arange(min(count, length))[:, None]
    waves = np.cos(np.pi * k * (2 * np.arange(length) + 1) / (2 * length))
    return jnp.asarray(waves * np.sqrt(np.where(k == 0, 1, 2) / length), dtype)
