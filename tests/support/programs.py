"""Functions compiled once for all tests of a process.

Outside jit every operation is compiled by itself, and a loop again at every call: most of a test's time.
test_rules.py and test_attacks.py compare the two for every rule and attack.
"""

import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax
import numpy as np

# JAX's defaults, which conftest.py turns off.
_DEFAULTS = {
    **({"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else {}),
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}


def optimized(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled as users compile it, for tests of what XLA makes of the code."""
    return jax.jit(function, compiler_options=_DEFAULTS)


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
