"""A proximal term in the local loss."""

import jax

from fljax.base import Client, ClientAlgorithm, Params, State, Trained
from fljax.clients.registry import register_client_algorithm
from fljax.numerics.checks import Float, real


@register_client_algorithm(title="FedProx", source="Li et al., MLSys 2020")
def fedprox(*, mu: Float) -> ClientAlgorithm:
    """FedProx: every client minimises F_i(y) + (μ/2)·‖y − w‖² around the global model w.

    Every local step takes the gradient ∇F_i(y) + μ·(y − w). The client sends y − w and keeps nothing.

    Args:
        mu: μ ≥ 0; 0 is plain training; may be traced.

    Returns:
        The `ClientAlgorithm`, without state.

    Raises:
        ValueError: if a static `mu` is negative or not finite.

    Example:
        >>> fedprox(mu=0.01).num_messages
        0

    Source: Li et al., "Federated optimization in heterogeneous networks", MLSys 2020. The first step, at
    y = w, is that of plain training. The reported training loss is F_i without the term.
    """
    mu = real("mu", mu, at_least=0, finite=True)

    def train(client: Client, state: State, shared: State) -> Trained:
        def pulled(grads: Params, delta: Params, step: jax.Array) -> Params:
            return jax.tree.map(lambda grad, moved: grad + mu * moved, grads, delta)

        return client.descend(gradient=pulled)

    return ClientAlgorithm(train)
