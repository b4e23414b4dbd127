"""The client algorithms that a configuration can name; each is registered where it is written."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

from fljax.base import ClientAlgorithm
from fljax.numerics.checks import named
from fljax.registry import F, Registry, with_options

# `needs_sgd`: it takes the local update for a sum of gradients. `keeps_optimizer`: the local optimizer goes
# on where it was in the client's last round.
CLIENT_ALGORITHMS = Registry("client algorithm", needs_sgd=False, keeps_optimizer=False)


@with_options
def register_client_algorithm(
    name: str | None = None,
    *,
    title: str | None = None,
    source: str = "",
    assumes: str = "",
    needs_sgd: bool = False,
    keeps_optimizer: bool = False,
) -> Callable[[F], F]:
    """A decorator that makes an algorithm of the clients known under a name.

    Args:
        name: what a configuration calls it: letters, digits, `_` and `-`, a letter first; default the
            function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        assumes: what it relies on.
        needs_sgd: whether it is refused with a local optimizer other than plain SGD.
        keeps_optimizer: whether the local optimizer's state is kept between rounds, so that one step a round
            is enough for momentum or moments.

    Returns:
        The decorator, for a function of keyword-only hyper-parameters that returns a `ClientAlgorithm`. It
        returns the function, with its name in front of what its checks raise.

    Raises:
        ValueError: for a name that is taken by another function, or no name.

    Example:
        >>> import jax
        >>> @register_client_algorithm("halved", title="Half a step")
        ... def halved(*, share: float | jax.Array = 0.5):
        ...     '''Half of the way that plain training goes.'''
        ...     def train(client, state, shared):
        ...         trained = client.descend()
        ...         return trained._replace(update=share * trained.update)
        ...     return ClientAlgorithm(train)
        >>> CLIENT_ALGORITHMS["halved"].summary
        'Half of the way that plain training goes.'
        >>> CLIENT_ALGORITHMS.remove("halved")
    """

    def register(function: F) -> F:
        facts = {"needs_sgd": needs_sgd, "keeps_optimizer": keeps_optimizer}
        enter = CLIENT_ALGORITHMS.register(name, title=title, source=source, assumes=assumes, **facts)
        return enter(_checked(function, name))

    return register


def _checked(function: F, name: str | None) -> F:
    """The function with its name in front of what its checks raise."""
    if not callable(function):
        return function  # the registry has a sentence for it
    title = f"client {name or getattr(function, '__name__', '?')}"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> ClientAlgorithm:
        with named(title):
            made = function(*args, **kwargs)
        if not isinstance(made, ClientAlgorithm):
            raise ValueError(f"{title}: must return a ClientAlgorithm, got a {type(made).__name__}")
        return made

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return cast(F, call)


def client_algorithm_from_registry(name: str, **hyper: Any) -> ClientAlgorithm:
    """The `ClientAlgorithm` of a registry entry.

    Args:
        name: an entry of `CLIENT_ALGORITHMS`.
        **hyper: its keyword-only parameters.

    Raises:
        ConfigError: if there is no such algorithm.
        ValueError: if a parameter is wrong.

    Example:
        >>> client_algorithm_from_registry("scaffold").num_messages
        1
    """
    return CLIENT_ALGORITHMS.find(name).function(**hyper)
