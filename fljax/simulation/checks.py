"""Checks that the pieces of a round fit each other, before anything is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fljax.aggregators import RULES
from fljax.attacks import ATTACKS
from fljax.base import Aggregator, Attack, Context, Knowledge, Lacking, asks, draws
from fljax.config.components import PIECES
from fljax.config.resolve import Resolved
from fljax.data import Format
from fljax.engine.round import NOT_OF_MESSAGES
from fljax.errors import ConfigError, first_line
from fljax.models import Model
from fljax.models.adapters.finish import trace
from fljax.numerics.checks import shown
from fljax.numerics.rows import Rows, stacked
from fljax.simulation.known import Told
from fljax.simulation.liveness import peak_bytes


def check_model(model: Model, params: Any, form: Format, key: jax.Array) -> tuple[str, ...]:
    """Notes on the model for a report, after a trace of everything it is asked for.

    Raises:
        ValueError: if its parameters are not real numbers, its output is not one row of logits per example
            (or per token) with one for every class, or one of the numbers to predict, it draws random
            numbers, or its state is not what `train` returns.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"its parameter {name} must be real numbers, got {leaf.dtype}")
    outputs = 0
    state = () if model.init_state is None else jax.eval_shape(model.init_state, key)
    # Two sizes, neither of them the number of classes: a row must belong to an example.
    for size in (1, form.num_outputs + 1):
        x, _ = form.batch(size)
        extra = () if model.init_state is None else (state,)
        outputs = _num_outputs(trace(model.apply, params, x, *extra), size, form)
        if model.train is None:
            continue
        draws = (key,) if model.random else ()
        logits, after = trace(model.train, params, x, state, jnp.ones(size, bool), *draws)
        _num_outputs(logits, size, form)
        if _types(state) != _types(after):
            raise ValueError(
                "train must return a state of the same structure, shapes and types as init_state"
            )
    if outputs == form.num_outputs:
        return ()
    return (
        f"the model has {outputs} outputs for {form.num_classes} classes; no example teaches it the others",
    )


def _types(tree: Any) -> Any:
    """A tree's structure, and the shape and type of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _num_outputs(logits: Any, size: int, form: Format) -> int:
    """M, of logits (b, ..., M); or k, of predicted numbers (b, k)."""
    given: Any = getattr(logits, "shape", None)
    num_classes = form.num_classes
    wanted, what = (size, *form.outputs), "predictions" if num_classes is None else "logits"
    fits = given is not None and len(given) == len(wanted) and given[:-1] == wanted[:-1]
    if num_classes is None:
        # One number an example need not have an axis of its own.
        fits = given in (wanted, (size, *form.label_shape))
    if not fits:
        got = f"shape {given}" if given is not None else f"a {type(logits).__name__}"
        raise ValueError(f"inputs ({size}, ...) must become {what} {wanted}, got {got}")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"its {what} must be floating-point numbers, got {logits.dtype}")
    if num_classes is None:
        return form.num_outputs
    outputs = int(given[-1])
    if outputs < num_classes:
        raise ValueError(f"it has {outputs} output{'s' * (outputs != 1)} for {num_classes} classes")
    return outputs


def check_messages(
    client: str,
    rule: Aggregator,
    attack: Attack,
    num_clients: int,
    cohort_size: int,
    form: Format,
    **how: Any,
) -> None:
    """Check that rule and attack do without the server's own update, as for what clients send besides theirs.

    Args:
        client: the name of what the clients do.
        rule: the rule.
        attack: the attack.
        num_clients, cohort_size, form, how: as for `check_pieces`.

    Raises:
        ConfigError: if they do not.
    """
    try:
        check_pieces(rule, attack, num_clients, cohort_size, form, **how, rooted=False)
    except ConfigError as error:
        raise ConfigError(
            f"client {client}: the server has nothing to compare its clients' other messages with: {error}"
        ) from None


def check_pieces(
    rule: Aggregator,
    attack: Attack,
    num_clients: int,
    cohort_size: int,
    form: Format,
    rooted: bool = True,
    streams: bool = False,
    num_params: int = 4,
    told: Told | None = None,
    data: Any = None,
    model_state: Any = (),
    surrogate: Aggregator | None = None,
) -> int:
    """Let rule and attack check their own bounds at the round's real number of rows.

    Args:
        rule: the rule.
        attack: the attack.
        num_clients: n.
        cohort_size: rows.
        form: of the data.
        rooted: whether there is an update of the server's own.
        streams: whether the rows come a chunk at a time.
        num_params: d.
        told: what the model and the task have of a `Context`.
        data: shapes of the root dataset, for `told`.
        model_state: shapes of the model's state, for `told`.
        surrogate: the smooth version of the rule that attackers follow, or None.

    Returns:
        Bytes of the results that they hold at the same time, beside the updates and their states.
    """
    d = num_params
    x, y = form.batch(1)

    def both(
        updates: jax.Array, malicious: jax.Array, context: Context, states: Any, model_state: Any, data: Any
    ) -> Any:
        if told is not None:
            context = context._replace(**told(model_state, data))
            if not rooted:
                context = context._replace(**NOT_OF_MESSAGES)

        for name in () if attack.train is None else attack.train.needs:
            if isinstance(lacking := getattr(context, name), Lacking):
                raise ValueError(f"the attack needs {name}, but {lacking.reason}")

        def foresee(rule: Aggregator) -> Callable[[jax.Array], jax.Array]:
            return lambda stack: rule.aggregate(stack, states[0], context)[0]

        if attack.active is not None:
            malicious = malicious & attack.active(context)
        known = Knowledge(
            context,
            rule=foresee(rule),
            surrogate=None if surrogate is None else foresee(surrogate),
            local_rate=jnp.ones(()),
            batch_size=jnp.ones(()),
            run_key=jax.random.key(0),
        )
        rows: Any = stacked(updates, -(-cohort_size // 2)) if streams else updates
        sent: Any
        sent, _ = attack.corrupt(rows, malicious, states[1], known)
        if (sent.shape if isinstance(sent, Rows) else jnp.shape(sent)) != updates.shape:
            raise ValueError(f"the attack turns updates {updates.shape} into {shown(sent)}")
        return rule.aggregate(sent, states[0], context)

    rows: Any
    vector: Any
    rows, vector = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((cohort_size, d), (d,)))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    context: Any = Context(
        key=jax.random.key(0),
        round=number,  # type: ignore[arg-type]
        client_ids=jax.ShapeDtypeStruct((cohort_size,), jnp.int32),  # type: ignore[arg-type]
        weights=jax.ShapeDtypeStruct((cohort_size,), jnp.float32),  # type: ignore[arg-type]
        params=vector,
        root_update=vector if rooted else None,
    )
    try:
        traced: Any = jax.make_jaxpr(both, return_shape=True)
        states = jax.eval_shape(lambda: (rule.init(num_clients, d), attack.init(num_clients, d)))
        malicious = jax.ShapeDtypeStruct((cohort_size,), jnp.bool_)
        jaxpr, (update, _, _) = traced(rows, malicious, context, states, model_state, data)
        if getattr(update, "shape", None) != (d,):
            raise ValueError(f"the aggregator turns updates {rows.shape} into {shown(update)}, not ({d},)")
        if attack.poison_data is not None:
            given: dict[str, Any] = {"key": jax.random.key(0)} if draws(attack.poison_data) else {}
            if asks(attack.poison_data, "predict"):
                outputs = jnp.zeros((1, *form.outputs), jnp.float32)
                given["predict"] = lambda x: outputs
            one: Any = jax.ShapeDtypeStruct((1,), jnp.bool_)
            poison_data: Any = attack.poison_data

            def poison(x: Any, y: Any, one: Any, number: Any, state: Any) -> Any:
                own = {"state": state} if asks(poison_data, "state") else {}
                return poison_data(x, y, one, number, **given, **own)

            poisoned = jax.eval_shape(poison, x, y, one, number, states[1])
            for what, bad, good in zip(("inputs", "labels"), poisoned, (x, y), strict=True):
                _check_kept(f"poison_data turns {what}", bad, good)
        if attack.trigger is not None:
            marked = jax.eval_shape(attack.trigger.embedded, x, states[1])
            _check_kept("its trigger turns inputs", marked, x)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ConfigError(
            "aggregator and attack must be functions that JAX can compile, written in jax.numpy: "
            + first_line(error)
        ) from None
    except TypeError as error:  # last: those of JAX are TypeErrors, too
        raise ConfigError(f"aggregator or attack: {first_line(error)}") from error
    return peak_bytes(jaxpr.jaxpr, in_place=True)


def cannot_stream(
    resolved: Resolved, rule: Aggregator | None = None, attack: Attack | None = None
) -> str | None:
    """The sentence for a rule, a piece around it or an attack that reads all rows at once; None if none does.

    Args:
        resolved: those that the configuration names.
        rule: the rule instead.
        attack: the attack instead.
    """
    pieces: list[tuple[str, Any, Any, Any]] = [
        ("aggregator", resolved.rule, rule, RULES),
        *(
            (registry.kind, part, rule, registry)
            for key, part in resolved.rule.parts.items()
            if (registry := PIECES[key.partition(".")[0]])
        ),
        ("attack", resolved.attack, attack, ATTACKS),
    ]
    for kind, named, given, registry in pieces:
        streams = given.streams if given is not None else named.entry is None or named.entry.facts["streams"]
        if not streams:
            others = ", ".join(name for name, entry in registry.items() if entry.facts["streams"])
            who = f"{kind} {named.name}" if given is None else f"this {kind}"
            return f"streaming: {who} reads all updates of a round at once (those that do not: {others})"
    return None


def _check_kept(what: str, after: Any, before: Any) -> None:
    """Check that poisoned examples fit among the others."""
    if jnp.shape(after) != before.shape or jnp.result_type(after, before) != before.dtype:
        kind = getattr(after, "dtype", type(after).__name__)
        raise ValueError(
            f"the attack does not fit the data: {what} {before.dtype} {before.shape} into {kind} "
            f"{jnp.shape(after)}"
        )


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
