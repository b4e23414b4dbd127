"""The robust learning rate behind any rule."""

from jax import Array

from fljax.aggregators._robust_learning_rate import flipped, votes_of
from fljax.aggregators.registry import register_post_aggregator
from fljax.numerics.checks import ArgumentError, Float, compute_dtype, real
from fljax.numerics.rows import stack_or_rows, sum_rows
from fljax.numerics.safe import finite_rows


@register_post_aggregator(
    title="RLR", assumes="aims at backdoors of f < θ", source="Ozdayi et al. 2021", streams=True
)
def flip_disputed(update: Array, updates: Array, *, threshold: Float) -> Array:
    """The update of any rule, with its sign flipped in coordinates where too few clients agree (RLR).

    η_j g_j with η_j = 1 where |Σ_i sign g_ij| ≥ θ, else −1; `robust_learning_rate` is this behind the
    weighted mean, and says what it is against. The votes are those of the clients' own rows, whatever runs
    before the rule. A row with a non-finite entry has none.

    Args:
        update: (d,), g.
        updates: (n, d), the clients' rows.
        threshold: θ, a number of votes; may be traced. With θ ≤ 0 nothing is flipped, with θ > n everything.

    Returns:
        (d,), in the type of `update`.

    Raises:
        ValueError: if the shapes do not fit, or a static `threshold` is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.array([[1.0, 3.0], [1.0, -1.0], [4.0, 1.0]])
        >>> flip_disputed(jnp.array([1.0, 1.0]), rows, threshold=3).tolist()
        [1.0, -1.0]

    Source: Ozdayi, Kantarcioglu, Gel, "Defending against backdoors in federated learning with robust learning
    rate", AAAI 2021, whose code flips the mean, the median or the sign vote.
    """
    threshold = real("threshold", threshold, finite=True)
    rows = stack_or_rows(updates, True)
    if rows.shape[1:] != update.shape:
        raise ArgumentError(f"updates must be (n, {update.shape[0]}), got shape {rows.shape}")
    rows = rows.astype(compute_dtype(rows))
    votes = sum_rows(lambda chunk: votes_of(chunk, finite_rows(chunk)), rows)
    return flipped(update, votes, threshold)
