"""Control variates against client drift."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.base import Client, ClientAlgorithm, Params, State, Trained
from fljax.clients.registry import register_client_algorithm
from fljax.clients.vectors import zero_vector
from fljax.numerics.checks import option as one_of


@register_client_algorithm(title="SCAFFOLD", source="Karimireddy et al., ICML 2020", needs_sgd=True)
def scaffold(*, option: Literal["I", "II"] = "II") -> ClientAlgorithm:
    """SCAFFOLD: local steps corrected by how the client's gradient differs from everybody's.

    Client i takes K steps y ← y − η·(∇F_i(y) − c_i + c) from y = w. Its new control variate is, by option
    "I", the gradient over all of its examples at w, and by option "II", c_i − c + (w − y)/(K·η). It sends
    y − w and Δc_i, the change of its control variate. The server has g of the updates and Δc of the changes,
    both by its rule, and w ← w + α·g, c ← c + (τ/n)·Δc, with τ of n clients in the round. All control
    variates are 0 at first. With the plain mean for the rule (`weights = "uniform"`) this is the published
    algorithm.

    Under attack the changes are a stack of their own. A malicious client's attack makes its row of that stack
    as it makes its row of the updates (it flips, scales or replaces both), and the rule aggregates each
    stack by itself, with a state of its own: nothing reaches c that the rule would not let reach w. A rule
    that compares rows with the server's own update cannot be used, since the server has no Δc. A malicious
    client keeps the c_i of its own training, as honest as its data.

    Args:
        option: "I" costs another pass over the examples and is more stable; "II" costs nothing.

    Returns:
        The `ClientAlgorithm`; states are c_i (d,) of every client and c (d,) of the server.

    Raises:
        ValueError: for another option.

    Example:
        >>> _, c = scaffold().serve(jnp.ones(1), (jnp.ones(1),), jnp.zeros(1), 0.25)
        >>> c.tolist()
        [0.25]

    Source: Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning", ICML 2020,
    Algorithm 1. K is the client's own number of steps where clients differ.
    """
    option = one_of("option", option, ("I", "II"))

    def train(client: Client, state: State, shared: State) -> Trained:
        correction = client.unravel(shared - state)

        def corrected(grads: Params, delta: Params, step: Array) -> Params:
            return jax.tree.map(jnp.add, grads, correction)

        trained = client.descend(gradient=corrected)
        if option == "I":
            own = client.gradient(client.params)
        else:
            own = state - shared - trained.update / (jnp.maximum(trained.steps, 1) * client.learning_rate)
        return trained._replace(state=own, messages=(own - state,))

    def serve(update: Array, messages: tuple[Array, ...], shared: State, share: float) -> tuple[Array, State]:
        return update, shared + share * messages[0]

    return ClientAlgorithm(train, zero_vector, jnp.zeros, serve, num_messages=1)
