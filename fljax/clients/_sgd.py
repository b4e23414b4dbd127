"""Plain local training."""

from fljax.base import Client, ClientAlgorithm, State, Trained
from fljax.clients.registry import register_client_algorithm


@register_client_algorithm(title="Local SGD", source="McMahan et al., AISTATS 2017")
def sgd() -> ClientAlgorithm:
    """Local steps from the global model, nothing kept: FedAvg's clients, and FLTrust's.

    y ← y − β·∇F_i(y), from y = w, by whichever `local.optimizer` is configured, which starts afresh in every
    round. The client sends y − w.

    Returns:
        The `ClientAlgorithm`, without state.

    Example:
        >>> sgd().num_messages
        0

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017.
    """

    def train(client: Client, state: State, shared: State) -> Trained:
        return client.descend()

    return ClientAlgorithm(train)
