"""Schedules of attacks: pure functions of the round, its key and its clients.

Each returns a boolean, or a boolean per client of the cohort; a malicious client for which it is False trains
and sends honestly in that round. Any number here may be a traced value.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_schedule
from fljax.base import Attack, Context
from fljax.numerics.checks import ArgumentError, Float, Int, as_number, bounded, flag, is_static, real

Schedule = Callable[[Context], Array]


def _check_rounds(smallest: int, **numbers: Any) -> None:
    for name, value in numbers.items():
        bounded(name, value, smallest=smallest, largest=2**31 - 1, needs="to be less than 2^31")


@register_schedule()
def between(round: Array, *, start: Int = 0, stop: Int | None = None) -> Array:
    """From one round on, and until another.

    Args:
        round: scalar, counted from 0.
        start: the first round with an attack.
        stop: the first round without one again; None for never.

    Returns:
        Boolean scalar, start ≤ round < stop.

    Example:
        >>> [bool(between(jnp.int32(r), start=1, stop=3)) for r in range(4)]
        [False, True, True, False]
    """
    _check_rounds(0, start=start)
    if stop is not None:
        _check_rounds(0, stop=stop)
    first, end = as_number(start), as_number(stop)
    if is_static(first) and is_static(end) and end <= first:
        raise ArgumentError(f"stop={end} must be larger than start={first}")
    started = jnp.asarray(round) >= start
    return started if stop is None else started & (round < stop)


@register_schedule()
def periodic(round: Array, *, on: Int, off: Int, start: Int = 0) -> Array:
    """On and off: `on` rounds of attack, then `off` honest ones, and so on from round `start`.

    Args:
        round: scalar, counted from 0.
        on: rounds with an attack, at least 1.
        off: rounds without.
        start: the first round with an attack.

    Returns:
        Boolean scalar.

    Example:
        >>> [int(periodic(jnp.int32(r), on=2, off=1)) for r in range(6)]
        [1, 1, 0, 1, 1, 0]
    """
    _check_rounds(1, on=on)
    _check_rounds(0, off=off, start=start)
    since = jnp.asarray(round) - start
    return (since >= 0) & (jnp.mod(since, on + off) < on)


@register_schedule()
def at_random(
    round: Array, key: Array, client_ids: Array, *, probability: Float, together: bool = False, start: Int = 0
) -> Array:
    """Every malicious client attacks with a probability, each round anew.

    Args:
        round: scalar, counted from 0.
        key: typed PRNG key of the round; client i draws from `fold_in(key, i)`.
        client_ids: (n,).
        probability: of attacking, between 0 and 1.
        together: whether all decide alike.
        start: the first round with an attack.

    Returns:
        (n,) boolean.

    Example:
        >>> ids = jnp.arange(4)
        >>> at_random(jnp.int32(0), jax.random.key(0), ids, probability=1.0).tolist()
        [True, True, True, True]
    """
    _check_rounds(0, start=start)
    flag("together", together)
    real("probability", probability, at_least=0, at_most=1)
    ids = jnp.zeros_like(client_ids) if together else client_ids
    draws = jax.vmap(lambda client: jax.random.uniform(jax.random.fold_in(key, client)))(ids)
    return (draws < probability) & (jnp.asarray(round) >= start)


def _both(first: Schedule, second: Schedule, context: Context) -> Array:
    return first(context) & second(context)


def scheduled(attack: Attack, schedule: Schedule) -> Attack:
    """The attack, in the rounds and by the clients that a schedule names.

    Args:
        attack: any attack.
        schedule: `schedule(context) -> bool or (n,) mask`.

    Returns:
        The `Attack`; its state is updated in every round.

    Example:
        >>> from fljax.attacks import NO_ATTACK, schedule_from_registry, scheduled
        >>> late = scheduled(NO_ATTACK, schedule_from_registry("between", start=100))
        >>> bool(late.active(Context(round=jnp.int32(7))))
        False
    """
    if attack.active is not None:
        schedule = partial(_both, attack.active, schedule)
    return attack._replace(active=schedule)
