"""Checks of arguments: each returns the argument in the form a function computes with, or raises.

What is concrete is checked, in whatever form it comes: Python, NumPy or JAX. A traced value has no number
yet: its shape and type are checked, and a count is clamped.

A check raises `ArgumentError`, which does not say whose argument it was; `named` puts the name of the public
function in front.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Int = int | Array
Float = float | Array


class ArgumentError(ValueError):
    """An argument that a function does not take, in a sentence without the function's name."""


@contextmanager
def named(function: str) -> Iterator[None]:
    """Put the function's name in front of what its checks raise; other errors pass as they are.

    Example:
        >>> with named("clip"):
        ...     real("radius", -1.0, above=0)
        Traceback (most recent call last):
        ValueError: clip: radius=-1.0 must be larger than 0
    """
    try:
        yield
    except ArgumentError as error:
        raise ValueError(f"{function}: {error}") from None


def is_known(value: Any) -> bool:
    """Tell a value that can be read here from one that is traced, or in part on another host."""
    if not isinstance(value, Array):
        return True
    return not isinstance(value, jax.core.Tracer) and value.is_fully_addressable


def as_number(value: Any) -> Any:
    """A concrete scalar, of Python, NumPy or JAX, as a Python number; anything else as it is.

    Example:
        >>> as_number(jnp.int32(3)), as_number(np.array(0.5)), as_number(True), as_number(None)
        (3, 0.5, True, None)
    """
    if isinstance(value, (Array, np.generic, np.ndarray)) and value.ndim == 0 and is_known(value):
        for kind, number in ((jnp.bool_, bool), (jnp.integer, int), (jnp.floating, float)):
            if jnp.issubdtype(value.dtype, kind):
                return number(value)
    return value


def is_static(value: Any) -> bool:
    """Tell a plain number, which can be checked while tracing, from a traced one."""
    return isinstance(as_number(value), (int, float))


def shown(value: Any) -> str:
    """A value in a few words, for messages."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _traced(name: str, value: Any, must: str, *kinds: Any) -> Array:
    """A traced scalar of one of these kinds.

    Raises:
        ArgumentError: if it is none.
    """
    scalar = isinstance(value, Array) and value.shape == ()
    if not scalar or not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise ArgumentError(f"{name} must be {must}, got {shown(value)}")
    return value


def real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    finite: bool = False,
) -> Float:
    """A real number: a concrete one as a Python float in its range, a traced one as it is.

    Args:
        name: the parameter.
        value: what was given for it.
        above: it must be larger than that.
        at_least: it must not be smaller.
        at_most: it must not be larger.
        finite: whether infinity is out of range.

    Raises:
        ArgumentError: if it is no number or out of range.
    """
    if at_least is not None and at_most is not None:
        must = [f"between {at_least:g} and {at_most:g}"]
    else:
        limits = (("larger than", above), ("at least", at_least), ("at most", at_most))
        must = [f"{words} {limit:g}" for words, limit in limits if limit is not None]
    must += ["finite"] if finite else []
    allowed = " and ".join(must)
    value = as_number(value)
    if not isinstance(value, (int, float)):
        return _traced(name, value, f"a number {allowed}".rstrip(), jnp.integer, jnp.floating)
    number = math.nan if isinstance(value, bool) else _float(value)
    in_range = (
        (above is None or number > above)
        and (at_least is None or number >= at_least)
        and (at_most is None or number <= at_most)
        and (not finite or math.isfinite(number))
    )
    if isinstance(value, bool) or not in_range:
        raise ArgumentError(f"{name}={value} must be {allowed or 'a number'}")
    return number


def fixed_real(name: str, value: Any, **limits: Any) -> float:
    """A real number that decides what is compiled, as a Python float; `limits` as for `real`.

    Raises:
        ArgumentError: if it is no number, out of range or traced.
    """
    _refuse_traced(name, value, "float")
    return float(real(name, value, **limits))


def _refuse_traced(name: str, value: Any, kind: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise ArgumentError(
            f"{name} must be a Python {kind}, got a traced value; under jit, make it static (static_argnames)"
        )


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _whole(name: str, value: float, smallest: int, largest: int | None = None) -> int:
    must = "a whole number of at least" if largest is None else "a whole number from"
    must = f"{must} {smallest}" + ("" if largest is None else f" to {largest}")
    if isinstance(value, bool) or not math.isfinite(_float(value)) or int(value) != value:
        raise ArgumentError(f"{name}={value} must be {must}")
    if value < smallest or (largest is not None and value > largest):
        raise ArgumentError(f"{name}={value} must be {must}")
    return int(value)


def whole(name: str, value: Any, *, smallest: int = 0, largest: int | None = None) -> int:
    """A count that decides shapes or what is compiled, as a Python int.

    Args:
        name: the parameter.
        value: what was given for it.
        smallest: the least it may be.
        largest: the most it may be.

    Raises:
        ArgumentError: if it is no whole number in that range, or traced.
    """
    value = as_number(value)
    _refuse_traced(name, value, "int")
    if not isinstance(value, (int, float)):
        raise ArgumentError(f"{name} must be a whole number, got {shown(value)}")
    return _whole(name, value, smallest, largest)


def flag(name: str, value: Any) -> bool:
    """A switch, as a Python bool.

    Raises:
        ArgumentError: if it is neither True nor False, or traced.
    """
    value = as_number(value)
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False, got {shown(value)}")
    return value


def option(name: str, value: Any, allowed: Sequence[str | int]) -> Any:
    """The one of a few names or numbers that was given, in whatever form.

    Raises:
        ArgumentError: if it is none of them.
    """
    value = as_number(value)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool) or value not in allowed:
        names = [f'"{each}"' if isinstance(each, str) else str(each) for each in allowed]
        allowed_text = " or ".join(names)
        if isinstance(value, (str, int, float)):
            raise ArgumentError(f"{name}={value!r} must be {allowed_text}")
        raise ArgumentError(f"{name} must be {allowed_text}, got {shown(value)}")
    return allowed[allowed.index(value)]


def bounded(
    name: str, value: Any, *, largest: int, needs: str, n: int | None = None, smallest: int = 0
) -> Int:
    """A count from `smallest` to `largest`: a concrete one outside is an error, a traced one is clamped."""
    value = as_number(value)
    if isinstance(value, (int, float)):
        value = _whole(name, value, smallest)
        if value > largest:
            got = "" if n is None else f", got n={n}"
            raise ArgumentError(f"{name}={value} needs {needs}{got}")
        return value
    value = _traced(name, value, "a whole number", jnp.integer)
    # No narrower than what is computed from it: 127 of 1000 rows fit an int8, the rest of them do not.
    wide = jnp.promote_types(value.dtype, jnp.int32)
    return jnp.clip(value.astype(wide), smallest, largest)


def tolerated(
    value: Any,
    n: int,
    bound: tuple[int, int],
    *,
    least: tuple[int, int] | None = None,
    strict: bool = True,
    name: str = "num_malicious",
) -> Int:
    """A number f of malicious rows that n rows allow; one beyond is an error, or clamped if traced.

    Args:
        value: f.
        n: how many rows there are.
        bound: (a, b) where the rule's guarantee needs n > a·f + b.
        least: (a, b) where what it computes needs no more than that; None for no less than the guarantee.
        strict: whether the guarantee's bound counts, or `least`.
        name: the parameter.

    Raises:
        ArgumentError: if there are too few rows even for f = 0, or for a concrete f.
    """
    strict = flag("strict", strict) or least is None
    (slope, offset), weaker = (bound, least) if strict or least is None else (least, None)
    if n <= offset:
        raise ArgumentError(f"needs at least {offset + 1} rows, got n={n}")
    value = as_number(value)
    needs = ""
    if isinstance(value, (int, float)):
        f = _whole(name, value, 0)
        needs = f"n > {slope * f + offset} rows"
        if weaker is not None and n > weaker[0] * f + weaker[1]:
            needs += f" (n > {weaker[0] * f + weaker[1]} with strict=False)"
    return bounded(name, value, largest=(n - offset - 1) // slope, needs=needs, n=n)


def below_half(num_malicious: Any, n: int, strict: bool = True) -> Int:
    """A number of malicious rows f with n > 2f, or with n > f where `strict` is off; see `tolerated`."""
    return tolerated(num_malicious, n, (2, 0), least=(1, 0), strict=strict)


# --- arrays -------------------------------------------------------------------------------------------


def real_array(name: str, value: Any, shape: str, hint: str = "") -> Array:
    """An array of real numbers, also from a list of its rows.

    Args:
        name: the argument.
        value: what was given for it.
        shape: what it must be.
        hint: what to do with something else, for the message.

    Raises:
        ArgumentError: if it is no such array.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        kind = f"a {type(value).__name__}" if value is not None else "None"
        if isinstance(value, (list, tuple)):
            kind += " that does not stack to one"
        elif hasattr(value, "dtype"):
            kind += f" of {value.dtype}"
        raise ArgumentError(f"{name} must be {shape}, an array of real numbers, got {kind}{hint}") from None
    if not is_real(array):
        raise ArgumentError(f"{name} must be {shape}, an array of real numbers, got {array.dtype}")
    return array


def is_real(array: Array) -> bool:
    """Tell an array of real numbers from one that is complex, boolean or a key."""
    return jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)


def shaped(name: str, value: Any, shape: tuple[int, ...], note: str = "") -> Array:
    """An array of real numbers of exactly that shape.

    Raises:
        ArgumentError: if it is not.
    """
    array = real_array(name, value, f"{shape}{note}")
    if array.shape != shape:
        raise ArgumentError(f"{name} must be {shape}{note}, got shape {array.shape}")
    return array


def as_stack(updates: Any) -> Array:
    """The updates as a JAX array (n, d).

    Raises:
        ArgumentError: if they are none.
    """
    hint = "; on_pytrees takes trees of arrays"
    stack = real_array("updates", updates, "(n, d) with n > 0", hint)
    if stack.ndim != 2 or stack.shape[0] == 0:
        raise ArgumentError(f"updates must be (n, d) with n > 0, got shape {stack.shape}")
    return stack


def compute_dtype(updates: Array) -> jnp.dtype:
    """The type sums are accumulated in: float32 for half precision and integers, else the input's own."""
    wide = jnp.result_type(updates.dtype, jnp.float32)
    return jnp.dtype(wide)


def output_dtype(updates: Array) -> jnp.dtype:
    """The type of a rule's result: the input's, or float32 for integers."""
    return updates.dtype if jnp.issubdtype(updates.dtype, jnp.floating) else jnp.dtype(jnp.float32)
