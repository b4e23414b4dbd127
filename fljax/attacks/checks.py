"""The checks of fljax/numerics for attacks; the first argument is the name that a sentence begins with."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from fljax.numerics import checks
from fljax.numerics.checks import named

P = ParamSpec("P")
T = TypeVar("T")


def _of(check: Callable[P, T]) -> Callable[Concatenate[str, P], T]:
    @wraps(check)
    def checked(function: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with named(function):
            return check(*args, **kwargs)

    return checked


as_stack = _of(checks.as_stack)
bounded = _of(checks.bounded)
fixed_real = _of(checks.fixed_real)
flag = _of(checks.flag)
option = _of(checks.option)
real = _of(checks.real)
shaped = _of(checks.shaped)
whole = _of(checks.whole)
