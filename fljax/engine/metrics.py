"""The description of a metric, from which every line, column, curve and panel of it derives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_type_hints

# What a configured metric may be a function of (`register_metric`).
ARGUMENTS = (
    "outputs",
    "labels",
    "losses",
    "errors",
    "clients",
    "answers",
    "targets",
    "num_classes",
    "num_clients",
)


@dataclass(frozen=True)
class Metric:
    """A number that is measured while a model trains, as `Annotated[Array, Metric(...)]` of its field.

    A field of `RoundMetrics` is measured in every round, and a line of metrics.jsonl has its mean over the
    rounds since the last one. A field of `Evaluation` is measured once per line.

    Attributes:
        title: its name in tables and figures.
        brief: the same where there is little room; default the title.
        kind: "error" and "share" are shares of 1, "rounds" a number of rounds, "number" any number.
        partial: rounds without the quantity (NaN) are left out of the mean; without it one of them makes the
            mean missing.
        recorded: whether it is a column of metrics.jsonl and a curve of a sweep's table.
        absent: shown where there is no such quantity.
        panel: title of its panel in the figure of a run; those of one title share a panel, none is not drawn.
        unless: title of a panel that says more: this one is drawn only where that one is empty.
        who: "benign" or "malicious", the clients it is about, or "attacker", who wants it large.
        spoken: word for it on the line that shows how far a run is; those of one word are said together.
        better: whether its best value is the lowest or the highest.
    """

    title: str
    brief: str = ""
    kind: Literal["error", "share", "number", "rounds"] = "number"
    partial: bool = False
    recorded: bool = True
    absent: str = "none"
    panel: str = ""
    unless: str = ""
    who: Literal["benign", "malicious", "attacker", ""] = ""
    spoken: str = ""
    better: Literal["low", "high"] = "low"

    @property
    def short(self) -> str:
        """The brief name, or the title."""
        return self.brief or self.title


class Measure(NamedTuple):
    """A configured metric.

    Attributes:
        name: its column, or the beginning of its columns.
        function: as `register_metric` takes it, its parameters given.
        asked: which of `ARGUMENTS` it is a function of.
    """

    name: str
    function: Callable[..., Any]
    asked: tuple[str, ...]


def described(kind: type) -> dict[str, Metric]:
    """The recorded metrics that are fields of a class, in order.

    Example:
        >>> from typing import Annotated, NamedTuple
        >>> class Two(NamedTuple):
        ...     loss: Annotated[float, Metric("training loss")]
        ...     finite: Annotated[float, Metric("finite", recorded=False)]
        >>> {name: metric.title for name, metric in described(Two).items()}
        {'loss': 'training loss'}
    """
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    metrics = {name: hint.__metadata__[0] for name, hint in hints.items()}
    return {name: metric for name, metric in metrics.items() if metric.recorded}
