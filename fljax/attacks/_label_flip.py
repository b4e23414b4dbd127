"""Label flipping."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import on_labels
from fljax.numerics.checks import ArgumentError, whole


@register_attack(
    title="Label flipping",
    source="Fang et al. 2020",
    assumes="own data",
    optimises="untargeted error",
    make=on_labels,
)
def label_flip(
    labels: Array, *, num_classes: int, source: int | None = None, target: int | None = None
) -> Array:
    """Label flipping: y becomes num_classes − 1 − y; features are untouched.

    With an odd number of classes the middle one stays what it is. With `source` and `target`, only labels
    equal to `source` change, to `target`.

    Args:
        labels: integers in [0, num_classes), any shape.
        num_classes: number of labels M.
        source: the class that is flipped; None for all.
        target: what it becomes.

    Returns:
        Labels of the same shape and type.

    Raises:
        ValueError: if only one of `source` and `target` is given, or one is not a label.

    Example:
        >>> label_flip(jnp.array([0, 1, 9]), num_classes=10).tolist()
        [9, 8, 0]
        >>> label_flip(jnp.array([0, 1, 9]), num_classes=10, source=1, target=7).tolist()
        [0, 7, 9]

    Source: Fang et al., "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
    Security 2020, and Cao et al., NDSS 2021; one source class to one target class: Tolpegin et al., "Data
    poisoning attacks against federated learning systems", ESORICS 2020.
    """
    if (source is None) != (target is None):
        raise ValueError(f"label_flip: source={source} and target={target} go together")
    num_classes = whole("num_classes", num_classes, smallest=1)
    if source is None or target is None:
        return num_classes - 1 - labels
    for name, label in (("source", source), ("target", target)):
        if whole(name, label) >= num_classes:
            raise ArgumentError(f"{name}={label} is not one of the {num_classes} labels from 0")
    return jnp.where(labels == source, jnp.asarray(target, labels.dtype), labels)
