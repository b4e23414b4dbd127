"""The smallest spectrum (SMEA): the n − f rows whose covariance has the smallest largest eigenvalue.

The subsets are tried in lexicographic order, a chunk at a time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators._minimum_diameter import mean_of_selected
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import ArgumentError, Int, below_half
from fljax.numerics.eigen import eigenvalues
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.subsets import binomials, subsets_at

# Subsets times n² that smallest_spectrum goes through: two to four seconds on two CPU cores.
LARGEST_ENUMERATION = 100_000_000
# Entries of the covariances held at a time.
ENTRIES_PER_CHUNK = 2**20


def _many(count: int) -> str:
    """A count in digits, or as a power of ten where it has many."""
    return f"{count:,}" if count < 10**24 else f"about 10^{len(str(count)) - 1}"


def _top_eigenvalues(squares: Array, members: Array) -> Array:
    """Largest eigenvalue of the covariance of each subset, from the distances; inf if one is infinite."""
    dtype = squares.dtype
    pairs = members[:, :, None] & members[:, None, :]
    among = jnp.where(pairs, squares, 0.0)
    largest = jnp.max(among, axis=(1, 2))
    usable = jnp.isfinite(largest) & (largest >= jnp.finfo(dtype).tiny)
    # Each in its own unit: a far row may be in one subset, and near-copies in the next.
    among = jnp.where(usable[:, None, None], among, 0.0) / jnp.where(usable, largest, 1.0)[:, None, None]
    count = jnp.sum(members, axis=1).astype(dtype)
    means = jnp.sum(among, axis=2) / count[:, None]
    middle = jnp.sum(means, axis=1) / count
    centred = -0.5 * (among - means[:, :, None] - means[:, None, :] + middle[:, None, None])
    values = eigenvalues(jnp.where(pairs, centred, 0.0))[:, -1] / count * largest
    return jnp.where(usable, values, jnp.where(jnp.isfinite(largest), 0.0, jnp.inf))


class _Best(NamedTuple):
    """The best subset up to some chunk; `table` and `lanes` (0, 1, … in a chunk) are the same throughout."""

    squares: Array
    left_out: Array
    table: Array
    lanes: Array
    value: Array
    selected: Array


def _improve(i: Array, best: _Best) -> _Best:
    n = best.squares.shape[0]
    indices = i * best.lanes.shape[0] + best.lanes
    members = subsets_at(indices, best.left_out, best.table[:n])
    values = _top_eigenvalues(best.squares, members)
    values = jnp.where(indices < best.table[n, best.left_out], values, jnp.inf)
    smallest = jnp.min(values)
    # Equal eigenvalues that rounding made different are a tie.
    equal = smallest * (1 + 8 * n * float(jnp.finfo(values.dtype).eps))
    better = equal < best.value
    first = members[jnp.argmax(values <= equal)]
    return best._replace(
        value=jnp.where(better, smallest, best.value), selected=jnp.where(better, first, best.selected)
    )


@register_rule(title="SMEA", assumes="n > 2f", source="Allouah et al. 2023", surrogate="distance")
def smallest_spectrum(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """Mean of the n − f rows whose covariance has the smallest largest eigenvalue (SMEA).

    g = mean of S with S = argmin over |S| = n − f of λ_max(Σ_S), f = `num_malicious` and
    Σ_S = 1/|S| Σ_{i ∈ S} (g_i − ḡ_S)(g_i − ḡ_S)ᵀ; the first in lexicographic order if several are equal.
    Eigenvalues are those of the centred Gram matrix, from pairwise distances, and exact to rounding. All
    subsets are tried. Its guarantee needs n > 2f. A row with a non-finite entry is left out; with more than f
    of them, the result is the mean of all other rows.

    Args:
        updates: (n, d).
        num_malicious: f, how many rows to leave out, 0 ≤ f < n/2; a traced value is clamped to that range.
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: for a static `num_malicious` out of range, or if the subsets times n² are more than
            `LARGEST_ENUMERATION`: n = 20 goes with any f, n = 30 with 4, n = 100 with 2.

    Example:
        >>> smallest_spectrum(jnp.array([[0.0], [1.0], [2.0], [4.0], [50.0]]), num_malicious=2).tolist()
        [1.0]

    Source: Allouah et al., "On the privacy-robustness-utility trilemma in distributed learning", ICML 2023.
    ByzFL takes one power iteration from unseeded noise for the eigenvalue, so its choice is not reproducible.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    columns = 1 + (f if isinstance(f, int) else (n - 1) // (2 if strict else 1))
    subsets, limit = math.comb(n, columns - 1), LARGEST_ENUMERATION // n**2
    if subsets > limit:
        if not isinstance(f, int):
            raise ArgumentError(
                f"a traced num_malicious could be up to {columns - 1} for n={n}, which has "
                f"{_many(subsets)} subsets, more than the {limit:,} it enumerates; pass a plain number"
            )
        raise ArgumentError(
            f"n={n}, num_malicious={f} has {_many(subsets)} subsets, more than the {limit:,} it "
            "enumerates; use covariance_filter instead, which is made for the same bound"
        )
    squares = squared_distances(jax.lax.stop_gradient(updates))
    chunk = max(1, min(subsets, ENTRIES_PER_CHUNK // n**2))
    left_out = jnp.asarray(f, jnp.int32)
    best = _Best(
        squares,
        left_out,
        jnp.asarray(binomials(n + 1, columns)),
        jnp.arange(chunk, dtype=jnp.int32),
        jnp.asarray(jnp.inf, squares.dtype),
        jnp.arange(n) < n - left_out,
    )
    chunks = (best.table[n, left_out] + chunk - 1) // chunk
    return mean_of_selected(updates, jax.lax.fori_loop(0, chunks, _improve, best).selected, squares, f)
