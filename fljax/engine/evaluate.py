"""Testing error, attack success rate and further metrics of a model."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Trigger
from fljax.engine.metrics import Measure, Metric
from fljax.engine.objectives import Losses, in_form, per_example
from fljax.numerics.checks import shown
from fljax.numerics.sharding import over_rows

# The column of the error on the examples that the server holds back for validation.
VALIDATION_ERROR = "validation_error"
VALIDATION = Metric("validation error", kind="error", panel="validation error")
# The columns of triggers that nobody trains on begin with this.
NATURAL = "natural_success_"


def natural_columns(names: Iterable[str]) -> list[str]:
    """The columns of the natural success of triggers, by their attacks' names.

    Example:
        >>> natural_columns(["badnets", "blended", "badnets"])
        ['natural_success_badnets', 'natural_success_blended', 'natural_success_badnets_2']
    """
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(f"{NATURAL}{name}" + f"_{counts[name]}" * (counts[name] > 1))
    return found


class Evaluation(NamedTuple):
    """Scalars of one evaluation.

    Attributes:
        test_error: share of clean test examples the model gets wrong, for next-token labels of tokens; the
            root mean squared error of predicted numbers.
        attack_success_rate: share of triggered test examples answered with the label that the attacker wants,
            over those whose true label is another, or the trigger's source, or over the trigger's own
            examples; NaN where the attack has no trigger.
        further: the error on the server's validation examples where there are any, and the configured
            metrics, by column.
    """

    test_error: Annotated[Array | float, Metric("test error", kind="error", panel="test error")]
    attack_success_rate: Annotated[
        Array | float,
        Metric(
            "attack success rate",
            brief="attack success",
            kind="share",
            absent="no trigger",
            panel="attack success rate",
            who="attacker",
        ),
    ]
    further: Annotated[Mapping[str, Any], Metric("further", recorded=False)] = {}


class Beside(NamedTuple):
    """The arrays that an evaluation reads beside the test set.

    Attributes:
        clients: (N,) int32, the client of each test example, -1 for nobody; or None.
        x, y: the examples of which `validation` are some; or None.
        validation: (V,) int32 positions; or None.
        attack_state: of the attack, for a trigger that changes from round to round; or None.
    """

    clients: Array | None = None
    x: Array | None = None
    y: Array | None = None
    validation: Array | None = None
    attack_state: Any = None


NOTHING_BESIDE = Beside()


def make_evaluation(
    apply: Callable[..., Array],
    unravel: Callable[[Array], Any],
    trigger: Trigger | None,
    batch_size: int = 500,
    *,
    measures: Sequence[Measure] = (),
    losses: Losses | None = None,
    triggers: Mapping[str, Trigger] | None = None,
    natural: Mapping[str, Trigger] | None = None,
    num_classes: int | None = None,
    num_clients: int = 0,
) -> Callable[..., Evaluation]:
    """Build `evaluate(params, test_x, test_y, model_state=(), beside=...)`, which reads batch by batch.

    Args:
        apply: `(params, x) -> outputs`; with the model's state as a third argument where it has one.
        unravel: (d,) to the parameter pytree.
        trigger: the backdoor whose success is measured, or None.
        batch_size: examples per batch.
        measures: the configured metrics.
        losses: the loss, for metrics of it.
        triggers: the triggers that metrics take one by one; of these, those on all test examples.
        natural: further triggers, without a state, whose success is measured, by column.
        num_classes: M, for metrics by class.
        num_clients: an upper bound on `Beside.clients` + 1.

    Returns:
        The pure function; a prediction is the label with the largest logit, 0 where all logits are NaN.

    Source: Cao et al., NDSS 2021, section V. Like the group's code, and unlike SAFEFL, A3FL, DarkFed and
    FLPoison, the success rate leaves out test examples that already have the target label. With them it is
    ((M − 1) · rate + a) / M for M equally frequent labels and a share a of the target's answered right.
    """
    asked = {name for measure in measures for name in measure.asked}
    planted = {
        name: each
        for name, each in (triggers or {}).items()
        if "answers" in asked and each.examples is None and each.source is None
    }

    def evaluate(
        params: Array, test_x: Array, test_y: Array, model_state: Any = (), beside: Beside = NOTHING_BESIDE
    ) -> Evaluation:
        tree = unravel(params)
        extra = (model_state,) if jax.tree.leaves(model_state) else ()

        def predict(x: Array) -> Array:
            return apply(tree, x[None], *extra)[0]

        def hits(x: Array, wanted: Any) -> Array:
            return jnp.argmax(predict(x), axis=-1) == wanted

        def on_examples(trigger: Trigger) -> Array:
            rare = jnp.asarray(trigger.examples)
            return jnp.mean(_map_examples(partial(hits, wanted=trigger.target), rare, batch_size))

        def success_of(trigger: Trigger) -> Array:
            if trigger.examples is not None:
                return on_examples(trigger)

            def hit(example: tuple[Array, Array]) -> Array:
                x, y = example
                return hits(trigger.embed(x), trigger.wanted(y)) & trigger.counted(y)

            found = _map_examples(hit, (test_x, test_y), batch_size)
            return jnp.sum(found) / jnp.sum(trigger.counted(test_y))

        def batch(example: tuple[Array, Array]) -> dict[str, Any]:
            x, y = example
            outputs = predict(x)
            found: dict[str, Any] = {"wrong": _wrong(outputs, y)}
            if trigger is not None and trigger.examples is None:
                found["hit"] = hits(
                    trigger.embedded(x, beside.attack_state), trigger.wanted(y)
                ) & trigger.counted(y)
            if "outputs" in asked:
                found["outputs"] = outputs
            if "losses" in asked and losses is not None:
                found["losses"] = per_example(losses)(outputs[None], y[None])[0]
            found["answers"] = {
                name: jnp.argmax(predict(each.embedded(x, beside.attack_state)), axis=-1)
                for name, each in planted.items()
            }
            return found

        found = _map_examples(batch, (test_x, test_y), batch_size)
        error = _error(found["wrong"])
        success = jnp.full((), jnp.nan)
        if trigger is not None and trigger.examples is not None:
            success = on_examples(trigger)
        elif trigger is not None:
            success = jnp.sum(found["hit"]) / jnp.sum(trigger.counted(test_y))
        # Unlike a dictionary it keeps its order through a compiled program.
        further: OrderedDict[str, Array] = OrderedDict()
        if beside.validation is not None:

            def held(position: Array) -> Array:
                return _wrong(predict(beside.x[position]), beside.y[position])  # type: ignore[index]

            further[VALIDATION_ERROR] = _error(_map_examples(held, beside.validation, batch_size))
        for column, each in (natural or {}).items():
            further[column] = success_of(each)
        if measures:
            given = found | {
                "labels": test_y,
                "errors": _of_examples(found["wrong"]),
                "clients": beside.clients,
                "targets": {
                    name: each.target if each.relabel is None else each.wanted(test_y)
                    for name, each in planted.items()
                },
                "num_classes": num_classes,
                "num_clients": num_clients,
            }
            given["outputs"], given["labels"] = in_form(found.get("outputs", test_y), test_y)
            further |= measured(measures, given)
        return Evaluation(error, success, further)

    return evaluate


def _map_examples(function: Callable[[Any], Any], examples: Any, batch_size: int) -> Any:
    """A function of one example for all of them, on a mesh by every device for its share.

    `lax.map` vmaps a batch at a time: calls on single examples become batched ones.
    """

    def mapped(examples: Any) -> Any:
        count = jax.tree.leaves(examples)[0].shape[0]
        return lax.map(function, examples, batch_size=min(batch_size, count))

    return over_rows(mapped, examples)


def _wrong(outputs: Array, label: Array) -> Array:
    """True if an example's label, or a token's, is missed; of numbers the squared error."""
    if jnp.issubdtype(label.dtype, jnp.floating):
        return jnp.mean(jnp.square(outputs.reshape(-1) - label.reshape(-1)))
    return jnp.argmax(outputs, axis=-1) != label


def _error(wrong: Array) -> Array:
    """The share of labels that are missed, or the root of the mean squared error."""
    error = jnp.mean(wrong.astype(jnp.float32))
    return error if wrong.dtype == bool else jnp.sqrt(error)


def _of_examples(wrong: Array) -> Array:
    """One error per example, (N,)."""
    return jnp.mean(wrong.reshape(len(wrong), -1).astype(jnp.float32), axis=1)


def _is_scalar(value: Any) -> bool:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        return False
    return array.shape == () and not jnp.issubdtype(array.dtype, jnp.complexfloating)


def measured(measures: Sequence[Measure], given: Mapping[str, Any]) -> OrderedDict[str, Array]:
    """The values of metrics by column.

    Args:
        measures: the metrics.
        given: what they ask for.

    Raises:
        ValueError: if one returns anything but a real scalar, or a dictionary of such.
    """
    columns: OrderedDict[str, Array] = OrderedDict()
    for measure in measures:
        found = measure.function(*(given[name] for name in measure.asked))
        values = (
            {f"{measure.name}_{key}": value for key, value in found.items()}
            if isinstance(found, Mapping)
            else {measure.name: found}
        )
        for column, value in values.items():
            if not _is_scalar(value):
                raise ValueError(
                    f"metric {measure.name}: must return a scalar, or a dictionary of scalars with a column "
                    f"each, got {shown(value)}" + f" as {column}" * (column != measure.name)
                )
            columns[column] = jnp.asarray(value, jnp.float32)
    return columns
