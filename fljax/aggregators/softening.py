"""A smooth version of any rule that averages some of its rows, for attacks that follow a gradient."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, real
from fljax.numerics.masked import masked_median
from fljax.numerics.order_statistics import midpoint
from fljax.numerics.safe import distances_to, divide, finite_rows, row_norms

# What a rule that selects rows is taken to look at: a row's distance from the mean of the selected rows, that
# of its direction from theirs, or its length.
Measure = Literal["distance", "angle", "length"]
# A row that is selected though another one is nearer is taken to be that far inside, in units of the spread.
INSIDE = 0.1


def softened(
    explained: Callable[..., tuple[Array, Info]], measure: Measure, *, clipped: bool = False
) -> Callable[..., Array]:
    """A rule with a soft edge of its selection.

    With the rows S that the rule selects, s_i how far row i is from them (`Measure`), θ half-way between the
    farthest of S and the nearest other row, and the spread q = median s − min s, row i has the weight
    p_i = sigmoid((θ − s_i) / (temperature · q)); a selected row beyond θ, or another one within, is moved to
    its side. The result is the rule's own, plus Σ p_i g_i / Σ p_i less the mean over S. No gradient passes
    through S, its mean, θ and q: rows that the rule leaves out see what brings them in.

    Args:
        explained: `explained(updates, *arrays, **hyper) -> (update, info)` with `info["selected"]` (n,) bool.
        measure: what the rule is taken to look at.
        clipped: whether the rule shortens rows to the median length; the g_i above are then such rows.

    Returns:
        A function with the rule's arguments and `temperature`, in units of q; the rule itself for
        temperature → 0.
    """

    def soft(updates: Array, *arrays: Any, temperature: Float = 0.3, **hyper: Any) -> Array:
        temperature = real("temperature", temperature, above=0, finite=True)
        update, info = explained(lax.stop_gradient(updates), *arrays, **hyper)
        valid = finite_rows(updates)
        selected = lax.stop_gradient(info["selected"]) & valid
        rows = jnp.where(valid[:, None], updates, 0.0)
        lengths = row_norms(rows)
        if clipped:
            middle = lax.stop_gradient(jnp.where(jnp.any(valid), masked_median(lengths, valid), 0.0))
            longer = lengths > middle
            # In units of the median: the derivative has a square of the length, which may be no float.
            beyond = jnp.where(longer, lengths / jnp.where(middle > 0, middle, 1.0), 1.0)
            shares = jnp.where(longer & ~(middle > 0), 0.0, 1.0 / beyond)
            rows = rows * shares[:, None]
        count = jnp.maximum(jnp.sum(selected), 1)
        of_selected = selected.astype(rows.dtype) / count
        scores = _scores(rows, lengths, of_selected, measure)
        weights = jnp.where(valid, _weights(scores, selected, valid, temperature), 0.0)
        total = jnp.sum(weights)
        smooth = weighted_rows(weights / jnp.where(total > 0, total, 1.0), rows)
        return update + smooth - lax.stop_gradient(weighted_rows(of_selected, rows))

    soft.__name__ = soft.__qualname__ = f"soft_{getattr(explained, '__name__', 'rule')}"
    signature = inspect.signature(explained)
    own = inspect.signature(soft).parameters["temperature"]
    parameters = [*signature.parameters.values(), own]
    soft.__signature__ = signature.replace(parameters=parameters, return_annotation=Array)  # type: ignore[attr-defined]
    return soft


def _scores(rows: Array, lengths: Array, of_selected: Array, measure: Measure) -> Array:
    """How far every row is from the selected ones, (n,)."""
    if measure == "length":
        return lengths
    if measure == "angle":
        # In units of their lengths; a zero row has no direction.
        rows = jnp.where(
            (lengths > 0)[:, None], divide(rows, jnp.where(lengths > 0, lengths, 1.0)[:, None]), 0.0
        )
    return distances_to(rows, lax.stop_gradient(weighted_rows(of_selected, rows)))


def _weights(scores: Array, selected: Array, valid: Array, temperature: Float) -> Array:
    """The rows' weights from 0 to 1, at least 1/2 for those that are selected."""
    known = lax.stop_gradient(scores)
    others = valid & ~selected
    last = jnp.max(jnp.where(selected, known, -jnp.inf))
    following = jnp.min(jnp.where(others, known, jnp.inf))
    divided = jnp.isfinite(last) & jnp.isfinite(following)
    limit = jnp.where(
        divided, midpoint(jnp.where(divided, last, 0.0), jnp.where(divided, following, 0.0)), 0.0
    )
    lowest = jnp.min(jnp.where(valid, known, jnp.inf))
    middle = jnp.where(jnp.any(valid), masked_median(known, valid), 0.0)
    highest = jnp.max(jnp.where(valid, known, -jnp.inf))
    spread = jnp.where(middle > lowest, middle, highest) - lowest
    spread = jnp.where((spread > 0) & jnp.isfinite(spread), spread, 1.0)
    inside = (limit - scores) / spread
    side = jnp.where(selected, 1.0, -1.0)
    astray = lax.stop_gradient(side * inside) < INSIDE
    inside = jnp.where(astray, inside + lax.stop_gradient(side * INSIDE - inside), inside)
    # Without another row none is near an edge.
    return jnp.where(divided, jax.nn.sigmoid(inside / temperature), selected.astype(scores.dtype))
