"""Model replacement."""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from jax import Array

from fljax.attacks._scaling_attack import scaling_attack
from fljax.attacks.poisoning import Pixels
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import checked, from_factory, on_updates
from fljax.base import Attack, Task
from fljax.numerics.checks import fixed_real, real
from fljax.numerics.subset_statistics import replaced


@partial(checked, streams=True)
def replace_model(updates: Array, malicious: Array, *, server_lr: float | Array = 1.0) -> Array:
    """Model replacement: malicious rows enlarged so that their mean becomes the new model under averaging.

    g'_i = n / (α m) · g_i for malicious i, with α = `server_lr` and m malicious rows. If the honest rows
    cancel, w + α · mean(g') = w + the mean of the malicious g_i: the model the attackers trained. With m = 1
    this is the published γ = n / η.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        server_lr: α, the server's learning rate.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `server_lr` is not positive.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [-2.0], [3.0]])
        >>> replace_model(rows, jnp.array([True, False, False, True])).tolist()
        [[2.0], [2.0], [-2.0], [6.0]]

    Source: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020, equation 3.
    """
    server_lr = real("server_lr", server_lr, above=0)
    factor = updates.shape[0] / (server_lr * jnp.maximum(jnp.sum(malicious), 1))
    return replaced(updates, malicious, lambda rows: factor.astype(rows.dtype) * rows)


@register_attack(
    title="Model replacement",
    source="Bagdasaryan et al. 2020",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def model_replacement(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    server_lr: float = 1.0,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    pixels: Pixels | None = None,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """Model replacement: a backdoor whose updates are enlarged by the factor that averaging divides by.

    As `scaling_attack`, but the malicious rows are multiplied by n / (α m) (see `replace_model`). The authors
    attack once, in a model that has nearly converged: schedule it (`scheduled`).

    Args:
        num_classes, image_shape, target, poison_fraction, pixels, every, value: as for `scaling_attack`.
        server_lr: α, the server's learning rate.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: as `scaling_attack`, or if `server_lr` is not positive.

    Example:
        >>> attack = model_replacement(image_shape=(8, 8, 1), target=3)
        >>> attack.trigger.target
        3

    Source: Bagdasaryan et al., AISTATS 2020; without its constrain-and-scale loss.
    """
    server_lr = fixed_real("server_lr", server_lr, above=0)
    backdoor = scaling_attack(
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=pixels,
        every=every,
        value=value,
    )
    return backdoor._replace(corrupt=on_updates(replace_model, Task(0), server_lr=server_lr).corrupt)
