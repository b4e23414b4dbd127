"""Checks that the pieces of a round fit each other, before anything is compiled."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import subjaxprs

from fljax.base import Aggregator, Attack, Context, Knowledge
from fljax.config.schema import StopConfig
from fljax.engine.evaluate import Evaluation, measured
from fljax.engine.metrics import Measure, described
from fljax.engine.objectives import Losses, in_form, per_example
from fljax.engine.round import RoundMetrics
from fljax.errors import ConfigError, first_line, unknown_name
from fljax.losses import LOSSES
from fljax.models import Model
from fljax.models.modes import trace
from fljax.numerics.checks import shown

# Columns of metrics.jsonl that are not a metric's to take.
TAKEN = {"round", *Evaluation._fields, *RoundMetrics._fields, "diverged", "seconds", "check", "validation_error"}


def check_model(
    model: Model, params: Any, shape: tuple[int, ...], num_classes: int, key: jax.Array
) -> tuple[str, ...]:
    """Notes on the model for a report, after a trace of everything it is asked for.

    Raises:
        ValueError: if its output is not one row of logits per example with one for every class, it draws
            random numbers, or its state is not what `train` returns.
    """
    outputs = 0
    state = () if model.init_state is None else model.init_state(key)
    # Two sizes, neither of them the number of classes: a row must belong to an example.
    for size in (1, num_classes + 1):
        x = jax.ShapeDtypeStruct((size, *shape), jnp.float32)
        if model.init_state is None or model.train is None:
            outputs = _num_outputs(trace(model.apply, params, x), size, num_classes)
            continue
        outputs = _num_outputs(trace(model.apply, params, x, state), size, num_classes)
        logits, after = trace(model.train, params, x, state, jnp.ones(size, bool))
        _num_outputs(logits, size, num_classes)
        if _types(state) != _types(after):
            raise ValueError(
                "train must return a state of the same structure, shapes and types as init_state"
            )
    if outputs == num_classes:
        return ()
    return (f"the model has {outputs} outputs for {num_classes} classes; no example teaches it the others",)


def check_loss(
    name: str | Callable[..., Any], losses: Losses, model: Model, dataset: Dataset
) -> None:
    """Check that a loss fits the labels of a data set and gives every example a value.

    Args:
        name: in the registry, or a function that is in none.
        losses: the loss.
        model: the model.
        dataset: the data.

    Raises:
        ConfigError: if it does not.
    """
    called = name if isinstance(name, str) else getattr(name, "__name__", "function")
    kind = "numbers" if dataset.num_classes is None else "classes"
    if isinstance(name, str) and LOSSES[name].facts["labels"] not in (kind, "any"):
        fitting = [other for other, entry in LOSSES.items() if entry.facts["labels"] in (kind, "any")]
        raise ConfigError(
            f"loss {name}: is for {LOSSES[name].facts['labels']}, but the labels of {dataset.name} are {kind} "
            f"(choose from {', '.join(fitting)})"
        )
    outputs, labels = _outputs_and_labels(model, dataset)
    try:
        # As an objective calls it: numbers in one form, and not yet averaged.
        found = jax.eval_shape(lambda *given: losses(*in_form(*given)), outputs, labels)
    except (TypeError, ValueError, IndexError) as error:
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


def check_measures(
    measures: Sequence[Measure], losses: Losses, model: Model, dataset: Dataset
) -> list[str]:
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
    outputs, labels = _outputs_and_labels(model, dataset)

    def all_of_them(outputs: jax.Array, labels: jax.Array) -> Any:
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
        return measured(measures, given)

    try:
        columns = jax.eval_shape(all_of_them, outputs, labels)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ConfigError(f"metrics must be functions that JAX can compile: {first_line(error)}") from None
    except (TypeError, ValueError, IndexError) as error:
        text = first_line(error)
        raise ConfigError(text if text.startswith("metric ") else f"metrics: {text}") from None
    for name in columns:
        if name in TAKEN:
            raise ConfigError(f"metric {name}: is the name of another column; give it another name")
    return list(columns)


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


def _outputs_and_labels(model: Model, dataset: Dataset) -> tuple[Any, Any]:
    """Shapes and types of what a model makes of a batch, and of its labels."""
    form = dataset.format
    x, labels = form.batch(form.num_outputs + 1)
    key = jax.random.key(0)
    state = () if model.init_state is None else (jax.eval_shape(model.init_state, key),)
    return jax.eval_shape(model.apply, jax.eval_shape(model.init, key), x, *state), labels


def _types(tree: Any) -> Any:
    """A tree's structure with the shape and type of every leaf."""
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _num_outputs(logits: Any, size: int, num_classes: int) -> int:
    """M, of logits (b, M)."""
    given = getattr(logits, "shape", None)
    if given is None or len(given) != 2 or given[0] != size:
        got = f"shape {given}" if given is not None else f"a {type(logits).__name__}"
        raise ValueError(f"inputs ({size}, ...) must become logits ({size}, {num_classes}), got {got}")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"its logits must be floating-point numbers, got {logits.dtype}")
    outputs = int(given[1])
    if outputs < num_classes:
        raise ValueError(f"it has {outputs} output{'s' * (outputs != 1)} for {num_classes} classes")
    return outputs


def check_pieces(
    rule: Aggregator, attack: Attack, num_clients: int, cohort_size: int, shape: tuple[int, ...]
) -> int:
    """Let rule and attack check their own bounds at the round's real number of rows, on few columns.

    Returns:
        Entries of their largest intermediate result: about cohort_size² where they compare clients in pairs.
    """
    d = 4
    x, y = jnp.zeros((1, *shape)), jnp.zeros(1, jnp.int32)

    def both(updates: jax.Array, malicious: jax.Array, context: Context) -> Any:
        def foresee(stack: jax.Array) -> jax.Array:
            return rule.aggregate(stack, rule.init(num_clients, d), context)[0]

        if attack.active is not None:
            malicious = malicious & attack.active(context)
        known = Knowledge(context, rule=foresee, local_rate=jnp.ones(()), batch_size=jnp.ones(()))
        sent, _ = attack.corrupt(updates, malicious, attack.init(num_clients, d), known)
        if jnp.shape(sent) != updates.shape:
            raise ValueError(f"the attack turns updates {updates.shape} into {shown(sent)}")
        return rule.aggregate(sent, rule.init(num_clients, d), context)

    rows = jnp.zeros((cohort_size, d))
    context = Context(
        key=jax.random.key(0),
        round=jnp.int32(0),
        client_ids=jnp.arange(cohort_size),
        weights=jnp.ones(cohort_size),
        params=jnp.zeros(d),
        root_update=jnp.zeros(d),
    )
    try:
        traced: Any = jax.make_jaxpr(both, return_shape=True)
        jaxpr, (update, _, _) = traced(rows, jnp.zeros(cohort_size, bool), context)
        if getattr(update, "shape", None) != (d,):
            raise ValueError(f"the aggregator turns updates {rows.shape} into {shown(update)}, not ({d},)")
        if attack.poison_data is not None:
            jax.eval_shape(attack.poison_data, x, y, jnp.zeros(1, bool), jnp.int32(0))
        if attack.trigger is not None:
            jax.eval_shape(attack.trigger.embed, x)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ConfigError(
            "aggregator and attack must be functions that JAX can compile, written in jax.numpy: "
            + first_line(error)
        ) from None
    except TypeError as error:  # last: those of JAX are TypeErrors, too
        raise ConfigError(f"aggregator or attack: {first_line(error)}") from error
    return _most_entries(jaxpr.jaxpr)


def _most_entries(jaxpr: Any) -> int:
    """Entries of the largest intermediate result of a traced function, loops and branches included."""
    own = [math.prod(getattr(v.aval, "shape", ())) for e in jaxpr.eqns for v in e.outvars]
    return max([0, *own, *map(_most_entries, subjaxprs(jaxpr))])


def check_cohort(in_cohort: int | None, cohort_size: int, num_malicious: int, num_clients: int) -> None:
    """Check that every cohort can hold that many malicious clients and fill up with honest ones.

    Raises:
        ConfigError: if it cannot.
    """
    if in_cohort is None:
        return
    smallest = max(0, cohort_size - (num_clients - num_malicious))
    largest = min(cohort_size, num_malicious)
    if not smallest <= in_cohort <= largest:
        raise ConfigError(
            f"attack.in_cohort={in_cohort} must be between {smallest} and {largest}: a cohort has "
            f"{cohort_size} clients, and {num_malicious} of all {num_clients} are malicious"
        )
