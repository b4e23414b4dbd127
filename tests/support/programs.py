"""Functions compiled once for all tests of a process.

Outside jit every operation is compiled by itself, and a loop again at every call: most of a test's time.
test_rules.py and test_attacks.py compare the two for every rule and attack.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import jax
import numpy as np


@contextmanager
def quick():
    """In an OPTIMIZED module (see conftest.py): compile fast, for programs of which nobody else makes use."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


class _Traced:
    """Where an array goes among the arguments that are part of the program."""


_TRACED = _Traced()


@cache
def _program(
    function: Callable[..., Any], arguments: tuple, options: tuple, types: tuple
) -> Callable[..., Any]:
    # The types tell True from 1.
    @jax.jit
    def program(arrays):
        given = iter(arrays)
        filled = [next(given) if value is _TRACED else value for value in arguments]
        named = {name: next(given) if value is _TRACED else value for name, value in options}
        return function(*filled, **named)

    return program


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arrays traced and everything else static."""

    @wraps(function)
    def call(*arguments, **options):
        values = [*arguments, *options.values()]
        traced = [isinstance(value, (np.ndarray, np.generic, jax.Array)) for value in values]
        static = [_TRACED if is_array else value for value, is_array in zip(values, traced, strict=True)]
        program = _program(
            function,
            tuple(static[: len(arguments)]),
            tuple(zip(options, static[len(arguments) :], strict=True)),
            tuple(map(type, static)),
        )
        return program([value for value, is_array in zip(values, traced, strict=True) if is_array])

    return call
