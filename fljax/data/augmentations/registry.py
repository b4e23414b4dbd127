"""Augmentations by name, and several of them as one function of a batch."""

from collections.abc import Callable, Sequence

import jax
from jax import Array

from fljax.registry import F, Registry, with_options

AUGMENTATIONS = Registry("augmentation")


@with_options
def register_augmentation(
    name: str | None = None, *, title: str | None = None, source: str = ""
) -> Callable[[F], F]:
    """Make an augmentation known under a name, for configurations and lists; a decorator.

    The function is called as `change(x, key, **options)` with one input, before any trigger and
    normalisation, and a typed PRNG key of its own, and returns an input of the same shape and type. Its
    keyword-only parameters are its options.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.

    Returns:
        The decorator, which returns the function as it is.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> @register_augmentation()
        ... def brighter(x, key, *, most: float = 0.1):
        ...     '''Add one random number to all pixels.'''
        ...     return x + jax.random.uniform(key, (), x.dtype, 0.0, most)
        >>> AUGMENTATIONS["brighter"].summary
        'Add one random number to all pixels.'
        >>> AUGMENTATIONS.remove("brighter")
    """
    return AUGMENTATIONS.register(name, title=title, source=source)


def of_batch(changes: Sequence[Callable[[Array, Array], Array]]) -> Callable[[Array, Array], Array]:
    """Several augmentations, one after another, of every example of a batch.

    Args:
        changes: `change(x, key) -> x` each, of one input.

    Returns:
        `(x, key) -> x` of inputs (b, ...); every example and every augmentation has a key of its own.

    Example:
        >>> import jax.numpy as jnp
        >>> twice = of_batch([lambda x, key: 2 * x, lambda x, key: x + 1])
        >>> twice(jnp.arange(3.0), jax.random.key(0)).tolist()
        [1.0, 3.0, 5.0]
    """

    def one(x: Array, key: Array) -> Array:
        for number, change in enumerate(changes):
            x = change(x, jax.random.fold_in(key, number))
        return x

    return lambda x, key: jax.vmap(one)(x, jax.random.split(key, len(x)))
