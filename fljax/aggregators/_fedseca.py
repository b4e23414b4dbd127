"""FedSECA: signs are elected by concordant clients, and entries of the elected sign averaged."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import fixed_real
from fljax.numerics.masked import masked_median
from fljax.numerics.order_statistics import fold_rows, median_of_some, top_of_rows
from fljax.numerics.safe import dot, finite_rows, row_norms


@register_rule(title="FedSECA", assumes="n > 2f", source="Benjamin et al. 2025")
def fedseca(updates: Array, *, sparsity: float = 0.9) -> Array:
    """Per coordinate the mean of the entries whose sign the concordant clients elect (FedSECA).

    With ω_kl = Σ_j sign g_kj sign g_lj a client's ratio is ρ_k = max(0, (1/n) Σ_l sign ω_kl), itself counted,
    and the elected sign s_j = sign Σ_k ρ_k sign g_kj. Rows are clipped to the median norm and their entries
    to the median magnitude of the coordinate, and an entry is zero where |g_kj| is not above the
    γ-quantile of its row, γ = `sparsity`. g_j is the mean of the entries x with s_j x > 0, 0 if there are
    none; of all entries where s_j = 0. Tolerates f < n/2 rows as far as honest rows agree with most others
    in more signs than not. A row with a non-finite entry is left out of everything.

    Args:
        updates: (n, d).
        sparsity: γ, 0 to 1, the share of every row's entries that does not count.

    Returns:
        (d,), in the type of `updates`; 0 if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d) or `sparsity` is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.5, -0.2], [0.8, 0.6, -0.1], [1.1, 0.4, -0.3], [-3.0, 2.0, 4.0]])
        >>> [f"{entry:.2f}" for entry in fedseca(rows, sparsity=0.4)]
        ['0.87', '0.44', '0.00']

    Source: Benjamin et al., "FedSECA: Sign election and coordinate-wise aggregation of gradients for
    Byzantine tolerant federated learning", CVPR 2025. CRYPTO-KU's port, in which the formula was read, takes
    the lower medians where n is even.
    """
    gamma = fixed_real("sparsity", sparsity, at_least=0, at_most=1)
    d = updates.shape[1]
    finite = finite_rows(updates)
    rows = jnp.where(finite[:, None], updates, 0.0)
    signs = jnp.sign(jax.lax.stop_gradient(rows))
    # Whole numbers, so that ties are ties.
    concordance = jnp.sum(jnp.sign(dot(signs, signs.T)), axis=1)
    elected = jnp.sign(dot(jnp.maximum(concordance, 0.0), signs))

    lengths = row_norms(rows)
    middle = masked_median(lengths, finite)
    factors = jnp.where(lengths > middle, middle / jnp.where(lengths > 0, lengths, 1.0), 1.0)
    limit = median_of_some(jnp.abs(rows * factors[:, None]), finite)
    # No entry is between the quantile, which may be interpolated, and the value ranked below it.
    rank = math.floor(gamma * (d - 1) + 1e-9)
    threshold = jax.lax.bitcast_convert_type(top_of_rows(rows, d - rank).limit, rows.dtype)

    def parts(row: Array, factor: Array, least: Array, counts: Array) -> tuple[Array, ...]:
        value = jnp.where(jnp.abs(row) > least, jnp.clip(row * factor, -limit, limit), 0.0)
        counted = jnp.where(elected == 0, counts, elected * value > 0)
        return jnp.where(counted, value, 0.0), counted.astype(jnp.int32)

    by_row = (column[:, None] for column in (factors, threshold, finite))
    total, count = fold_rows(parts, [rows, *by_row])
    return total / jnp.maximum(count, 1)
