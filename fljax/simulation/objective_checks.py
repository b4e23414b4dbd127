"""Checks that loss, metrics and the end of a run fit the data, before anything is compiled."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fljax.config.schema import StopConfig
from fljax.data import Dataset
from fljax.engine.evaluate import VALIDATION_ERROR, Evaluation, measured
from fljax.engine.metrics import Measure, described
from fljax.engine.objectives import Losses, in_form, per_example
from fljax.engine.round import RoundMetrics
from fljax.errors import ConfigError, first_line, unknown_name
from fljax.losses import LOSSES
from fljax.numerics.checks import shown

# Columns of metrics.jsonl that are not a metric's to take.
TAKEN = {
    "round",
    *Evaluation._fields,
    *RoundMetrics._fields,
    VALIDATION_ERROR,
    "diverged",
    "seconds",
    "check",
}


def check_loss(name: str | Callable[..., Any], losses: Losses, dataset: Dataset) -> None:
    """Check that a loss fits the labels of a data set and gives every example a value.

    Args:
        name: in the registry, or a function that is in none.
        losses: the loss.
        dataset: the data.

    Raises:
        ConfigError: if it does not.
    """
    called = name if isinstance(name, str) else getattr(name, "__name__", "function")
    kind = "numbers" if dataset.num_classes is None else "classes"
    if isinstance(name, str) and LOSSES[name].facts["labels"] not in (kind, "any"):
        fitting = [other for other, entry in LOSSES.items() if entry.facts["labels"] in (kind, "any")]
        raise ConfigError(
            f"loss {name}: is for {LOSSES[name].facts['labels']}, but the labels of {dataset.name} are "
            f"{kind} (choose from {', '.join(fitting)})"
        )
    outputs, labels = _batch(dataset)
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


def check_measures(measures: Sequence[Measure], losses: Losses, dataset: Dataset) -> list[str]:
    """Check that metrics are functions of what an evaluation has, and give scalars with names of their own.

    Returns:
        Their columns, less those of triggers.

    Raises:
        ConfigError: if they do not.
    """
    numbers, unknown = dataset.num_classes is None, dataset.test_client_ids is None
    for measure in measures:
        for name, missing, why in (
            ("errors", numbers, "labels that are classes"),
            ("num_classes", numbers, "labels that are classes"),
            ("answers", numbers, "labels that are classes"),
            ("clients", unknown, "test_client_ids, which tell whose a test example is"),
        ):
            if missing and name in measure.asked:
                raise ConfigError(f"metric {measure.name}: needs {why}, and {dataset.name} has none")
    outputs, labels = _batch(dataset)

    def values_of(measure: Measure, outputs: jax.Array, labels: jax.Array) -> Any:
        given = {
            "outputs": outputs,
            "labels": labels,
            "losses": per_example(losses)(outputs, labels),
            "errors": jnp.zeros(len(labels)),
            "clients": jnp.zeros(len(labels), jnp.int32),
            "answers": {},
            "targets": {},
            "num_classes": dataset.num_classes,
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


def _batch(dataset: Dataset) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes and types of what a model makes of a batch of a data set, and of its labels."""
    form = dataset.format
    # As many examples as there are neither classes nor tokens.
    _, labels = form.batch(sum(form.outputs) + 1)
    return jax.ShapeDtypeStruct((len(labels), *form.outputs), jnp.float32), labels
