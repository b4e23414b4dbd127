"""Subsets of rows and of coordinates: by their place in lexicographic order, and drawn at random."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.numerics.sharding import by_itself


def binomials(n: int, columns: int) -> np.ndarray:
    """(n, columns) int32 table of m over x for m < n, x < columns; what does not fit is the largest int32."""
    table = [[min(math.comb(m, x), np.iinfo(np.int32).max) for x in range(columns)] for m in range(n)]
    return np.array(table, np.int32)


def _pick(state: tuple[Array, Array], ways: Array) -> tuple[tuple[Array, Array], Array]:
    # ways[x]: in how many ways x of the later rows can be left out, which is how often this row is kept.
    index, left_out = state
    with_row = ways[left_out]
    keep = index < with_row
    return (jnp.where(keep, index, index - with_row), left_out - ~keep), keep


def subsets_at(places: Array, f: Array, table: Array) -> Array:
    """The subsets of n − f of n rows at these places of their lexicographic order, (len(places), n) bool.

    Args:
        places: counted from 0.
        f: how many rows a subset leaves out.
        table: `binomials(n, …)` with more than f columns.
    """
    start = (places, jnp.broadcast_to(f, places.shape))
    return jax.lax.scan(_pick, start, table[::-1])[1].T


def random_coordinates(key: Array, d: int, size: int, iterations: int) -> list[Array]:
    """For each iteration `size` different coordinates out of d, drawn with equal chances."""

    # Those with the largest of d random numbers: a tenth of the time of a random permutation. float32, for
    # which XLA has a fast way on a CPU; that two of them are equal is too rare to matter.
    def draw(key: Array) -> Array:
        return jax.lax.top_k(jax.random.uniform(key, (d,), jnp.float32), size)[1]

    return [by_itself(draw, each) for each in jax.random.split(key, iterations)]
