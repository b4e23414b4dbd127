"""The leading eigenpair of a weighted covariance of the rows, found in the n-dimensional space of rows.

With weights p of sum 1, mean μ and squared distances S, the covariance Σ_i p_i (g_i − μ)(g_i − μ)ᵀ has the
eigenvalues of the n × n matrix √p_i B_ij √p_j, where B = −½ (S − 1(Sp)ᵀ − (Sp)1ᵀ + pᵀSp) is the Gram matrix
around μ. Taken from distances, it carries over what makes `pairwise_distances` survive hostile rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import dot, saturation, unit
from fljax.numerics.sharding import by_itself

# Up to this many rows the leading eigenpair comes from a full eigendecomposition: 13 ms at 512 on a CPU.
LARGEST_DENSE = 512
# Beyond it, from Lanczos runs of this many steps, each from the last one's vector, until the residual
# ‖Mu − λu‖ is below this share of λ (but at least rounding, n·eps), or after so many runs.
LANCZOS_STEPS = 32
LANCZOS_TOLERANCE = 1e-5
LANCZOS_RUNS = 16


def _one_at_a_time() -> bool:
    # LAPACK's kernel waits for threads of the pool that runs the devices: with a batch each, several CPU
    # devices wait for each other for ever (jaxlib 0.10.2). One matrix it computes without the pool.
    return jax.default_backend() == "cpu" and jax.local_device_count() > 1


@jax.custom_batching.sequential_vmap
def _pairs_alone(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@jax.custom_batching.sequential_vmap
def _values_alone(matrices: Array) -> Array:
    return jax.lax.map(jnp.linalg.eigvalsh, matrices)


def eigenpairs(matrix: Array) -> tuple[Array, Array]:
    """The eigenvalues (n,) of a symmetric (n, n) matrix, smallest first, and its eigenvectors as columns."""
    if _one_at_a_time():
        return by_itself(_pairs_alone, matrix)
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


def eigenvalues(matrices: Array) -> Array:
    """The eigenvalues (b, n) of symmetric matrices (b, n, n), smallest first."""
    return by_itself(_values_alone, matrices) if _one_at_a_time() else jnp.linalg.eigvalsh(matrices)


class Crowd(NamedTuple):
    """Squared distances among the rows that count.

    Attributes:
        squares: (n, n) finite; zero where a row does not count.
        present: (n,) bool, rows at a representable distance from more than half of all rows, themselves
            included.
    """

    squares: Array
    present: Array


def crowd(squares: Array) -> Crowd:
    """The rows that count, from squared distances as `pairwise_distances` gives them."""
    n = squares.shape[0]
    present = jnp.sum(squares < saturation(squares.dtype, n), axis=1) > n // 2
    # Two present rows can still be too far from each other for the float: on opposite sides of the others.
    pairs = present[:, None] & present[None, :]
    return Crowd(jnp.where(pairs, squares, 0.0), present)


def as_shares(weights: Array) -> Array:
    """The weights divided by their sum; all 0 if that is 0."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1.0)


def _length(vector: Array) -> Array:
    return jnp.sqrt(dot(vector, vector))


def _gram_product(squares: Array, shares: Array, vector: Array) -> Array:
    """The product B (√p ∘ vector)."""
    weighted = jnp.sqrt(shares) * vector
    image = -0.5 * dot(squares, weighted - shares * jnp.sum(weighted))
    return image - dot(shares, image)


class _Lanczos(NamedTuple):
    """One run: orthonormal basis (steps + 1, n), and diagonal and off-diagonal of the matrix in it."""

    squares: Array
    shares: Array
    basis: Array
    diagonal: Array
    beside: Array


class _Runs(NamedTuple):
    """The state between runs: the eigenpair (λ, u) so far, and the residual ‖Mu − λu‖."""

    squares: Array
    shares: Array
    vector: Array
    value: Array
    residual: Array
    number: Array


def _extend(i: Array, state: _Lanczos) -> _Lanczos:
    vector = state.basis[i]
    image = jnp.sqrt(state.shares) * _gram_product(state.squares, state.shares, vector)
    diagonal = state.diagonal.at[i].set(dot(vector, image))
    for _ in range(2):  # once leaves rounding errors that grow
        image = image - dot(dot(state.basis, image), state.basis)
    norm = _length(image)
    basis = state.basis.at[i + 1].set(unit(image, norm))
    return state._replace(basis=basis, diagonal=diagonal, beside=state.beside.at[i].set(norm))


def _run(state: _Runs) -> _Runs:
    n, dtype = state.vector.shape[0], state.vector.dtype
    steps = min(LANCZOS_STEPS, n)
    basis = jnp.zeros((steps + 1, n), dtype).at[0].set(unit(state.vector, _length(state.vector)))
    none = jnp.zeros((steps,), dtype)
    run = _Lanczos(state.squares, state.shares, basis, none, none)
    run = jax.lax.fori_loop(0, steps, _extend, run)
    beside = run.beside[:-1]
    values, vectors = eigenpairs(jnp.diag(run.diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
    return state._replace(
        vector=dot(vectors[:, -1], run.basis[:-1]),
        value=values[-1],
        residual=run.beside[-1] * jnp.abs(vectors[-1, -1]),
        number=state.number + 1,
    )


def _unfinished(state: _Runs) -> Array:
    tolerance = max(LANCZOS_TOLERANCE, state.vector.shape[0] * float(jnp.finfo(state.vector.dtype).eps))
    return (state.residual > tolerance * state.value) & (state.number < LANCZOS_RUNS)


def iterative_pair(squares: Array, shares: Array) -> tuple[Array, Array]:
    """The largest eigenvalue λ and the image B(√p ∘ u) of its eigenvector u, from Lanczos runs."""
    n, dtype = squares.shape[0], squares.dtype
    # A start that is the same in every call, and that hardly any data is orthogonal to.
    start = jnp.sqrt(shares) * jax.random.normal(jax.random.key(0), (n,), dtype)
    zero = jnp.zeros((), dtype)
    state = _Runs(squares, shares, start, zero, zero + jnp.inf, jnp.zeros((), jnp.int32))
    state = jax.lax.while_loop(_unfinished, _run, state)
    vector = unit(state.vector, _length(state.vector))
    return state.value, _gram_product(squares, shares, vector)


def exact_pair(squares: Array, shares: Array) -> tuple[Array, Array]:
    """The same as `iterative_pair`, from a full eigendecomposition."""
    means = dot(squares, shares)
    centred = -0.5 * (squares - means[:, None] - means[None, :] + dot(shares, means))
    roots = jnp.sqrt(shares)
    values, vectors = eigenpairs(roots[:, None] * centred * roots[None, :])
    return values[-1], dot(centred, roots * vectors[:, -1])


def leading_variance(squares: Array, shares: Array) -> tuple[Array, Array]:
    """The covariance's largest eigenvalue, and every row's squared deviation along its eigenvector.

    Args:
        squares: (n, n) squared distances, finite.
        shares: (n,) the rows' weights p, which sum to 1; a row of weight 0 may be anywhere.

    Returns:
        λ, and (n,) ⟨v, g_i − μ⟩², 0 for a row of weight 0; both 0 if all rows of weight coincide.
    """
    used = shares > 0
    squares = jnp.where(used[:, None] & used[None, :], squares, 0.0)
    largest = jnp.max(squares)
    apart = largest >= jnp.finfo(squares.dtype).tiny
    # In units of the largest distance nothing overflows.
    squares = squares / jnp.where(apart, largest, 1.0)
    pair = exact_pair if squares.shape[0] <= LARGEST_DENSE else iterative_pair
    value, image = pair(squares, shares)
    value = jnp.where(apart, jnp.maximum(value, 0.0), 0.0)
    # The image of the eigenvector, B(√p ∘ u), is √λ times the deviations.
    seen = used & (value > 0)
    deviations = jnp.where(seen, image / jnp.sqrt(jnp.where(value > 0, value, 1.0)), 0.0)
    return largest * value, largest * jnp.square(deviations)


def principal_scores(squares: Array, valid: Array, count: int) -> Array:
    """The valid rows in their first principal components, (n, count), from their squared distances.

    They are the eigenvectors of the centred Gram matrix times the roots of their eigenvalues, largest first:
    no d × d matrix is made. The sign of a component is arbitrary.

    Args:
        squares: (n, n), finite among valid rows.
        valid: (n,) bool; the scores of another row are 0.
        count: how many components, at most n.
    """
    pairs = valid[:, None] & valid[None, :]
    shares = as_shares(valid.astype(squares.dtype))
    squares = jnp.where(pairs, squares, 0.0)
    largest = jnp.max(squares)
    scaled = squares / jnp.where(largest > 0, largest, 1.0)
    means = dot(scaled, shares)
    centred = -0.5 * (scaled - means[:, None] - means[None, :] + dot(shares, means))
    values, vectors = eigenpairs(jnp.where(pairs, centred, 0.0))
    roots = jnp.sqrt(jnp.maximum(values[::-1][:count], 0.0) * largest)
    return jnp.where(valid[:, None], vectors[:, ::-1][:, :count] * roots, 0.0)
