"""From a pure function to an `Attack`, and the checks that all attacks share."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, cast

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.combining import check_arguments, context_arguments
from fljax.base import Attack, Context, Knowledge, State, Task
from fljax.numerics.checks import ArgumentError, named, shown, whole
from fljax.numerics.rows import stack_or_rows
from fljax.registry import F


class AttackFunction(Protocol):
    """A pure attack, or a factory of an `Attack`."""

    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


# Arguments of an attack that the task provides, not the configuration.
TASK_ARGUMENTS = frozenset(Task._fields)
# Those that a round fills in, by name.
ROUND_ARGUMENTS = ("malicious", *Context._fields, *Knowledge._fields[1:])


def task_arguments(function: Callable[..., Any], task: Task) -> dict[str, Any]:
    """The keyword arguments of `function` that the task provides; those of a partial are settled.

    Raises:
        ValueError: if it is about classes, and there are none.
    """
    wanted = set(inspect.signature(function).parameters) - set(getattr(function, "keywords", {}))
    if "num_classes" in wanted and task.num_classes is None:
        name = getattr(function, "__name__", "the attack")
        raise ValueError(f"{name}: is about classes, and the data set is one of regression, which has none")
    return {name: getattr(task, name) for name in Task._fields if name in wanted}


def no_state(num_clients: int, num_params: int) -> State:
    """The `init` of an attack without a state."""
    return ()


def on_updates(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` from a pure function on updates.

    Args:
        function: `function(updates, malicious, ..., *, hyper-parameters) -> updates`; what it names besides
            comes from the round's `Context` and `Knowledge`.
        task: what it attacks; hyper-parameters that it has come from there.
        **hyper: the other hyper-parameters.

    Returns:
        The `Attack`, without state; it streams if the function has an attribute `streams` that is true.

    Raises:
        ValueError: if it takes no updates, or names an argument, optional or not, that no round has.
    """
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY:
        name = getattr(function, "__name__", "the function")
        raise ValueError(
            f"{name}: takes no updates; an attack that returns an Attack needs make=from_factory"
        )
    check_arguments(function, ROUND_ARGUMENTS)
    hyper = task_arguments(function, task) | hyper

    def corrupt(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        known = {"malicious": malicious, **knowledge.context._asdict(), **knowledge._asdict()}
        return function(updates, **context_arguments(function, known), **hyper), state

    return Attack(no_state, corrupt, streams=getattr(function, "streams", False))


def on_labels(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` that trains honestly on labels changed by a pure function, which may draw with a `key`."""
    hyper = task_arguments(function, task) | hyper

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
        return x, function(y, **hyper)

    def poison_at_random(
        x: Array, y: Array, is_copy: Array, member: Array, key: Array
    ) -> tuple[Array, Array]:
        return x, function(y, key=key, **hyper)

    draws = "key" in inspect.signature(function).parameters
    return NO_ATTACK._replace(poison_data=poison_at_random if draws else poison_data)


def from_factory(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` from a function that returns one."""
    return function(**task_arguments(function, task), **hyper)


def leave(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
    """The `corrupt` of an attack that sends what it trained."""
    return updates, state


NO_ATTACK = Attack(no_state, leave, streams=True)


def checked(function: F, name: str | None = None, streams: bool = False) -> F:
    """The function with its name in front of what its checks raise, and its updates and mask checked.

    Args:
        function: an attack, a factory of an `Attack`, or anything else with arguments to check. If it takes a
            mask `malicious`, its first argument is the updates (n, d).
        name: the beginning of a sentence about an argument; default the function's name.
        streams: whether it takes `Rows` as its updates as well, or the `Attack` that it returns may.

    Returns:
        The function. An `Attack` that it returns checks its arguments in the same way.
    """
    title = name or function.__name__
    signature = inspect.signature(function)
    updates = next(iter(signature.parameters), "")
    takes_stack = "malicious" in signature.parameters

    @wraps(getattr(function, "func", function), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with named(title):
            if takes_stack:
                try:
                    given = signature.bind(*args, **kwargs)
                except TypeError:
                    return function(*args, **kwargs)  # Python says what is missing
                stack, mask = check_stack(
                    given.arguments.get(updates), given.arguments.get("malicious"), streams
                )
                given.arguments.update({updates: stack, "malicious": mask})
                args, kwargs = given.args, given.kwargs
            result = function(*args, **kwargs)
        return _checked_attack(title, result, streams) if isinstance(result, Attack) else result

    # A partial has one of its own.
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.streams = streams  # type: ignore[attr-defined]
    return cast(F, call)


def _checked_attack(name: str, attack: Attack, streams: bool) -> Attack:
    def corrupt(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        with named(name):
            return attack.corrupt(*check_stack(updates, malicious, streams), state, knowledge)

    poison_data, prepare, training = attack.poison_data, attack.prepare, attack.train
    return attack._replace(
        corrupt=corrupt,
        poison_data=poison_data and named(name)(poison_data),
        prepare=prepare and named(name)(prepare),
        train=training and training._replace(train=named(name)(training.train)),
        streams=streams and attack.streams,
    )


def check_stack(updates: Any, malicious: Any, streams: bool = False) -> tuple[Any, Array]:
    """The stack as a JAX array, or as `Rows` if `streams` allows it, and the mask as one.

    Raises:
        ArgumentError: if they are none.
    """
    updates = stack_or_rows(updates, streams)
    if not jnp.issubdtype(updates.dtype, jnp.floating):
        # Crafted rows would be rounded to the type of the honest ones.
        raise ArgumentError(f"updates must be of a floating type, got {updates.dtype}")
    n, given = updates.shape[0], malicious
    try:
        malicious = jnp.asarray(given)
    except (TypeError, ValueError):
        malicious = jnp.zeros(())
    if malicious.shape != (n,) or malicious.dtype != jnp.bool_:
        raise ArgumentError(f"malicious must be a boolean mask of shape ({n},), got {shown(given)}")
    return updates, malicious


def malicious_rows(malicious: Array, max_malicious: int | None) -> Array:
    """Indices of the malicious rows, padded with n to a static length, `max_malicious` or n; at least 1."""
    n = malicious.shape[0]
    if max_malicious is not None:
        max_malicious = whole("max_malicious", max_malicious)
    if max_malicious == 0:
        # Nobody, but an axis without an entry is more than some operations can take.
        return jnp.full((1,), n)
    size = n if max_malicious is None else min(max_malicious, n)
    return jnp.nonzero(malicious, size=size, fill_value=n)[0]
