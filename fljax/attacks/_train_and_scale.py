"""A backdoor whose update is enlarged as far as a detector's bound allows."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks._model_replacement import replace_model
from fljax.attacks.registry import register_attack
from fljax.attacks.training import backdoored
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge, State, Task
from fljax.numerics.checks import real
from fljax.numerics.rows import map_rows
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import replaced


@register_attack(
    title="Train and scale",
    source="Bagdasaryan et al. 2020",
    assumes="own data, n, α and the norm bound",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def train_and_scale(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    bound: float | Array,
    factor: float | Array | None = None,
    server_lr: float | Array = 1.0,
    backdoor: Attack | None = None,
) -> Attack:
    """Train and scale: a backdoor, enlarged to replace the model or to the norm that a defence still takes.

    Malicious clients train as honest ones do, on poisoned data, and send γ δ of their update δ with

        γ = min(n / (α m), S / ‖δ‖)

    for n rows, m of them malicious (see `replace_model`), S = `bound` and γ finite where δ = 0. It is
    `constrain_and_scale` without an anomaly term, and costs no further training.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        bound: S ≥ 0, the largest norm of what is sent.
        factor: in place of n / (α m).
        server_lr: α, the server's learning rate.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.

    Returns:
        The `Attack`, with the backdoor's `Trigger`.

    Raises:
        ValueError: if a number is out of range or `backdoor` is none.

    Example:
        >>> attack = train_and_scale(image_shape=(8, 8, 1), bound=3.0, factor=10.0)
        >>> rows, malicious = jnp.array([[1.0, 0.0], [0.0, 0.1]]), jnp.array([True, True])
        >>> attack.corrupt(rows, malicious, attack.init(2, 2), Knowledge(None))[0].tolist()
        [[3.0, 0.0], [0.0, 1.0]]

    Source: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020, section 4.4. FedML tests
    one attribute for its list of rounds and reads another, and stops counting rounds once it skips one.
    """
    gamma = None if factor is None else real("factor", factor, finite=True)
    most = real("bound", bound, at_least=0, finite=True)
    server_lr = real("server_lr", server_lr, above=0, finite=True)

    def send(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        sent = enlarged(updates, malicious, gamma, server_lr)
        return within(sent, malicious, most), state

    return backdoored(backdoor, Task(num_classes, image_shape=image_shape), send=send)


def enlarged(
    updates: Array, malicious: Array, factor: float | Array | None, server_lr: float | Array
) -> Array:
    """The stack with malicious rows times a factor, None for the one that replaces the model."""
    if factor is None:
        return replace_model(updates, malicious, server_lr=server_lr)
    return replaced(updates, malicious, lambda rows: jnp.asarray(factor, rows.dtype) * rows)


def within(updates: Array, malicious: Array, bound: float | Array) -> Array:
    """The stack with malicious rows no longer than `bound`."""

    def bounded(rows: Array, bad: Array) -> Array:
        norms = row_norms(rows)
        shorter = jnp.asarray(bound, rows.dtype) / jnp.where(norms > 0, norms, 1.0)
        longer = bad & (norms > bound)
        return jnp.where(longer[:, None], shorter[:, None] * rows, rows)

    return map_rows(bounded, updates, malicious)
