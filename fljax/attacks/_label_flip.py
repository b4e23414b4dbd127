"""Label flipping."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import on_labels
from fljax.numerics.checks import ArgumentError, option, whole

Kind = Literal["opposite", "next"]


@register_attack(
    title="Label flipping",
    source="Fang et al. 2020",
    assumes="own data",
    optimises="untargeted error",
    make=on_labels,
)
def label_flip(
    labels: Array,
    *,
    num_classes: int,
    kind: Kind = "opposite",
    source: int | None = None,
    target: int | None = None,
) -> Array:
    """Label flipping: y becomes num_classes − 1 − y; features are untouched.

    With an odd number M of classes the middle one stays what it is. With `kind="next"` y becomes (y + 1) mod
    M. With a `target` every label becomes the target, or only those equal to `source`.

    Args:
        labels: integers in [0, num_classes), any shape.
        num_classes: number of labels M.
        kind: what a label becomes where no target is given: "opposite" or "next".
        source: the class that is flipped; None for all.
        target: what it becomes.

    Returns:
        Labels of the same shape and type.

    Raises:
        ValueError: if `source` is given without `target`, one of them is not a label, or `kind` is neither,
            or goes with a target.

    Example:
        >>> label_flip(jnp.array([0, 1, 9]), num_classes=10).tolist()
        [9, 8, 0]
        >>> label_flip(jnp.array([0, 1, 9]), num_classes=10, source=1, target=7).tolist()
        [0, 7, 9]

    Source: Fang et al., "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
    Security 2020, and Cao et al., NDSS 2021; one source class to one target class: Tolpegin et al., "Data
    poisoning attacks against federated learning systems", ESORICS 2020. "next" is the all-to-all map of
    BackFed; FLPoison's is "opposite".
    """
    if source is not None and target is None:
        raise ValueError(f"label_flip: source={source} and target={target} go together")
    num_classes = whole("num_classes", num_classes, smallest=1)
    option("kind", kind, get_args(Kind))
    if target is None:
        return num_classes - 1 - labels if kind == "opposite" else (labels + 1) % num_classes
    if kind != "opposite":
        raise ArgumentError(f'kind="{kind}" must be left out with target={target}')
    for name, label in (("source", source), ("target", target)):
        if label is not None and whole(name, label) >= num_classes:
            raise ArgumentError(f"{name}={label} is not one of the {num_classes} labels from 0")
    flipped = jnp.asarray(target, labels.dtype)
    return jnp.full_like(labels, flipped) if source is None else jnp.where(labels == source, flipped, labels)


@register_attack(
    title="Random label flipping",
    source="Shejwalkar et al. 2022",
    assumes="own data",
    optimises="untargeted error",
    make=on_labels,
)
def random_label_flip(labels: Array, key: Array, *, num_classes: int) -> Array:
    """Random label flipping: y becomes one of the other labels, drawn anew for every batch.

    Each of the num_classes − 1 labels that are not y has the same probability.

    Args:
        labels: integers in [0, num_classes), any shape.
        key: typed PRNG key of a client's batch.
        num_classes: number of labels M.

    Returns:
        Labels of the same shape and type.

    Example:
        >>> flipped = random_label_flip(jnp.zeros(1000, jnp.int32), jax.random.key(0), num_classes=3)
        >>> sorted(set(flipped.tolist()))
        [1, 2]

    Source: Shejwalkar et al., "Back to the drawing board: a critical evaluation of poisoning attacks on
    production federated learning", IEEE S&P 2022. The random label of FLPoison may be the true one; ByrdLab
    never draws the last class, either.
    """
    num_classes = whole("num_classes", num_classes, smallest=1)
    # Of a single class there is no other.
    shift = jax.random.randint(key, labels.shape, 1, max(num_classes, 2), labels.dtype)
    return (labels + shift) % num_classes
