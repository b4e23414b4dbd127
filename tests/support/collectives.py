"""The collectives of a compiled program: what its devices tell each other."""

import re
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fljax.numerics.sharding import CLIENTS_AXIS, RUNS_AXIS, by_columns, using

_KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
_HEAD = re.compile(r"(?:ENTRY )?%([\w.\-]+) \(")
_COLLECTIVE = re.compile(rf" = (.*?) ({_KINDS})(?:-start)?\(")
_CALLS = re.compile(r"(body|condition|true_computation|false_computation|to_apply|calls)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Collective(NamedTuple):
    """One operation between devices.

    Attributes:
        kind: as XLA names it.
        shapes: of its results on a device, without axes of length 1; () is a scalar.
        repeated: in a loop.
        rare: in the branch that a `lax.cond` takes where its condition does not hold. Of the numerics that is
            the careful one, for rows with huge, tiny or non-finite entries.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    repeated: bool
    rare: bool

    @property
    def largest(self) -> int:
        """Entries of the largest result."""
        return max(prod(shape) for shape in self.shapes)


def collectives(text: str) -> list[Collective]:
    """The collectives in the text of a compiled program, in its order."""
    caller: dict[str, tuple[str, str]] = {}
    lines: list[tuple[str, str]] = []
    computation = ""
    for line in text.splitlines():
        if not line.startswith(" ") and (head := _HEAD.match(line)):
            computation = head[1]
            continue
        lines.append((computation, line))
        for role, callee in _CALLS.findall(line):
            caller[callee] = computation, role
        for group in _BRANCHES.findall(line):
            # The first one is taken where the condition does not hold.
            for number, callee in enumerate(group.split(",")):
                role = "true_computation" if number else "false_computation"
                caller[callee.strip().lstrip("%")] = computation, role
    found = []
    for inside, line in lines:
        if operation := _COLLECTIVE.search(line):
            roles = []
            while inside in caller:
                inside, role = caller[inside]
                roles.append(role)
            shapes = tuple(
                tuple(int(size) for size in sizes.split(",") if size and size != "1")
                for sizes in re.findall(r"\w+\[([\d,]*)\]", operation[1])
            )
            found.append(Collective(operation[2], shapes, "body" in roles, "false_computation" in roles))
    return found


def on_two_devices(
    function: Callable[[jax.Array], jax.Array], stack: np.ndarray
) -> tuple[np.ndarray, list[Collective]]:
    """What a function makes of a stack that lies by columns, (d,) or (n', d), and what is exchanged."""
    d = stack.shape[1]

    def program(stack: jax.Array) -> jax.Array:
        result = function(by_columns(stack))
        # What leaves a program cannot be divided unevenly.
        return by_columns(jnp.pad(result, [(0, 0)] * (result.ndim - 1) + [(0, d % 2)]))

    mesh = jax.make_mesh((1, 2), (RUNS_AXIS, CLIENTS_AXIS), axis_types=(AxisType.Auto,) * 2)
    stack = jax.device_put(stack, NamedSharding(mesh, PartitionSpec()))
    with using(mesh):
        compiled = jax.jit(program).lower(stack).compile()
    return np.asarray(compiled(stack))[..., :d], collectives(compiled.as_text())
