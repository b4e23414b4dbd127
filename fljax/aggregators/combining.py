"""The pieces a round is composed of: rules and pre-aggregators with their state, and what a round knows."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

import jax
from jax import Array

from fljax.aggregators.registry import Rule
from fljax.base import Aggregator, Context, Info, Lacking, PreAggregator, State
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


def chain(*pieces: PreAggregator | Aggregator) -> Aggregator:
    """Run pre-aggregators in order, then a rule: `chain(clip, ..., krum)`.

    Args:
        *pieces: any number of `PreAggregator`, then exactly one `Aggregator`.

    Returns:
        One `Aggregator` whose state is the tuple of the pieces' states; it streams if all of them do. Behind
        a piece that mixes rows, a context with client ids gets an empty `info`, because that would not speak
        of clients.

    Raises:
        ValueError: if the pieces do not end in their only `Aggregator`.

    Example:
        >>> import jax.numpy as jnp
        >>> from fljax.aggregators import Context, chain, clip, mean, stateless, stateless_pre
        >>> rule = chain(stateless_pre(clip, radius=1.0), stateless(mean))
        >>> update, _, _ = rule.aggregate(jnp.array([[3.0, 4.0]]), rule.init(1, 2), Context())
        >>> update.round(3).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    *pre, rule = pieces or (None,)
    if not isinstance(rule, Aggregator) or not all(isinstance(p, PreAggregator) for p in pre):
        raise ValueError(
            "chain: needs any number of PreAggregators followed by exactly one Aggregator; stateless_pre and "
            "stateless make them of functions"
        )
    last: Aggregator = rule

    def init(num_clients: int, num_params: int) -> State:
        return tuple(piece.init(num_clients, num_params) for piece in pieces)

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        states = []
        key, ids = context.key, context.client_ids
        for i, (piece, piece_state) in enumerate(zip(pre, state[:-1], strict=True)):
            # Two pieces that both draw must not draw the same numbers.
            context = context._replace(key=None if key is None else jax.random.fold_in(key, i))
            updates, new, context = piece.transform(updates, piece_state, context)  # type: ignore[union-attr]
            states.append(new)
        update, new, info = last.aggregate(updates, state[-1], context._replace(key=key))
        mixed = ids is not None and context.client_ids is None
        return update, (*states, new), {} if mixed else info

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
    facts = {fact: entry.facts[fact] for fact in ("mixes_rows", "streams")}
    return stateless_pre(entry.function, **facts, **hyper)
