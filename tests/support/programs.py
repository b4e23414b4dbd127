"""Functions compiled once for all tests of a process.

Outside jit every operation is compiled by itself, and a loop again at every call: most of a test's time.
test_rules.py and test_attacks.py compare the two for every rule and attack.
"""

import inspect
import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.simulation import experiment as running

# JAX's defaults, which conftest.py turns off: what decides about memory, and with what LLVM does.
FUSED = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else {}
DEFAULTS = {
    **FUSED,
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}


def optimized(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled as users compile it, for tests of what XLA makes of the code."""
    return jax.jit(function, compiler_options=DEFAULTS)


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


def jit_components(names: dict[str, Any]) -> None:
    """Compile the rules and attacks on updates among the names of an example, which calls them outside jit.

    There every operation is a program, a hundred of them for one line. That jit changes nothing is tested.
    """
    for registry in (RULES, PRE_AGGREGATORS, ATTACKS):
        for name, entry in registry.items():
            on_updates = "updates" in inspect.signature(entry.function).parameters
            if on_updates and names.get(name) is entry.function:
                names[name] = jitted(entry.function)


_assembled: dict[Any, running.Experiment] = {}
_compiled: dict[int, Any] = {}


def share_experiments(monkeypatch) -> None:
    """Assemble and compile runs of equal configurations once, for tests of what is around a run.

    Runs with components of their own are assembled and compiled every time.
    """
    assemble, compile_experiment = running.assemble, running.compile_experiment

    def assemble_once(config, *, memory=None, **components):
        if components:
            return assemble(config, memory=memory, **components)
        key = repr(config.model_dump()), memory
        if key not in _assembled:
            _assembled[key] = assemble(config, memory=memory)
        return _assembled[key]

    def compile_once(experiment):
        if not any(experiment is kept for kept in _assembled.values()):
            return compile_experiment(experiment)
        if id(experiment) not in _compiled:
            _compiled[id(experiment)] = compile_experiment(experiment)
        return _compiled[id(experiment)]

    monkeypatch.setattr(running, "assemble", assemble_once)
    monkeypatch.setattr(running, "compile_experiment", compile_once)
