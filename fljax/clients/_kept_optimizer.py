"""Local training by an optimizer that lasts."""

from typing import Any

from fljax.base import Client, ClientAlgorithm, Params, State, Trained
from fljax.clients.registry import register_client_algorithm


@register_client_algorithm(title="Local training, optimizer kept", keeps_optimizer=True)
def kept_optimizer() -> ClientAlgorithm:
    """Local steps by an optimizer that goes on where it was in the client's last round.

    As `sgd`, but momentum, moments and counts of `local.optimizer` stay with the client, also over rounds in
    which it is not in the cohort. The client sends y − w; nobody averages what it keeps.

    Returns:
        The `ClientAlgorithm`; a client's state is that of its optimizer, for Adam 2·d numbers and a count.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> kept_optimizer().init(jnp.zeros(3), optax.sgd(0.1, momentum=0.9))[0].trace.tolist()
        [0.0, 0.0, 0.0]
    """

    def init(params: Params, optimizer: Any) -> State:
        return optimizer.init(params)

    def train(client: Client, state: State, shared: State) -> Trained:
        trained = client.descend(optimizer_state=state)
        return trained._replace(state=trained.optimizer_state)

    return ClientAlgorithm(train, init)
