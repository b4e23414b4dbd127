"""What clients do in a round, and what stays with them: one `ClientAlgorithm` a file, found by its name."""

from fljax.base import Client, ClientAlgorithm, Trained
from fljax.clients._feddyn import feddyn
from fljax.clients._fedprox import fedprox
from fljax.clients._kept_optimizer import kept_optimizer
from fljax.clients._momentum import momentum
from fljax.clients._scaffold import scaffold
from fljax.clients._sgd import sgd
from fljax.clients.registry import (
    CLIENT_ALGORITHMS,
    client_algorithm_from_registry,
    register_client_algorithm,
)

__all__ = [
    "CLIENT_ALGORITHMS",
    "Client",
    "ClientAlgorithm",
    "Trained",
    "client_algorithm_from_registry",
    "feddyn",
    "fedprox",
    "kept_optimizer",
    "momentum",
    "register_client_algorithm",
    "scaffold",
    "sgd",
]
