"""Dynamic regularisation."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.base import Client, ClientAlgorithm, Params, State, Trained
from fljax.clients.registry import register_client_algorithm
from fljax.clients.vectors import zero_vector
from fljax.numerics.checks import Float, real


@register_client_algorithm(title="FedDyn", source="Acar et al., ICLR 2021")
def feddyn(*, alpha: Float) -> ClientAlgorithm:
    """FedDyn: local losses regularised so that their minima move to that of the global loss.

    Client i minimises F_i(y) − ⟨h_i, y⟩ + (α/2)·‖y − w‖² from y = w, by local steps along
    ∇F_i(y) − h_i + α·(y − w). Then h_i ← h_i − α·(y − w), and it sends y − w. The server has g of these
    updates by its rule, and h ← h − α·(τ/n)·g, w ← w + g − h/α, with τ of n clients in the round. All h are 0
    at first. With the plain mean for the rule (`weights = "uniform"`) and a server's rate of 1 this is the
    published algorithm.

    Under attack h is made of what the rule accepts, so that a robust rule guards the server's memory as well
    as the model. A malicious client keeps the h_i of its own training, as honest as its data.

    Args:
        alpha: α > 0; may be traced. Published values are 0.01 to 0.1.

    Returns:
        The `ClientAlgorithm`; states are h_i (d,) of every client and h (d,) of the server.

    Raises:
        ValueError: if a static `alpha` is not positive and finite.

    Example:
        >>> update, h = feddyn(alpha=0.5).serve(jnp.ones(1), (), jnp.zeros(1), 0.5)
        >>> update.tolist(), h.tolist()
        ([1.5], [-0.25])

    Source: Acar et al., "Federated learning based on dynamic regularization", ICLR 2021, Algorithm 1, with
    local steps in place of the exact minimum.
    """
    alpha = real("alpha", alpha, above=0, finite=True)

    def train(client: Client, state: State, shared: State) -> Trained:
        own = client.unravel(state)

        def regularised(grads: Params, delta: Params, step: Array) -> Params:
            return jax.tree.map(lambda grad, h, moved: grad - h + alpha * moved, grads, own, delta)

        trained = client.descend(gradient=regularised)
        return trained._replace(state=state - alpha * trained.update)

    def serve(update: Array, messages: tuple[Array, ...], shared: State, share: float) -> tuple[Array, State]:
        memory = shared - alpha * share * update
        return update - memory / alpha, memory

    return ClientAlgorithm(train, zero_vector, jnp.zeros, serve)
