"""Metrics by name: what is reported of every evaluation besides the test error and a backdoor's success."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

from fljax.engine.metrics import ARGUMENTS, Metric
from fljax.errors import unknown_name
from fljax.registry import Entry, F, Registry, with_options

METRICS = Registry("metric", kind="number", better="low")


@with_options
def register_metric(
    name: str | None = None,
    *,
    title: str | None = None,
    source: str = "",
    kind: Literal["error", "share", "number"] = "number",
    better: Literal["low", "high"] = "low",
) -> Callable[[F], F]:
    """Make a metric known under a name, for configurations and lists; a decorator.

    Args:
        name: what a configuration calls it, and its column; default the function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        kind: "error" and "share" are shares of 1, "number" is any number.
        better: whether a low or a high value is the better one.

    Returns:
        The decorator, for a pure function of one or several of these, by name: `outputs` (N, ..., M) of the
        model on the test set, `labels` (N, ...), `losses` (N,), `errors` (N,) 0 or 1, for next-token labels
        the share of tokens, `clients` (N,) int32 whose test example it is, -1 for nobody's, `answers` and
        `targets`, dictionaries from the name of a trigger to the labels (N,) that triggered test examples are
        answered with and to the label that the attacker wants, `num_classes` and `num_clients`, numbers. It
        returns a scalar, or a dictionary of scalars, each with a column NAME_KEY; NaN where there is no such
        quantity. Its keyword-only parameters are those of its table. The decorator returns it as it is.

    Raises:
        ValueError: the name is taken, or is no name, or the function asks for something else.

    Example:
        >>> import jax.numpy as jnp
        >>> @register_metric(title="largest loss")
        ... def largest_loss(losses):
        ...     return jnp.max(losses)
        >>> METRICS["largest_loss"].title
        'largest loss'
        >>> METRICS.remove("largest_loss")
    """

    def decorate(function: F) -> F:
        asked(function)
        return METRICS.register(name, title=title, source=source, kind=kind, better=better)(function)

    return decorate


def asked(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of what a metric is a function of.

    Raises:
        ValueError: if there is no such thing.
    """
    called = getattr(function, "__name__", "metric")
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            if parameter.name not in ARGUMENTS:
                raise ValueError(f"metric {called}: {unknown_name('argument', parameter.name, ARGUMENTS)}")
            names.append(parameter.name)
    if not names:
        raise ValueError(f"metric {called}: must take one of {', '.join(ARGUMENTS)}, by position")
    return tuple(names)


def described_column(column: str) -> Metric:
    """The description of a metric's column, of one that is not known here by its name alone.

    Example:
        >>> described_column("client_errors_worst_tenth").title, described_column("my_own_number").title
        ("clients' error: worst tenth", 'my own number')
    """
    found: Entry | None = None
    for name, entry in METRICS.items():
        if column == name or (column.startswith(f"{name}_") and len(name) > len(found.name if found else "")):
            found = entry
    if found is None:
        return Metric(column.replace("_", " "), panel=column.replace("_", " "))
    key = column.removeprefix(found.name).strip("_").replace("_", " ")
    title = f"{found.title}: {key}" if key else found.title
    return Metric(title, kind=found.facts["kind"], panel=found.title, better=found.facts["better"])
