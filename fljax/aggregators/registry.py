"""Rules and what runs before and after them: how a function becomes one, and is found by its name."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from jax import Array

from fljax.aggregators.softening import Measure, softened
from fljax.base import Aggregator, Info, PreAggregator
from fljax.numerics.checks import ArgumentError, compute_dtype, named, output_dtype, real_array, shown
from fljax.numerics.rows import stack_or_rows
from fljax.registry import Registry, with_options

P = ParamSpec("P")
T = TypeVar("T")

# `make`: hyper-parameters to `Aggregator`, for a rule that carries a state from round to round; the arrays
# that its function takes besides the context's are that state. `surrogate`: a smooth version for attacks
# that follow a gradient, with a subset of the rule's parameters.
# `streams`: it takes `Rows`, a stack that is never whole, as well.
RULES = Registry("rule", make=None, surrogate=None, streams=False)
# `mixes_rows`: row i of the result is not client i any more. `make`: as for rules.
PRE_AGGREGATORS = Registry("pre-aggregator", make=None, mixes_rows=False, streams=False)
POST_AGGREGATORS = Registry("post-aggregator", streams=False)


class Rule(Protocol[P]):
    """A rule as users call it: `rule(updates, ...)` is the update, `rule.explained(updates, ...)` both."""

    __name__: str
    explained: Callable[P, tuple[Array, Info]]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array: ...


@with_options
def register_rule(
    name: str | None = None,
    *,
    title: str | None = None,
    assumes: str = "",
    source: str = "",
    make: Callable[..., Aggregator] | None = None,
    surrogate: Callable[..., Array] | Measure | None = None,
    clipped: bool = False,
    streams: bool = False,
) -> Callable[[Callable[P, Array | tuple[Array, Info]]], Rule[P]]:
    """A decorator that makes a rule of a pure function, and registers it.

    The function takes the updates (n, d) first, then other arrays by position, then hyper-parameters by
    keyword only; arrays that have the name of a field of `Context` come from the round. It gets the updates
    checked, and in float32 where they are in half precision or integers. It returns the update (d,), or the
    update and an `Info`; the update goes out in the type that the updates came in.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        assumes: the condition on n and f under which its guarantee holds.
        source: where it was published, with the year.
        make: hyper-parameters to `Aggregator`, for a rule that carries a state from round to round.
        surrogate: a smooth version, for attacks that follow a gradient; of a rule that averages the rows of
            `info["selected"]`, what it looks at: "distance", "angle" or "length" (see `softened`).
        clipped: whether it shortens these rows to the median length.
        streams: whether it reads the updates by the functions of fljax/numerics/rows.py alone, so that it
            takes `Rows` as well.

    Returns:
        The decorator. It returns the `Rule`: the function's name, signature and docstring, the update as the
        result, and `explained` with the same arguments and `(update, info)` as the result.

    Raises:
        ValueError: for a name that is taken or no name, or what is no function of the updates.

    Example:
        >>> import jax.numpy as jnp
        >>> from fljax.aggregators import RULES, register_rule
        >>> @register_rule("longest", title="Longest row")
        ... def longest(updates):
        ...     row = jnp.argmax(jnp.linalg.norm(updates, axis=1))
        ...     return updates[row], {"selected": jnp.arange(len(updates)) == row}
        >>> update, info = longest.explained(jnp.array([[1.0], [3.0], [-2.0]]))
        >>> update.tolist(), info["selected"].tolist()
        ([3.0], [False, True, False])
        >>> RULES.remove("longest")  # as a notebook does with a rule that it is done with
    """

    def decorate(function: Callable[P, Array | tuple[Array, Info]]) -> Rule[P]:
        called = name_of("rule", function, name, of="the updates")
        rule = as_rule(function, called, streams)
        smooth = surrogate
        if isinstance(surrogate, str):
            smooth = as_rule(softened(rule.explained, surrogate, clipped=clipped), f"soft_{called}")
        facts = {"make": make, "surrogate": smooth, "streams": streams}
        register = RULES.register(called, title=title, source=source, assumes=assumes, **facts)
        return register(rule)

    return decorate


def as_rule(
    function: Callable[P, Array | tuple[Array, Info]], name: str | None = None, streams: bool = False
) -> Rule[P]:
    """The `Rule` that `register_rule` makes of a function, not registered; usable as a decorator."""
    called = name_of("rule", function, name, of="the updates")

    def finish(result: Any, updates: Array) -> tuple[Array, Info]:
        update, info = result if isinstance(result, tuple) and len(result) == 2 else (result, Info())
        if getattr(update, "shape", None) != updates.shape[1:]:
            raise ValueError(
                f"{called}: must return an update of shape {updates.shape[1:]}, alone or with its info, "
                f"got {shown(result)}"
            )
        return update.astype(output_dtype(updates)), info

    explained = _on_stack(called, function, finish, streams)

    def update_of(*args: Any, **kwargs: Any) -> Array:
        return explained(*args, **kwargs)[0]

    rule: Any = _like(function, update_of, Array)
    rule.explained = _like(function, explained, tuple[Array, Info], "explained")
    return rule


@with_options
def register_pre_aggregator(
    name: str | None = None,
    *,
    title: str | None = None,
    assumes: str = "",
    source: str = "",
    make: Callable[..., PreAggregator] | None = None,
    mixes_rows: bool = False,
    streams: bool = False,
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """A decorator that makes a pre-aggregator of a pure function from (n, d) to (n', d), and registers it.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        assumes: the condition on n and f under which its guarantee holds.
        source: where it was published, with the year.
        make: hyper-parameters to `PreAggregator`, for one that carries a state from round to round.
        mixes_rows: whether row i of the result is not client i any more; the rule that follows then sees
            neither client ids nor weights.
        streams: as for `register_rule`; it makes `Rows` of `Rows`.

    Returns:
        The decorator; what it makes of the updates and the result is as for `register_rule`.

    Raises:
        ValueError: for a name that is taken or no name, or what is no function of the updates.
    """

    def decorate(function: Callable[P, Array]) -> Callable[P, Array]:
        called = name_of("pre-aggregator", function, name, of="the updates")

        def finish(result: Any, updates: Array) -> Array:
            if getattr(result, "ndim", None) != 2 or result.shape[1] != updates.shape[1]:
                raise ValueError(
                    f"{called}: must return rows of shape (n', {updates.shape[1]}), got {shown(result)}"
                )
            return result.astype(output_dtype(updates))

        piece = _like(function, _on_stack(called, function, finish, streams), Array)
        facts = {"make": make, "mixes_rows": mixes_rows, "streams": streams}
        register = PRE_AGGREGATORS.register(called, title=title, source=source, assumes=assumes, **facts)
        return register(piece)

    return decorate


@with_options
def register_post_aggregator(
    name: str | None = None,
    *,
    title: str | None = None,
    assumes: str = "",
    source: str = "",
    streams: bool = False,
) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """A decorator that makes a post-aggregator of a pure function from (d,) to (d,), and registers it.

    The function takes the rule's update (d,) first, then other arrays by position: `updates` (n, d), the
    clients' rows, and what has the name of a field of `Context`; then hyper-parameters by keyword only. It
    gets the update in float32 where it is in half precision; what it returns goes out in the type that came
    in.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        assumes: the condition under which its guarantee holds.
        source: where it was published, with the year.
        streams: whether it reads `updates` by the functions of fljax/numerics/rows.py alone, or not at all.

    Returns:
        The decorator.

    Raises:
        ValueError: for a name that is taken or no name, or what is no function of an update.

    Example:
        >>> import jax.numpy as jnp
        >>> from fljax.aggregators import POST_AGGREGATORS, register_post_aggregator
        >>> @register_post_aggregator(title="Half")
        ... def half(update):
        ...     return update / 2
        >>> half(jnp.array([2.0, 4.0])).tolist()
        [1.0, 2.0]
        >>> POST_AGGREGATORS.remove("half")
    """

    def decorate(function: Callable[P, Array]) -> Callable[P, Array]:
        called = name_of("post-aggregator", function, name, of="an update")
        compute: Callable[..., Any] = function
        first = next(iter(inspect.signature(function).parameters))

        def call(*args: Any, **kwargs: Any) -> Array:
            if not args and first not in kwargs:
                return compute(**kwargs)  # Python says what is missing
            given, *others = args or (kwargs.pop(first),)
            with named(called):
                update = real_array(first, given, "(d,)")
                if update.ndim != 1:
                    raise ArgumentError(f"{first} must be (d,), got shape {update.shape}")
                result = compute(update.astype(compute_dtype(update)), *others, **kwargs)
            if getattr(result, "shape", None) != update.shape:
                raise ValueError(
                    f"{called}: must return an update of shape {update.shape}, got {shown(result)}"
                )
            return result.astype(output_dtype(update))

        register = POST_AGGREGATORS.register(
            called, title=title, source=source, assumes=assumes, streams=streams
        )
        return register(_like(function, call, Array))

    return decorate


def takes_updates(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator for a public function of the updates that is no rule: it checks and widens them alike.

    The result stays in the type that it was computed in.
    """
    return _like(function, _on_stack(function.__name__, function, lambda result, updates: result))


def name_of(kind: str, function: Any, name: str | None, of: str = "") -> str:
    """The name under which a function is registered.

    Args:
        kind: the beginning of a sentence about it.
        function: the function.
        name: the given name; None for the function's own.
        of: its first argument in words, if it must have one.

    Raises:
        ValueError: if it is no such function.
    """
    called = name or getattr(function, "__name__", None)
    fits = callable(function) and (not of or inspect.signature(function).parameters)
    if called is None or not fits:
        must = f"a function of {of}" if of else "a function"
        raise ValueError(f"{kind} {called or '?'}: must be {must}, got {shown(function)}")
    return called


def _on_stack(
    name: str, function: Callable[..., Any], finish: Callable[[Any, Array], T], streams: bool = False
) -> Callable[..., T]:
    """The border of a public function.

    Args:
        name: the name that sentences about arguments begin with.
        function: it gets the updates checked, in the type that sums are accumulated in.
        finish: `finish(result, updates)`, with the updates as they were given.
        streams: whether it takes `Rows` as well.
    """
    first = next(iter(inspect.signature(function).parameters))

    def call(*args: Any, **kwargs: Any) -> T:
        if not args and first not in kwargs:
            return function(**kwargs)  # Python says what is missing
        given, *others = args or (kwargs.pop(first),)
        with named(name):
            updates = stack_or_rows(given, streams)
            result = function(updates.astype(compute_dtype(updates)), *others, **kwargs)
        return finish(result, updates)

    return call


def _like(
    function: Callable[..., Any], call: Callable[..., Any], returns: Any = None, attribute: str | None = None
) -> Any:
    """Give `call` the name, signature and docstring of a function.

    Args:
        function: whose.
        call: to what.
        returns: the type of the result, where it is another.
        attribute: the attribute of the function that `call` becomes, by which it is pickled.
    """
    # The function that a partial is of: the partial has no name.
    wrapped = wraps(getattr(function, "func", function), updated=())(call)
    if returns is not None:
        wrapped.__signature__ = inspect.signature(function).replace(return_annotation=returns)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {**wrapped.__annotations__, "return": returns}
    if attribute is not None:
        wrapped.__qualname__ = f"{wrapped.__qualname__}.{attribute}"
    return wrapped


class _Surrogates(Mapping[str, Callable[..., Array]]):
    """The entries of `RULES` that have a surrogate."""

    def __getitem__(self, name: str) -> Callable[..., Array]:
        found = RULES[name].facts["surrogate"]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in RULES.items() if entry.facts["surrogate"] is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


# Smooth versions of rules, by the rule's name; each takes a subset of the rule's parameters.
SURROGATES: Mapping[str, Callable[..., Array]] = _Surrogates()
