"""The pieces of a round: rules and what runs around them with their state, and what a round knows."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

import jax
from jax import Array

from fljax.aggregators.registry import Rule
from fljax.base import Aggregator, Context, Info, Lacking, PostAggregator, PreAggregator, State
from fljax.registry import Entry


def _no_state(num_clients: int, num_params: int) -> State:
    return ()


def array_arguments(function: Callable[..., Any]) -> list[str]:
    """Names of what a pure rule or attack takes by position after its first argument, from the round."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def context_arguments(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What `function` names of all that a round has; an optional argument may be None or `Lacking`.

    Raises:
        ValueError: if another one is.
    """
    found: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for name in array_arguments(function):
        value = known[name]
        if value is not None and not isinstance(value, Lacking):
            found[name] = value
        elif parameters[name].default is inspect.Parameter.empty:
            title = getattr(function, "__name__", "the function")
            why = "which this round does not provide" if value is None else f"but {value.reason}"
            raise ValueError(f"{title}: needs {name}, {why}")
    return found


def check_arguments(function: Callable[..., Any], known: Sequence[str]) -> None:
    """Refuse a function that names an array, optional or not, which no round has.

    Raises:
        ValueError: with the nearest of the names that are known.
    """
    parameters = inspect.signature(function).parameters
    for name in array_arguments(function):
        if name not in known:
            title = getattr(function, "__name__", "the function")
            verb = "needs" if parameters[name].default is inspect.Parameter.empty else "takes"
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{title}: {verb} {name}, which this round does not provide{hint} (it has {', '.join(known)})"
            )


def stateless(function: Callable[..., Any], *, streams: bool = False, **hyper: Any) -> Aggregator:
    """Wrap a pure rule, or one that returns `(update, info)`, as an `Aggregator` without state.

    Args:
        function: a pure rule; the arrays it names besides `updates` come from the context.
        streams: whether it takes `Rows` as well.
        **hyper: its keyword-only hyper-parameters.

    Returns:
        The `Aggregator`.

    Raises:
        ValueError: if it names an array that is no field of `Context`.

    Example:
        >>> import jax.numpy as jnp
        >>> from fljax.aggregators import Context, stateless, trimmed_mean
        >>> rule = stateless(trimmed_mean, trim=1)
        >>> update, _, _ = rule.aggregate(jnp.arange(6.0).reshape(3, 2), rule.init(3, 2), Context())
        >>> update.tolist()
        [2.0, 3.0]
    """
    check_arguments(function, Context._fields)

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        result = function(updates, **context_arguments(function, context._asdict()), **hyper)
        update, info = result if isinstance(result, tuple) else (result, {})
        return update, state, info

    return Aggregator(_no_state, aggregate, streams)


def stateless_pre(
    function: Callable[..., Array], *, mixes_rows: bool = False, streams: bool = False, **hyper: Any
) -> PreAggregator:
    """Wrap a pure map from (n, d) to (n', d) as a `PreAggregator` without state.

    Args:
        function: the map; the arrays it names besides `updates` come from the context.
        mixes_rows: whether row i is not client i any more; the rule that follows then sees neither client
            ids nor weights.
        streams: whether it takes `Rows` as well, and makes `Rows` of them.
        **hyper: its keyword-only hyper-parameters.

    Returns:
        The `PreAggregator`.

    Raises:
        ValueError: if it names an array that is no field of `Context`.
    """
    check_arguments(function, Context._fields)

    def transform(updates: Array, state: State, context: Context) -> tuple[Array, State, Context]:
        transformed = function(updates, **context_arguments(function, context._asdict()), **hyper)
        if mixes_rows:
            context = context._replace(weights=None, client_ids=None)
        return transformed, state, context

    return PreAggregator(_no_state, transform, streams)


def stateless_post(function: Callable[..., Array], *, streams: bool = False, **hyper: Any) -> PostAggregator:
    """Wrap a pure map from an update (d,) to another one as a `PostAggregator` without state.

    Args:
        function: the map; the arrays it names besides the update come from the round: `updates` (n, d), the
            clients' rows, and the fields of the context.
        streams: whether it takes `Rows` for `updates`, or does not name them.
        **hyper: its keyword-only hyper-parameters.

    Returns:
        The `PostAggregator`.

    Raises:
        ValueError: if it names an array that no round has.
    """
    check_arguments(function, ("updates", *Context._fields))

    def transform(update: Array, updates: Array, state: State, context: Context) -> tuple[Array, State]:
        known = {"updates": updates, **context._asdict()}
        return function(update, **context_arguments(function, known), **hyper), state

    return PostAggregator(_no_state, transform, streams)


def chain(*pieces: PreAggregator | Aggregator | PostAggregator) -> Aggregator:
    """Run pre-aggregators in order, then a rule, then post-aggregators: `chain(clip, ..., krum, noise)`.

    Args:
        *pieces: any number of `PreAggregator`, then exactly one `Aggregator`, then any number of
            `PostAggregator`.

    Returns:
        One `Aggregator` whose state is the tuple of the pieces' states; it streams if all of them do. Behind
        a piece that mixes rows, a context with client ids gets an empty `info`, because that would not speak
        of clients.

    Raises:
        ValueError: if the pieces are not in that order.

    Example:
        >>> import jax.numpy as jnp
        >>> from fljax.aggregators import Context, chain, clip, mean, stateless, stateless_pre
        >>> rule = chain(stateless_pre(clip, radius=1.0), stateless(mean))
        >>> update, _, _ = rule.aggregate(jnp.array([[3.0, 4.0]]), rule.init(1, 2), Context())
        >>> update.round(3).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    before = [piece for piece in pieces if isinstance(piece, PreAggregator)]
    behind = [piece for piece in pieces if isinstance(piece, PostAggregator)]
    rules = [piece for piece in pieces if isinstance(piece, Aggregator)]
    if len(rules) != 1 or pieces != (*before, *rules, *behind):
        raise ValueError(
            "chain: needs any number of PreAggregators, exactly one Aggregator, then any number of "
            "PostAggregators; stateless_pre, stateless and stateless_post make them of functions"
        )
    rule, place = rules[0], len(before)

    def init(num_clients: int, num_params: int) -> State:
        return tuple(piece.init(num_clients, num_params) for piece in pieces)

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        states = []
        given, rows = context, updates

        def keyed(i: int, context: Context) -> Context:
            # Two pieces that both draw must not draw the same numbers.
            return context._replace(key=None if given.key is None else jax.random.fold_in(given.key, i))

        for i, piece in enumerate(before):
            rows, new, context = piece.transform(rows, state[i], keyed(i, context))
            states.append(new)
        update, new, info = rule.aggregate(rows, state[place], context._replace(key=given.key))
        states.append(new)
        for i, last in enumerate(behind, place + 1):
            update, new = last.transform(update, updates, state[i], keyed(i, given))
            states.append(new)
        mixed = given.client_ids is not None and context.client_ids is None
        return update, tuple(states), {} if mixed else info

    return Aggregator(init, aggregate, all(piece.streams for piece in pieces))


def from_registry(rules: Mapping[str, Entry], name: str, **hyper: Any) -> Aggregator:
    """The `Aggregator` of a registry entry; its info is what the rule explains."""
    entry = rules[name]
    make, function = entry.facts["make"], cast(Rule, entry.function)
    rule = make(**hyper) if make else stateless(function.explained, **hyper)
    return rule._replace(streams=entry.facts["streams"])


def pre_from_registry(pieces: Mapping[str, Entry], name: str, **hyper: Any) -> PreAggregator:
    """The `PreAggregator` of a registry entry."""
    entry = pieces[name]
    if make := entry.facts["make"]:
        return make(**hyper)._replace(streams=entry.facts["streams"])
    facts = {fact: entry.facts[fact] for fact in ("mixes_rows", "streams")}
    return stateless_pre(entry.function, **facts, **hyper)


def post_from_registry(pieces: Mapping[str, Entry], name: str, **hyper: Any) -> PostAggregator:
    """The `PostAggregator` of a registry entry."""
    entry = pieces[name]
    return stateless_post(entry.function, streams=entry.facts["streams"], **hyper)
