"""Losses by name."""

from collections.abc import Callable
from typing import Literal

from fljax.registry import F, Registry, with_options

LOSSES = Registry("loss", labels="any")


@with_options
def register_loss(
    name: str | None = None,
    *,
    title: str | None = None,
    source: str = "",
    labels: Literal["classes", "numbers", "any"] = "any",
) -> Callable[[F], F]:
    """Make a loss known under a name, for configurations and lists; a decorator.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        labels: what it compares outputs with: int32 classes, float32 numbers (regression), or either.

    Returns:
        The decorator, for a pure function `loss(outputs, labels)` of a batch: outputs (b, M) and labels (b,),
        for next-token labels (b, T, M) and (b, T), for regression (b, k) and (b, k). It returns one value
        per example, (b,), or more, (b, ...), whose mean counts. Its keyword-only parameters are those
        of its table. The decorator returns it as it is.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> import jax.numpy as jnp
        >>> @register_loss(labels="numbers")
        ... def quartic(outputs, labels, *, scale: float = 1.0):
        ...     return scale * (outputs - labels.reshape(outputs.shape)) ** 4
        >>> quartic(jnp.array([[2.0]]), jnp.array([1.0])).tolist()
        [[1.0]]
        >>> LOSSES.remove("quartic")
    """
    return LOSSES.register(name, title=title, source=source, labels=labels)
