"""SparseFed: of clipped updates with momentum and error feedback only the largest entries are sent."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.checks import Float, Int, bounded, compute_dtype, named, output_dtype, real, shaped
from fljax.numerics.clipping import clipped_sum
from fljax.numerics.order_statistics import top_of_rows
from fljax.numerics.safe import contained, safe_norms
from fljax.numerics.sharding import by_columns


class _Held(NamedTuple):
    """What the server keeps of the rounds so far, (d,) each."""

    momentum: Array
    error: Array


def _sent(rows: Array, held: _Held, radius: Float, count: Int, decay: Float) -> tuple[Array, _Held]:
    """The update, and what the server keeps."""
    rows = contained(rows)
    norms = safe_norms(rows)
    shares = norms.finite.astype(rows.dtype) / rows.shape[0]
    clipped = clipped_sum(shares, rows, norms, jnp.asarray(radius, rows.dtype))
    momentum = decay * held.momentum + clipped
    error = held.error + momentum
    largest = top_of_rows(error[None], count).holds(error[None])[0]
    left = _Held(jnp.where(largest, 0.0, momentum), jnp.where(largest, 0.0, error))
    return jnp.where(largest, error, 0.0), left


def _checked(radius: Float, num_sent: Int, decay: Float, d: int) -> tuple[Float, Int, Float]:
    return (
        real("radius", radius, above=0, finite=True),
        bounded("num_sent", num_sent, smallest=1, largest=d, needs=f"at most the {d} parameters"),
        real("decay", decay, at_least=0, at_most=1),
    )


def fed_back(*, radius: Float, num_sent: Int, decay: Float = 0.9) -> Aggregator:
    """`sparse_fed` for the round: its state is the momentum and the error, both zero at first.

    Args:
        radius: as for `sparse_fed`.
        num_sent: as for `sparse_fed`.
        decay: as for `sparse_fed`.

    Returns:
        The `Aggregator`.

    Raises:
        ValueError: for a static number out of range; `num_sent` is compared with d when the model is known.
    """

    def init(num_clients: int, num_params: int) -> State:
        return _Held(jnp.zeros((num_params,)), jnp.zeros((num_params,)))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("sparse_fed"):
            arguments = _checked(radius, num_sent, decay, updates.shape[1])
        rows = updates.astype(compute_dtype(updates))
        held = _Held(*(by_columns(part).astype(rows.dtype) for part in state))
        update, left = _sent(rows, held, *arguments)
        kept = _Held(*(new.astype(old.dtype) for new, old in zip(left, state, strict=True)))
        return update.astype(output_dtype(updates)), kept, {}

    return Aggregator(init, aggregate)


@register_rule(
    title="SparseFed", assumes="bounds each row's influence", source="Panda et al. 2022", make=fed_back
)
def sparse_fed(
    updates: Array,
    momentum: Array | None = None,
    error: Array | None = None,
    *,
    radius: Float,
    num_sent: Int,
    decay: Float = 0.9,
) -> Array:
    """The largest entries of the mean of clipped updates, with momentum and error feedback (SparseFed).

    u = (1/n) Σ_i g_i min(1, C/‖g_i‖), m ← ρ m + u, e ← e + m; the update is the k entries of largest |e_j|,
    where m and e start again at zero. What is not sent stays in e and comes later. A few rows of bounded
    length cannot put many entries of their own among the largest. It bounds influence and detects nobody:
    hostile rows count as any other up to the length C. A row with a non-finite entry counts as zero.

    Args:
        updates: (n, d).
        momentum: (d,), m; None for zero. In the round it is part of the state, as `error` is.
        error: (d,), e; None for zero.
        radius: C > 0, in the unit of the updates; may be traced.
        num_sent: k, 1 to d; a traced value is clamped to that range. Ties go to the lowest index.
        decay: ρ, 0 to 1; may be traced.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit or a static number is out of range.

    Example:
        >>> rows = jnp.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.2]])
        >>> [f"{entry:.2f}" for entry in sparse_fed(rows, radius=1.0, num_sent=1)]
        ['0.00', '0.40', '0.00']

    Source: Panda, Mahloujifar, Bhagoji, Chakraborty, Mittal, "SparseFed: Mitigating model poisoning attacks
    in federated learning with sparsification", AISTATS 2022, and the authors' code. LASA's copy starts both
    vectors afresh every round, so that nothing is fed back.
    """
    d = updates.shape[1]
    arguments = _checked(radius, num_sent, decay, d)
    parts = {"momentum": momentum, "error": error}
    held = (
        jnp.zeros((d,), updates.dtype) if part is None else shaped(name, part, (d,)).astype(updates.dtype)
        for name, part in parts.items()
    )
    return _sent(updates, _Held(*held), *arguments)[0]
