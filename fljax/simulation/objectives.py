"""Loss, metrics and the end of a run, checked against the data before anything is compiled."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fljax.config.components import make_loss, make_measures
from fljax.config.schema import Component, ExperimentConfig, StopConfig
from fljax.data import Dataset, Format
from fljax.engine.evaluate import VALIDATION_ERROR, Evaluation, measured
from fljax.engine.metrics import Measure, described
from fljax.engine.objectives import Losses, in_form, per_example
from fljax.engine.round import RoundMetrics
from fljax.errors import ConfigError, first_line, unknown_name
from fljax.losses import LOSSES
from fljax.metrics import METRICS
from fljax.numerics.checks import shown
from fljax.simulation.outcomes import IMPACTS, OUTCOMES

# Columns of metrics.jsonl that are not a metric's to take.
TAKEN = {
    "round",
    *Evaluation._fields,
    *RoundMetrics._fields,
    VALIDATION_ERROR,
    *OUTCOMES,
    *IMPACTS,
    "diverged",
    "seconds",
    "check",
}


class Examples(NamedTuple):
    """A data set as far as it matters here, as the key of a cache.

    Attributes:
        name: of the data set.
        form: of its examples.
        has_clients: whether it is known whose its test examples are.
    """

    name: str
    form: Format
    has_clients: bool


class Objective(NamedTuple):
    """The loss that is minimised and the metrics that are measured.

    Attributes:
        loss: of a batch's examples.
        measures: the metrics.
        columns: of the metrics, less those of triggers.
    """

    loss: Losses
    measures: tuple[Measure, ...]
    columns: tuple[str, ...]


def make_objective(
    config: ExperimentConfig,
    dataset: Dataset,
    loss: Losses | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
) -> Objective:
    """The configured loss and metrics, checked against the data.

    Args:
        config: the configuration.
        dataset: the data.
        loss: a function instead of the configured one.
        metrics: functions by name, beside the configured ones.

    Raises:
        ConfigError: for a name or a parameter that there is not, or where something does not fit.
    """
    about = Examples(dataset.name, dataset.format, dataset.test_client_ids is not None)
    if loss is None and not metrics:
        # Cells of a sweep share it. A notebook may define a function anew.
        tables = json.dumps([each.model_dump() for each in (config.loss, *config.metrics)])
        entries = LOSSES.find(config.loss.name), *(METRICS.find(each.name) for each in config.metrics)
        return _configured(tables, tuple(entry.function for entry in entries), about)
    losses = make_loss(config.loss) if loss is None else loss
    check_loss(config.loss.name if loss is None else loss, losses, about)
    measures = make_measures(config.metrics, metrics)
    return Objective(losses, tuple(measures), tuple(check_measures(measures, losses, about)))


@lru_cache(maxsize=32)
def _configured(tables: str, functions: tuple[Callable[..., Any], ...], about: Examples) -> Objective:
    loss, *metrics = (Component.model_validate(each) for each in json.loads(tables))
    losses, measures = make_loss(loss), make_measures(metrics)
    check_loss(loss.name, losses, about)
    return Objective(losses, tuple(measures), tuple(check_measures(measures, losses, about)))


def check_loss(name: str | Callable[..., Any], losses: Losses, about: Examples) -> None:
    """Check that a loss fits the labels of a data set and gives every example a value.

    Args:
        name: in the registry, or a function that is in none.
        losses: the loss.
        about: the data.

    Raises:
        ConfigError: if it does not.
    """
    called = name if isinstance(name, str) else getattr(name, "__name__", "function")
    kind = "numbers" if about.form.num_classes is None else "classes"
    if isinstance(name, str) and LOSSES[name].facts["labels"] not in (kind, "any"):
        fitting = [other for other, entry in LOSSES.items() if entry.facts["labels"] in (kind, "any")]
        raise ConfigError(
            f"loss {name}: is for {LOSSES[name].facts['labels']}, but the labels of {about.name} are "
            f"{kind} (choose from {', '.join(fitting)})"
        )
    outputs, labels = _batch(about.form)
    try:
        # As an objective calls it: numbers in one form, and not yet averaged.
        found = jax.eval_shape(lambda *given: losses(*in_form(*given)), outputs, labels)
    except (TypeError, ValueError, IndexError) as error:
        if first_line(error).startswith(f"{called}: "):
            raise ConfigError(f"loss {first_line(error)}") from None
        raise ConfigError(
            f"loss {called}: does not fit outputs {outputs.shape} and labels {labels.shape} of a batch of "
            f"{len(labels)}: {first_line(error)}"
        ) from None
    good = getattr(found, "shape", ())[:1] == (len(labels),) and jnp.issubdtype(found.dtype, jnp.floating)
    if not good:
        raise ConfigError(
            f"loss {called}: must return one value for each of the {len(labels)} examples of a batch, got "
            f"{shown(found)}"
        )


def check_measures(measures: Sequence[Measure], losses: Losses, about: Examples) -> list[str]:
    """Check that metrics are functions of what an evaluation has, and give scalars with names of their own.

    Returns:
        Their columns, less those of triggers.

    Raises:
        ConfigError: if they do not.
    """
    numbers, unknown = about.form.num_classes is None, not about.has_clients
    for measure in measures:
        for name, missing, why in (
            ("errors", numbers, "labels that are classes"),
            ("num_classes", numbers, "labels that are classes"),
            ("answers", numbers, "labels that are classes"),
            ("clients", unknown, "test_client_ids, which tell whose a test example is"),
        ):
            if missing and name in measure.asked:
                raise ConfigError(f"metric {measure.name}: needs {why}, and {about.name} has none")
    outputs, labels = _batch(about.form)

    def values_of(measure: Measure, outputs: jax.Array, labels: jax.Array) -> Any:
        given = {
            "outputs": outputs,
            "labels": labels,
            "losses": per_example(losses)(outputs, labels),
            "errors": jnp.zeros(len(labels)),
            "clients": jnp.zeros(len(labels), jnp.int32),
            "answers": {},
            "targets": {},
            "num_classes": about.form.num_classes,
            "num_clients": 1,
        }
        given["outputs"], given["labels"] = in_form(outputs, labels)
        return measured([measure], given)

    columns: list[str] = []
    for measure in measures:
        try:
            columns += jax.eval_shape(partial(values_of, measure), outputs, labels)
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise ConfigError(
                f"metric {measure.name}: must be a function that JAX can compile: {first_line(error)}"
            ) from None
        except (TypeError, ValueError, IndexError) as error:
            text = first_line(error)
            if not text.startswith(f"metric {measure.name}: "):
                text = (
                    f"metric {measure.name}: does not fit outputs {outputs.shape} and labels {labels.shape} "
                    f"of {len(labels)} examples: {text}"
                )
            raise ConfigError(text) from None
    for name in columns:
        if name in TAKEN or columns.count(name) > 1:
            raise ConfigError(f"metric {name}: is the name of another column; give it another name")
    return columns


def check_stop(stop: StopConfig | None, columns: Sequence[str]) -> None:
    """Check that what ends a run is measured.

    Args:
        stop: the configuration.
        columns: of configured metrics.

    Raises:
        ConfigError: if it is not.
    """
    known = [*described(Evaluation), *columns]
    # The columns of a backdoor's triggers are known once there is an attack.
    if stop is not None and stop.metric not in known and not stop.metric.startswith("backdoor_"):
        raise ConfigError(f"stop.metric: {unknown_name('metric', stop.metric, known)}")


def _batch(form: Format) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes and types of what a model makes of a batch of a data set, and of its labels."""
    # As many examples as there are neither classes nor tokens.
    _, labels = form.batch(sum(form.outputs) + 1)
    return jax.ShapeDtypeStruct((len(labels), *form.outputs), jnp.float32), labels
