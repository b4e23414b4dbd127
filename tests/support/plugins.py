"""Modules of a user that register components, for tests that leave no trace of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.clients import CLIENT_ALGORITHMS
from fljax.data import AUGMENTATIONS, DATASETS, PARTITIONS
from fljax.losses import LOSSES
from fljax.metrics import METRICS
from fljax.models import MODELS
from fljax.tracking import TRACKERS

REGISTRIES = (
    RULES,
    PRE_AGGREGATORS,
    POST_AGGREGATORS,
    ATTACKS,
    DATASETS,
    PARTITIONS,
    AUGMENTATIONS,
    MODELS,
    CLIENT_ALGORITHMS,
    LOSSES,
    METRICS,
    TRACKERS,
)

# One of each kind, in a file of any name.
ONE_OF_EACH = '''
"""A study's own components."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

import fljax
from fljax.clients import ClientAlgorithm
from fljax.data import Dataset


@fljax.register_rule(title="Halfway", assumes="f = 0", source="this test, 2026")
def halfway(updates, weights=None, *, share: float | jax.Array = 0.5):
    """A step on the way to the mean.

    Args:
        updates: (n, d).
        weights: (n,) or None.
        share: of the way.
    """
    return share * jnp.average(updates, axis=0, weights=weights)


@fljax.register_pre_aggregator(title="Signs")
def signs(updates):
    """The sign of every entry."""
    return jnp.sign(updates)


@fljax.register_post_aggregator(title="Halved")
def halved(update):
    """Half of the update."""
    return update / 2


@fljax.register_attack("push", title="Push", assumes="own update", optimises="disturbance")
def push(updates, malicious, *, by: float | jax.Array = 1.0):
    """Every malicious row is moved by the same amount."""
    return jnp.where(malicious[:, None], updates + by, updates)


@fljax.register_dataset("two_rings", title="Two rings", source="this test, 2026", seeded=False)
def two_rings(data_dir, seed, *, radius: float = 2.0):
    """Points on two circles."""
    angle = np.linspace(0, 40, 120)
    y = (np.arange(120) % 2).astype(np.int32)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(y, radius, 1.0)[:, None]
    x = x.astype(np.float32)
    return Dataset(x[:100], y[:100], x[100:], y[100:], 2, "two_rings")


@fljax.register_partition("in_order", title="in order")
def in_order(labels, seed, *, num_clients: int, spare: int = 0):
    """Examples in the order of the data set."""
    size = (len(labels) - spare) // num_clients
    return np.arange(num_clients * size).reshape(num_clients, size), np.full(num_clients, size)


@fljax.register_augmentation(title="Brighter")
def brighter(x, key, *, most: float = 0.1):
    """Add one random number to all of an input."""
    return x + jax.random.uniform(key, (), x.dtype, 0.0, most)


@fljax.register_model("one_layer", title="One layer")
class OneLayer(linen.Module):
    """A dense layer on scaled inputs.

    Attributes:
        scale: of the inputs.
    """

    num_classes: int
    scale: float = 1.0

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.num_classes)(self.scale * x)


@fljax.register_client_algorithm("shorter", title="Shorter")
def shorter(*, share: float | jax.Array = 0.5):
    """A share of the local update."""

    def train(client, state, shared):
        trained = client.descend()
        return trained._replace(update=share * trained.update)

    return ClientAlgorithm(train)


@fljax.register_loss(labels="classes")
def hinge(outputs, labels, *, margin: float = 1.0):
    """How far the largest other output comes within a margin of the label's."""
    own = jnp.take_along_axis(outputs, labels[:, None], axis=1)
    away = jnp.where(jnp.arange(outputs.shape[1]) == labels[:, None], 0.0, margin)
    return jnp.max(outputs + away - own, axis=1)


@fljax.register_metric(title="largest loss")
def largest_loss(losses):
    """The largest loss of a test example."""
    return jnp.max(losses)


@fljax.register_tracker("shout", title="Shout")
class Shout:
    """Keeps the last error."""

    def evaluation(self, line):
        self.error = line["test_error"]
'''


@contextmanager
def no_trace() -> Iterator[None]:
    """Forget afterwards what was imported and registered meanwhile."""
    modules, path = set(sys.modules), list(sys.path)
    names = [list(registry) for registry in REGISTRIES]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith("study"):  # so are all of these tests called
                del sys.modules[name]
        for registry, known in zip(REGISTRIES, names, strict=True):
            for name in set(registry) - set(known):
                registry.remove(name)
