"""Models by name."""

from collections.abc import Callable
from typing import Any, TypeVar

from fljax.registry import Registry, with_options

Factory = TypeVar("Factory", bound=Callable[..., Any])

MODELS = Registry("model")


@with_options
def register_model(
    name: str | None = None, *, title: str | None = None, source: str = ""
) -> Callable[[Factory], Factory]:
    """Make a model known under a name, for configurations and lists; a decorator.

    Args:
        name: what a configuration calls it; default its own name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.

    Returns:
        The decorator, for a `flax.linen` module class with a field `num_classes`, whose other fields are the
        model's parameters, or for a function of `num_classes` that returns what `as_model` takes, whose other
        keyword-only parameters are. Both may also take `num_tokens`, how many tokens the inputs are made of,
        and `every_token`, whether there is a label after every one. It returns what it is given.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> from flax import linen
        >>> @register_model("linear", title="linear model")
        ... class Linear(linen.Module):
        ...     '''One dense layer.'''
        ...     num_classes: int
        ...     bias: bool = True
        ...     @linen.compact
        ...     def __call__(self, x):
        ...         return linen.Dense(self.num_classes, use_bias=self.bias)(x.reshape(len(x), -1))
        >>> MODELS["linear"].summary
        'One dense layer.'
        >>> MODELS.remove("linear")
    """
    return MODELS.register(name, title=title, source=source)
