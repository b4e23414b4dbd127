"""Whether the pieces of a round fit each other, before anything is compiled."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from fljax.aggregators.base import Aggregator, Context
from fljax.attacks.base import Attack
from fljax.components import first_line
from fljax.errors import ConfigError
from fljax.models import Model


def check_model(model: Model, params: Any, shape: tuple[int, ...], key: jax.Array) -> Any:
    """The model's initial state, after a trace of everything it is asked for.

    Raises:
        ValueError: if it draws random numbers, or its state is not what `train` returns.
    """
    x = jnp.zeros((1, *shape))
    try:
        if model.init_state is None or model.train is None:
            jax.eval_shape(model.apply, params, x)
            return ()
        state = model.init_state(key)
        jax.eval_shape(model.apply, params, x, state)
        _, after = jax.eval_shape(model.train, params, x, state, jnp.ones(1, bool))
    except flax.errors.InvalidRngError:
        raise ValueError("layers that draw random numbers, such as dropout, are not supported") from None
    if jax.eval_shape(lambda: state) != after:
        raise ValueError("train must return a state of the same structure, shapes and types as init_state")
    return state


def check_pieces(
    rule: Aggregator, attack: Attack, num_clients: int, cohort_size: int, shape: tuple[int, ...]
) -> None:
    """Let rule and attack check their own bounds at the round's real number of rows, on few columns."""
    d = 4
    x, y = jnp.zeros((1, *shape)), jnp.zeros(1, jnp.int32)

    def both(updates: jax.Array, malicious: jax.Array, context: Context) -> Any:
        def foresee(stack: jax.Array) -> jax.Array:
            return rule.aggregate(stack, rule.init(num_clients, d), context)[0]

        if attack.active is not None:
            malicious = malicious & attack.active(context)
        known = context._replace(unit=jnp.ones(()), rule=foresee)
        updates, _ = attack.corrupt(updates, malicious, attack.init(num_clients, d), known)
        return rule.aggregate(updates, rule.init(num_clients, d), context)

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
        update, _, _ = jax.eval_shape(both, rows, jnp.zeros(cohort_size, bool), context)
        if update.shape != (d,):
            raise ValueError(f"the aggregator turns updates ({cohort_size}, d) into {update.shape}, not (d,)")
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


def check_cohort(in_cohort: int | None, cohort_size: int, num_malicious: int, num_clients: int) -> None:
    """Whether every cohort can hold that many malicious clients and fill up with honest ones.

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
