"""The memory of a traced function: the intermediate results that are there at the same time."""

import math
from collections import Counter
from typing import Any, NamedTuple

from jax.extend.core import Literal

# Operations that a compiler does within the loops of those that read their results, so that these are never
# there as a whole; of the expensive ones, only for a single reader.
_EXPENSIVE = {
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "tanh",
    "logistic",
    "erf",
    "erf_inv",
    "pow",
    "sin",
    "cos",
}
_CHEAP = {
    *(
        "add",
        "add_any",
        "sub",
        "mul",
        "div",
        "rem",
        "neg",
        "max",
        "min",
        "abs",
        "sign",
        "floor",
        "ceil",
        "round",
    ),
    *(
        "sqrt",
        "rsqrt",
        "cbrt",
        "integer_pow",
        "square",
        "and",
        "or",
        "xor",
        "not",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
    ),
    *(
        "ge",
        "clamp",
        "select_n",
        "is_finite",
        "convert_element_type",
        "bitcast_convert_type",
        "population_count",
    ),
    *("broadcast_in_dim", "iota", "slice", "rev", "split", "reduce_precision", "nextafter", "copy"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic", "stop_gradient", "transpose"),
}
# Loops of their own that read what is computed within them.
_REDUCTIONS = {
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"),
    *("argmax", "argmin", "reduce", "concatenate"),
}
# The same numbers in the same place.
_VIEWS = {"reshape", "squeeze", "expand_dims", "sharding_constraint", "optimization_barrier", "turned"}
_UPDATES = {"dynamic_update_slice", "scatter", "scatter-add", "scatter_add"}
# Their result takes the place of what they read, if nobody else reads it.
_IN_PLACE = _CHEAP | _EXPENSIVE | _UPDATES
# So many operations later what a product has read is still there.
PRODUCTS = 4
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_LOOPS = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}


class _Step(NamedTuple):
    """An operation: the values that it reads and makes, by number, and the bytes of a loop's turn."""

    name: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    inside: int = 0


class _Steps:
    """A function as a list of operations, with the functions it calls written out."""

    def __init__(self, jaxpr: Any) -> None:
        self.steps: list[_Step] = []
        self.sizes: list[int] = []
        self.results = {value for value in self._add(jaxpr, [None] * len(jaxpr.invars)) if value is not None}

    def _add(self, jaxpr: Any, given: list[int | None]) -> list[int | None]:
        """Append the operations of a function; what it returns, None for what it was given."""
        known: dict[Any, int | None] = dict(zip(jaxpr.invars, given, strict=True))

        def value(var: Any) -> int | None:
            return None if isinstance(var, Literal) else known.get(var)

        for eqn in jaxpr.eqns:
            name, read = eqn.primitive.name, [value(var) for var in eqn.invars]
            if name == "transpose" and len(eqn.params["permutation"]) == 2:
                name = "turned"  # products read a matrix by rows or by columns
            called = next((eqn.params[key] for key in _CALLS if key in eqn.params), None)
            if called is not None and name not in _LOOPS:
                inner = getattr(called, "jaxpr", called)
                made = self._add(inner, read[len(read) - len(inner.invars) :])
            else:
                new = range(len(self.sizes), len(self.sizes) + len(eqn.outvars))
                made = [*new]
                self.sizes += [_bytes(var.aval) for var in eqn.outvars]
                inside = max([0, *(peak_bytes(turn, in_place=name != "cond") for turn in _turns(eqn))])
                inside += _copied(eqn)
                reads = tuple(each for each in read if each is not None)
                self.steps.append(_Step(name, reads, tuple(new), inside))
            known |= zip(eqn.outvars, made, strict=True)
        return [value(var) for var in jaxpr.outvars]


def _turns(eqn: Any) -> list[Any]:
    """The functions that a loop or a branch calls."""
    found: list[Any] = []
    for key in _LOOPS.get(eqn.primitive.name, ()):
        value = eqn.params[key]
        found += [each.jaxpr for each in (value if isinstance(value, (tuple, list)) else (value,))]
    return found


def _copied(eqn: Any) -> int:
    """The bytes of the copies that a loop over arrays needs: the largest it reads, the largest it makes."""
    if eqn.primitive.name != "scan":
        return 0
    # A turn sees one slice of these, and of everything else the whole; versions of JAX name the counts apart.
    turn = eqn.params["jaxpr"].jaxpr
    read = [
        outer.aval for outer, v in zip(eqn.invars, turn.invars, strict=True) if outer.aval.ndim > v.aval.ndim
    ]
    made = [
        outer.aval
        for outer, v in zip(eqn.outvars, turn.outvars, strict=True)
        if outer.aval.ndim > v.aval.ndim
    ]
    if len(made) == len(eqn.outvars):
        return 0  # nothing is carried
    return sum(max([0, *map(_bytes, avals)]) for avals in (read, made))


def _bytes(aval: Any) -> int:
    return math.prod(getattr(aval, "shape", ())) * int(getattr(getattr(aval, "dtype", None), "itemsize", 0))


def peak_bytes(jaxpr: Any, in_place: bool = False) -> int:
    """The most bytes of results, final and intermediate, that a traced function holds at once.

    An elementwise operation is part of those that read it. A loop holds its results and what one turn of it
    holds. A result is held until it is read for the last time. What the function is given does not count.

    Args:
        jaxpr: that of `jax.make_jaxpr(function)(...)`.
        in_place: whether its elementwise results take the place of what it was given, as in a loop.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> function = jax.make_jaxpr(lambda a: jnp.tanh(a @ a) @ a)(jnp.zeros((8, 8)))
        >>> peak_bytes(function.jaxpr) == 2 * 8 * 8 * 4
        True
    """
    traced = _Steps(jaxpr)
    stored = _stored(traced)
    # The arrays that a value is computed from, as far as nothing of it is stored.
    roots: dict[int, frozenset[int]] = {}
    last: dict[int, int] = {}
    for place, step in enumerate(traced.steps):
        read = frozenset().union(*(roots.get(value, frozenset()) for value in step.reads))
        if stored.isdisjoint(step.makes):
            roots |= dict.fromkeys(step.makes, read)
            continue
        # The products of a backward pass are made in any order: what one reads waits for the next.
        later = place + PRODUCTS * (step.name == "dot_general")
        last |= {value: max(later, last.get(value, 0)) for value in read}
        roots |= {value: frozenset({value}) if value in stored else read for value in step.makes}
    for value in traced.results:
        last |= dict.fromkeys(roots.get(value, ()), len(traced.steps))
    sizes = traced.sizes
    if in_place:
        over = {v for step in traced.steps if step.name in _IN_PLACE for v in step.makes}
        sizes = [0 if v in traced.results & over else size for v, size in enumerate(sizes)]
    ends: dict[int, list[int]] = {}
    for value, place in last.items():
        place = min(place, len(traced.steps))
        ends.setdefault(place, []).append(value)
    held = most = 0
    for place, step in enumerate(traced.steps):
        own = [sizes[value] for value in step.makes if value in stored and value in last]
        freed = [sizes[value] for value in ends.get(place, ())]
        again = 0
        if step.name in _IN_PLACE or step.name in _LOOPS:
            again = sum(size * count for size, count in (Counter(own) & Counter(freed)).items())
        most = max(most, held + sum(own) - again + step.inside)
        held += sum(own) - sum(freed)
    return most


def _stored(traced: _Steps) -> set[int]:
    """The values that are there as a whole."""
    readers = Counter(value for step in traced.steps for value in set(step.reads))
    needed, stored = set(traced.results), set()
    for step in reversed(traced.steps):
        if step.name in _VIEWS:
            needed |= {value for value in step.reads if not needed.isdisjoint(step.makes)}
        elif step.name in _CHEAP or (step.name in _EXPENSIVE and readers[step.makes[0]] < 2):
            stored |= needed.intersection(step.makes)
        else:
            stored |= set(step.makes)
            if step.name not in _REDUCTIONS | _EXPENSIVE:
                needed |= set(step.reads)
    return stored
