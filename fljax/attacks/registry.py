"""The attacks and schedules that a configuration can name; each is registered where it is written."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.combining import check_arguments, context_arguments
from fljax.aggregators.registry import name_of
from fljax.attacks.wrappers import checked, on_labels, on_updates
from fljax.base import Attack, Context, Task
from fljax.registry import F, Registry, with_options

# `streams`: it takes `Rows`, a stack that is never whole, as well.
ATTACKS = Registry("attack", optimises="", make=on_updates, streams=False)
SCHEDULES = Registry("schedule")


@with_options
def register_attack(
    name: str | None = None,
    *,
    title: str | None = None,
    source: str = "",
    assumes: str = "",
    optimises: str = "",
    make: Callable[..., Attack] = on_updates,
    streams: bool = False,
) -> Callable[[F], F]:
    """A decorator that makes an attack known under a name.

    Args:
        name: what a configuration calls it: letters, digits, `_` and `-`, a letter first; default the
            function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        assumes: what the attacker knows, in a few words.
        optimises: what it tries to achieve.
        make: `make(function, task, **hyper) -> Attack`. `on_updates` takes a function of the updates, of the
            mask `malicious` and of whatever else a round knows and the function names; `on_labels` one of
            the labels; `from_factory` one that returns the `Attack`.
        streams: whether it reads the updates by the functions of fljax/numerics/rows.py alone, so that it
            takes `Rows` as well, and makes `Rows` of them; one on labels always does.

    Returns:
        The decorator. It returns the function, with its updates and mask checked, and its name in front of
        what its checks raise.

    Raises:
        ValueError: for a name that is taken by another function, or no name.

    Example:
        >>> @register_attack(title="Doubling")  # doctest: +SKIP
        ... def doubling(updates, malicious, *, factor: float = 2.0):
        ...     '''Doubling: every malicious row times a factor.'''
        ...     return jnp.where(malicious[:, None], factor * updates, updates)
    """

    def register(function: F) -> F:
        called = name_of("attack", function, name)
        streaming = streams or make is on_labels
        facts = {"optimises": optimises, "make": make, "streams": streaming}
        enter = ATTACKS.register(called, title=title, source=source, assumes=assumes, **facts)
        return enter(checked(function, called, streaming))

    return register


@with_options
def register_schedule(
    name: str | None = None, *, title: str | None = None, source: str = ""
) -> Callable[[F], F]:
    """A decorator that makes a schedule known under a name.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what the literature calls it; default the name.
        source: where it was published, with the year.

    Returns:
        The decorator, for `schedule(round, ..., *, hyper-parameters) -> bool or (n,) mask`; what it names
        besides comes from the `Context`. It returns the function, with its name in front of what its checks
        raise.

    Raises:
        ValueError: for a name that is taken by another function, or no name.
    """

    def register(function: F) -> F:
        called = name_of("schedule", function, name)
        return SCHEDULES.register(called, title=title, source=source)(checked(function, f"schedule {called}"))

    return register


def attack_from_registry(name: str, task: Task, **hyper: Any) -> Attack:
    """The `Attack` of a registry entry.

    Args:
        name: an entry of `ATTACKS`.
        task: what it attacks.
        **hyper: its keyword-only parameters, without those that the task provides.

    Raises:
        ConfigError: if there is no such attack.
        ValueError: if a parameter is wrong.

    Example:
        >>> attack = attack_from_registry("scaling_attack", Task(num_classes=10), every=5)
        >>> attack.trigger.target
        0
    """
    entry = ATTACKS.find(name)
    return entry.facts["make"](entry.function, task, **hyper)


def schedule_from_registry(name: str, **hyper: Any) -> Callable[[Context], Array]:
    """The schedule of a registry entry, as `scheduled` takes it.

    Args:
        name: an entry of `SCHEDULES`.
        **hyper: its keyword-only parameters.

    Returns:
        `active(context) -> bool or (n,) mask`.

    Raises:
        ConfigError: if there is no such schedule.
        ValueError: if a parameter is wrong.

    Example:
        >>> active = schedule_from_registry("between", start=100)
        >>> bool(active(Context(round=jnp.int32(7))))
        False
    """
    function = SCHEDULES.find(name).function
    check_arguments(function, Context._fields)

    def active(context: Context) -> Array:
        return function(context.round, **context_arguments(function, context._asdict()), **hyper)

    # The function checks its parameters, which need not wait for the first round.
    one = Context(jax.random.key(0), jnp.int32(0), jnp.zeros(1, jnp.int32), jnp.ones(1), jnp.zeros(1))
    jax.eval_shape(active, one)
    return active
