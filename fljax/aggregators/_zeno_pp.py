"""Zeno++: rows at the length of the server's own update, taken where they point its way."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, option, real, shaped
from fljax.numerics.cosines import cosines_to
from fljax.numerics.safe import Norms, contained, for_all, row_norms, safe_norms

Penalty = Literal["rescaled", "received"]


def _sum(shares: Array, stack: Array, norms: Norms) -> Array:
    return weighted_rows(shares, stack, norms.finite)


def _sum_of_shifted(shares: Array, stack: Array, norms: Norms) -> Array:
    return weighted_rows(shares, stack * norms.shifts[:, None], norms.finite)


@register_rule("zeno_pp", title="Zeno++", assumes="any f, with a clean root", source="Xie et al. 2020")
def zeno_pp(
    updates: Array,
    root_update: Array,
    *,
    rate: Float = 0.1,
    rho: Float = 0.001,
    epsilon: Float = 0.0,
    penalty: Penalty = "rescaled",
) -> tuple[Array, Info]:
    """Mean of the updates at the server's own length that point its way far enough (Zeno++).

    ĝ_i = g_i ‖g_0‖ / ‖g_i‖ is accepted where γ ⟨g_0, ĝ_i⟩ − ρ ‖ĝ_i‖² ≥ −γ ε; g is the mean of what is
    accepted, 0 if nothing is. With ε = 0 a row is accepted where its cosine with g_0 is at least ρ/γ. It
    needs no bound on the number of malicious rows: ‖g‖ ≤ ‖g_0‖ whatever they send. A zero or non-finite row
    is not accepted, and none is where g_0 is zero. The paper's server is asynchronous and decides on one
    update after the other, by a root update that may be old; here it decides on a round's, by this round's.

    Args:
        updates: (n, d).
        root_update: (d,), the server's own update g_0 on the root dataset.
        rate: γ > 0, the paper's learning rate; may be traced.
        rho: ρ ≥ 0; may be traced. The paper's gradients become updates by a factor, to which it is blind as
            long as g_i and g_0 have the same one.
        epsilon: ε ≥ 0, in squared units of the updates; may be traced.
        penalty: "rescaled" takes ρ ‖ĝ_i‖²; "received" ρ ‖g_i‖², as the authors' code does, which
            also rejects long rows.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the shapes do not fit or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [3.0, 4.0]])
        >>> [f"{entry:.2f}" for entry in zeno_pp(rows, jnp.array([1.0, 0.0]))]
        ['0.80', '0.40']

    Source: Xie, Koyejo, Gupta, "Zeno++: Robust fully asynchronous SGD", ICML 2020. Defaults are those of the
    authors' code, which computes the score with the length that a row had before it was rescaled.
    """
    rate = real("rate", rate, above=0, finite=True)
    rho = real("rho", rho, at_least=0, finite=True)
    epsilon = real("epsilon", epsilon, at_least=0, finite=True)
    option("penalty", penalty, get_args(Penalty))
    root = shaped("root_update", root_update, updates.shape[1:]).astype(updates.dtype)
    stack = contained(updates)
    fixed = jax.lax.stop_gradient(stack)
    norms = safe_norms(fixed)
    (root_norm,) = row_norms(root[None])
    penalties = rho * (root_norm if penalty == "rescaled" else norms.values / norms.shifts) ** 2
    score = rate * root_norm**2 * cosines_to(fixed, root) - penalties
    known = norms.finite & (norms.values > 0) & (root_norm > 0)
    accepted = known & (score >= -rate * epsilon)
    count = jnp.maximum(jnp.sum(accepted), 1)
    lengths = jnp.where(known, safe_norms(stack).values, 1.0)
    shares = jnp.where(accepted, root_norm / lengths / count, 0.0)
    usual = for_all(jnp.all(norms.shifts == 1))
    update = jax.lax.cond(usual, _sum, _sum_of_shifted, shares, stack, norms)
    return update, {"selected": accepted}
