"""Zeno: rows by how much they lower the loss on the root dataset."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.models import called, of_models
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Float, Int, real, shaped, tolerated
from fljax.numerics.safe import finite_rows, square_norms


@register_rule(title="Zeno", assumes="n > f, a root dataset", source="Xie et al. 2019")
def zeno(
    updates: Array,
    params: Array,
    root_loss: Callable[[Array], Array],
    *,
    num_malicious: Int,
    penalty: Float = 5e-4,
) -> tuple[Array, Info]:
    """Mean of the n − f rows that lower the loss on the root dataset most, less a penalty on length (Zeno).

    The score of row i is L(w) − L(w + g_i) − ρ · ‖g_i‖² with the loss L = `root_loss`; the f rows of lowest
    score are left out, ties by the highest row. It tolerates any f < n as far as the root dataset tells good
    rows from bad ones: a hostile row counts if it lowers the loss there, whatever else it does. A row with a
    non-finite entry, loss or squared norm is left out and counts among the f.

    Args:
        updates: (n, d).
        params: (d,) w, the global model.
        root_loss: `root_loss(params)` of parameters (d,), a scalar; it is called n times.
        num_malicious: f, 0 ≤ f < n; a traced value is clamped to that range.
        penalty: ρ ≥ 0, loss per squared length of an update; may be traced. The paper's 5e-4 is one on
            gradients: for updates of the length β · gradient it is 5e-4 / β².

    Returns:
        (d,), in the type of `updates`; 0 if no row is left.

    Raises:
        ValueError: if shapes do not fit or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.0], [0.8, 0.2], [-4.0, 0.0]])
        >>> loss = lambda params: jnp.sum((params - jnp.array([1.0, 0.0])) ** 2)
        >>> zeno.explained(rows, jnp.zeros(2), loss, num_malicious=1)[1]["selected"].tolist()
        [True, True, False]

    Source: Xie, Koyejo, Gupta, "Zeno: distributed stochastic gradient descent with suspicion-based
    fault-tolerance", ICML 2019, where L is that of a few examples drawn anew in every round; here it is that
    of the whole root dataset. IBM's federated-learning library keeps the f best rows.
    """
    n, d = updates.shape
    f = tolerated(num_malicious, n, (1, 0))
    penalty = real("penalty", penalty, at_least=0, finite=True)
    loss = called("root_loss", root_loss)
    # Which rows are kept is a step function of the updates: no gradient passes through it.
    fixed = jax.lax.stop_gradient(updates)
    center = jax.lax.stop_gradient(shaped("params", params, (d,)))
    finite = finite_rows(fixed)
    losses = of_models(loss, center, fixed, finite)
    # L(w) is the same in every score.
    costs = losses + penalty * square_norms(jnp.where(finite[:, None], fixed, 0.0))
    usable = finite & jnp.isfinite(costs)
    order = jnp.argsort(jnp.argsort(jnp.where(usable, costs, jnp.inf)))
    kept = usable & (order < n - f)
    update, selected = mean_of_rows(kept, updates)
    return jnp.where(jnp.any(kept), update, 0.0), {"selected": selected}
