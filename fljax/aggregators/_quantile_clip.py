"""Clipping to a radius that follows a quantile of the updates' lengths from round to round."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators._clip import clip
from fljax.aggregators.registry import register_pre_aggregator
from fljax.base import Context, PreAggregator, State
from fljax.numerics.checks import Float, compute_dtype, named, real, shaped
from fljax.numerics.rows import by_row
from fljax.numerics.safe import row_norms


def _checked(start: Float, quantile: Float, rate: Float, noise: Float) -> tuple[Float, ...]:
    return (
        real("start", start, above=0, finite=True),
        real("quantile", quantile, at_least=0, at_most=1),
        real("rate", rate, at_least=0, finite=True),
        real("noise", noise, at_least=0, finite=True),
    )


def tracked_clipping(
    *, start: Float = 0.1, quantile: Float = 0.5, rate: Float = 0.2, noise: Float = 0.0
) -> PreAggregator:
    """`quantile_clip` for a round: its state is the radius C, moved after every round.

    Args:
        start: as for `quantile_clip`.
        quantile: as for `quantile_clip`.
        rate: as for `quantile_clip`.
        noise: as for `quantile_clip`.

    Returns:
        The `PreAggregator`.

    Raises:
        ValueError: for a static number out of range.

    Example:
        >>> piece = tracked_clipping(start=1.0)
        >>> rows = jnp.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0], [3.0, 0.0]])
        >>> clipped, radius, _ = piece.transform(rows, piece.init(4, 2), Context())
        >>> round(float(radius), 3)  # exp(0.2 (1/2 − 1/4))
        1.051
    """
    with named("quantile_clip"):
        start, quantile, rate, noise = _checked(start, quantile, rate, noise)

    def init(num_clients: int, num_params: int) -> State:
        return jnp.asarray(start, jnp.float32)

    def transform(updates: Array, state: State, context: Context) -> tuple[Array, State, Context]:
        n = updates.shape[0]
        norms = by_row(row_norms, updates.astype(compute_dtype(updates)))
        inside = jnp.mean((norms <= state).astype(jnp.float32))
        if context.key is not None:
            inside = inside + noise * jax.random.normal(context.key, (), jnp.float32) / n
        radius = state * jnp.exp(-rate * (inside - quantile))
        return clip(updates, radius=state), radius.astype(state.dtype), context

    return PreAggregator(init, transform)


@register_pre_aggregator(
    title="Quantile clipping",
    assumes="bounds each row's influence",
    source="Andrew et al. 2021",
    make=tracked_clipping,
    streams=True,
)
def quantile_clip(
    updates: Array,
    radius: Array | None = None,
    *,
    start: Float = 0.1,
    quantile: Float = 0.5,
    rate: Float = 0.2,
    noise: Float = 0.0,
) -> Array:
    """Shorten longer rows to a radius that tracks a quantile of their lengths over the rounds.

    g_i · min(1, C_t / ‖g_i‖), then C_{t+1} = C_t exp(−η (b − q)), where b is the share of rows with
    ‖g_i‖ ≤ C_t, plus N(0, σ²)/n. The radius settles where the share q of the rows is left alone, whatever
    their unit is; n rows move it by a factor of at most exp(η) a round, so hostile ones, less than the share
    q or 1 − q of the rows, cannot drive it away. A row with a non-finite entry becomes zero, and counts as
    longer than the radius.

    Args:
        updates: (n, d).
        radius: scalar, C_t; None for `start`. In the round it is the state.
        start: C_0 > 0, in the unit of the updates; may be traced.
        quantile: q, 0 to 1; may be traced.
        rate: η ≥ 0; may be traced.
        noise: σ ≥ 0, which makes b differentially private; n/20 in the paper; may be traced.

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d) or a static number is out of range.

    Example:
        >>> rows = quantile_clip(jnp.array([[3.0, 4.0], [0.0, 0.5]]), start=1.0)
        >>> [f"{entry:.2f}" for entry in rows.ravel()]
        ['0.60', '0.80', '0.00', '0.50']

    Source: Andrew, Thakkar, McMahan, Ramaswamy, "Differentially private learning with adaptive clipping",
    NeurIPS 2021. Flower has the same defaults; noise on the update itself is `add_noise`.
    """
    start, *_ = _checked(start, quantile, rate, noise)
    return clip(updates, radius=start if radius is None else shaped("radius", radius, ()))
