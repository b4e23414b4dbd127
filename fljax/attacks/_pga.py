"""Gradient ascent, enlarged by the factor that does the round's own rule most damage."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks._gradient_ascent import gradient_ascent
from fljax.attacks.registry import register_attack
from fljax.attacks.searches.factor import send_best
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge, State
from fljax.numerics.checks import ArgumentError, fixed_real, whole
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import honest_rows


@register_attack(
    title="PGA",
    source="Shejwalkar et al. 2022",
    assumes="all updates, the rule",
    optimises="deviation from the honest mean",
    make=from_factory,
)
def pga(
    *,
    largest: float = 64.0,
    evaluations: int = 7,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Projected gradient ascent: local ascent at an honest length, times the factor the rule minds most.

    Malicious client i trains upwards from the model (`gradient_ascent`) to u_i and sends

        g'_i = γ τ u_i / ‖u_i‖,

    with τ the mean norm of the honest rows and one γ for all, the one that maximises ‖rule(attacked) − μ‖
    for the honest mean μ among `evaluations` factors of a geometric grid from 1 to Γ. A result that is not
    finite counts as no deviation, and of equal factors the smallest is sent.

    Args:
        largest: Γ ≥ 1; 1 for a server that bounds norms.
        evaluations: how often the rule is run, one after the other; at least 1.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> attack = pga(largest=1.0)
        >>> rows, malicious = jnp.array([[3.0, 4.0], [0.0, -0.5]]), jnp.array([False, True])
        >>> known = Knowledge(None, rule=lambda stack: jnp.mean(stack, 0))
        >>> attack.corrupt(rows, malicious, (), known)[0].tolist()
        [[3.0, 4.0], [0.0, -5.0]]

    Source: Shejwalkar et al., "Back to the drawing board: a critical evaluation of poisoning attacks on
    production federated learning", IEEE S&P 2022. The paper gives neither grid nor Γ: both are this
    library's, as is that all attackers know the honest rows.
    """
    most = fixed_real("largest", largest, at_least=1, finite=True)
    evaluations = whole("evaluations", evaluations, smallest=1)
    grid = np.unique(np.geomspace(1.0, most, evaluations))

    def corrupt(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        if knowledge.rule is None:
            raise ArgumentError("needs rule, which this round does not provide")
        norms = row_norms(updates)
        known = honest_rows(malicious) & jnp.isfinite(norms)
        length = jnp.sum(jnp.where(known, norms, 0.0)) / jnp.maximum(jnp.sum(known), 1)
        own = malicious & (norms > 0) & jnp.isfinite(norms)
        scale = jnp.where(own, length / jnp.where(own, norms, 1.0), 0.0)
        sent = send_best(
            updates,
            malicious,
            knowledge.rule,
            base=jnp.zeros((), updates.dtype),
            direction=scale[:, None] * jnp.where(own[:, None], updates, 0.0),
            factors=jnp.asarray(grid, updates.dtype),
            shrinking=np.empty(0),
            largest=most,
        )
        return sent, state

    ascent = gradient_ascent(steps=steps, epochs=epochs, learning_rate=learning_rate)
    return ascent._replace(corrupt=corrupt, streams=False)
