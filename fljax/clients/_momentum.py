"""Momentum that stays with the worker."""

from fljax.base import Client, ClientAlgorithm, State, Trained
from fljax.clients.registry import register_client_algorithm
from fljax.clients.vectors import zero_vector
from fljax.numerics.checks import ArgumentError, Float, real


@register_client_algorithm(title="Worker momentum", source="Karimireddy et al., ICML 2021")
def momentum(*, beta: Float = 0.9) -> ClientAlgorithm:
    """Worker momentum: the client sends an average over its rounds instead of its last gradient.

    m_i ← β·m_i + (1 − β)·g_i from m_i = 0, and the client sends −η·m_i, with the local rate η of the round.
    With one local step of SGD g_i is the gradient of the batch, and a server with rate 1 does w − η·Rule(m):
    momentum by the workers before a robust rule, which lowers the variance among honest rows. With several
    steps, epochs or another local optimizer g_i is the pseudo-gradient −(y − w)/η of the plain training. A
    client that is not in the cohort keeps its m_i as it is.

    A malicious client keeps the m_i of the training that it would do honestly (on the data that its attack
    changes, if it does), and its attack changes the row that is made of it: as in ByzFL, an attacker knows
    the honest clients' momentum.

    Args:
        beta: β, from 0 (plain training) to below 1; may be traced.

    Returns:
        The `ClientAlgorithm`; a client's state is m_i (d,).

    Raises:
        ValueError: if a static `beta` is out of range.

    Example:
        >>> momentum(beta=0.99).num_messages
        0

    Source: Karimireddy, He and Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021;
    El Mhamdi et al., "Distributed momentum for Byzantine-resilient SGD", ICLR 2021. ByzFL starts from m = 0
    as well, so that its first rounds are shorter by 1 − β^t; its server's rate is η here.
    """
    beta = real("beta", beta, at_least=0, at_most=1)
    if isinstance(beta, float) and beta == 1:
        raise ArgumentError("beta=1 must be below 1: nothing would ever be learnt")

    def train(client: Client, state: State, shared: State) -> Trained:
        trained = client.descend()
        history = beta * state - (1 - beta) * (trained.update / client.learning_rate)
        return trained._replace(update=-client.learning_rate * history, state=history)

    return ClientAlgorithm(train, zero_vector)
