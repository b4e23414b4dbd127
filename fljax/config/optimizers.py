"""Optimizers and learning rates of a configuration: those of optax, by name."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fljax.config.schema import Component
from fljax.errors import ConfigError, first_line

Optimizer = Callable[[Any], optax.GradientTransformation]
# Two parameters.
TWO = jax.ShapeDtypeStruct((2,), jnp.float32)


def make_optimizer(where: str, config: Component) -> Optimizer:
    """Learning rate (number or schedule) to the configured optax optimizer.

    An optimizer of optax that has no `weight_decay` of its own takes one, too: λ·w is added to the gradient
    before anything else, as PyTorch's optimizers do (L2 regularisation).
    """
    function: Any = getattr(optax, config.name, None)
    names = _parameter_names(function)
    if not names or names[0] != "learning_rate":
        raise ConfigError(
            f"{where}: optax has no optimizer {config.name!r} that takes a learning rate "
            "(for example sgd, adam, adamw, rmsprop, yogi)"
        )
    coupled = "weight_decay" not in names
    given = config.checked(where, dict.fromkeys([*names[1:], *["weight_decay"] * coupled], (Any, None)))
    decay = given.pop("weight_decay", None) if coupled else None

    def make(learning_rate: Any) -> optax.GradientTransformation:
        optimizer = function(learning_rate, **given)
        return optimizer if decay is None else optax.chain(optax.add_decayed_weights(decay), optimizer)

    def one_step(params: Array) -> Any:
        optimizer = make(0.1)
        return optimizer.update(params, optimizer.init(params), params)

    _try(f"{where} {config.name}", one_step, TWO)
    return make


def check_local_optimizer(config: Component, steps: int | None) -> None:
    """Refuse an optimizer of the clients that does nothing of its own in so few steps a round.

    Args:
        config: its table.
        steps: R; None for epochs, which are as many steps as a client's examples ask for.

    Raises:
        ConfigError: if it takes one step and lives from a state, since that starts afresh every round.
    """
    state = jax.eval_shape(make_optimizer("local.optimizer", config)(0.1).init, TWO)
    # Schedules and corrections of a bias keep a mere count of steps.
    counts = [leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(state)]
    if steps == 1 and not all(counts):
        given = ", ".join(f"{name} = {value}" for name, value in config.parameters.items())
        named = f"{config.name} ({given})" if given else config.name
        raise ConfigError(
            f"local.optimizer {named} needs local.steps of at least 2: what it "
            "remembers (momentum, moments of gradients) starts afresh in every round, so that one step is "
            "plain or sign descent; or give it to server.optimizer, which remembers over the rounds"
        )


def is_plain_sgd(config: Component) -> bool:
    """True for SGD without momentum, whose steps are −β times a gradient."""
    return config.name == "sgd" and not config.parameters.get("momentum")


def make_schedule(where: str, config: Component) -> Callable[[Any], Any]:
    """Round number to learning rate."""
    known = config.name == "exponential_decay" or config.name.endswith("_schedule")
    function: Any = getattr(optax, config.name, None)
    if not known or function is None:
        raise ConfigError(
            f"{where}: optax has no schedule {config.name!r} "
            "(for example cosine_decay_schedule, piecewise_constant_schedule)"
        )
    names = dict.fromkeys(_parameter_names(function), (Any, None))
    given = config.checked(where, names)

    def make(step: Any) -> Any:
        # Keys of a TOML table are strings; optax counts boundaries in whole steps.
        steps = {
            name: {int(key): factor for key, factor in value.items()} if isinstance(value, dict) else value
            for name, value in given.items()
        }
        return function(**steps)(step)

    _try(f"{where} {config.name}", make, jax.ShapeDtypeStruct((), jnp.int32))
    return make


def _try(where: str, function: Callable[[Array], Any], argument: jax.ShapeDtypeStruct) -> None:
    """Trace a function of optax, and turn what it thinks of its parameters into one sentence."""
    try:
        jax.eval_shape(function, argument)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"{where}: {first_line(error)}") from None


def _parameter_names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters) if inspect.isfunction(function) else []
