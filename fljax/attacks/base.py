"""The pieces an attack is made of, and how a pure attack function becomes one."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.base import Context, array_arguments, as_stack

State = Any


class Trigger(NamedTuple):
    """A backdoor: what is embedded in an input, and what the model shall then answer.

    Attributes:
        embed: (..., *input_shape) inputs to the same inputs carrying the trigger.
        target: the label the attacker wants for them.
    """

    embed: Callable[[Array], Array]
    target: int


class Attack(NamedTuple):
    """An attack for the round, as pure functions.

    Attributes:
        init: `init(num_clients, num_params) -> state`.
        corrupt: `corrupt(updates, malicious, state, context) -> (updates, state)`; honest rows come back
            bit-identical.
        poison_data: `poison_data(x, y, is_copy) -> (x, y)`, applied to every batch of a malicious client
            when it is gathered, or None; `is_copy` (b,) marks the appended copies.
        copies: how many copies a malicious client appends to its examples, as a share of their number.
        trigger: the backdoor whose success is measured, or None.
    """

    init: Callable[[int, int], State]
    corrupt: Callable[[Array, Array, State, Context], tuple[Array, State]]
    poison_data: Callable[[Array, Array, Array], tuple[Array, Array]] | None = None
    copies: float = 0.0
    trigger: Trigger | None = None


class Task(NamedTuple):
    """What an attack is told about the problem it attacks.

    Attributes:
        num_classes: number of labels.
        max_malicious: an upper bound on the malicious rows in one stack, for static shapes; None for n.
        image_shape: (height, width, channels), or None for plain features.
    """

    num_classes: int
    max_malicious: int | None = None
    image_shape: tuple[int, int, int] | None = None


class AttackFunction(Protocol):
    """A pure attack, or a factory of an `Attack`."""

    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class AttackEntry(NamedTuple):
    """One registry entry.

    Attributes:
        function: the public pure function, or the factory that returns the `Attack`.
        title: the name the literature uses, for tables.
        knowledge: what the attacker must know.
        optimises: what it tries to do.
        source: where it was published, with the year.
        make: `make(function, task, **hyper) -> Attack`.
    """

    function: AttackFunction
    title: str
    knowledge: str
    optimises: str
    source: str
    make: Callable[..., Attack]

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").splitlines()[0]


# Arguments of an attack that the task provides, not the configuration.
TASK_ARGUMENTS = frozenset(Task._fields)


def task_arguments(function: Callable[..., Any], task: Task) -> dict[str, Any]:
    """The keyword arguments of `function` that the task provides."""
    wanted = inspect.signature(function).parameters
    return {name: getattr(task, name) for name in Task._fields if name in wanted}


def _no_state(num_clients: int, num_params: int) -> State:
    return ()


def on_updates(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` from a pure function on updates; the arrays it names come from the context."""
    names = array_arguments(function)
    hyper = task_arguments(function, task) | hyper

    def corrupt(updates: Array, malicious: Array, state: State, context: Context) -> tuple[Array, State]:
        known = {"malicious": malicious, **context._asdict()}
        missing = [name for name in names if known.get(name) is None]
        if missing:
            raise ValueError(f"{function.__name__}: needs {missing[0]}, which this round does not provide")
        return function(updates, **{name: known[name] for name in names}, **hyper), state

    return Attack(_no_state, corrupt)


def on_labels(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` that trains honestly on labels changed by a pure function."""
    hyper = task_arguments(function, task) | hyper

    def poison_data(x: Array, y: Array, is_copy: Array) -> tuple[Array, Array]:
        return x, function(y, **hyper)

    return Attack(_no_state, _leave, poison_data)


def from_factory(function: AttackFunction, task: Task, **hyper: Any) -> Attack:
    """An `Attack` from a function that returns one."""
    return function(**task_arguments(function, task), **hyper)


def _leave(updates: Array, malicious: Array, state: State, context: Context) -> tuple[Array, State]:
    return updates, state


NO_ATTACK = Attack(_no_state, _leave)


def check_stack(attack: str, updates: Array, malicious: Array) -> tuple[Array, Array]:
    """The stack and the mask as JAX arrays, or what is wrong with them."""
    updates, malicious = as_stack(attack, updates), jnp.asarray(malicious)
    n = updates.shape[0]
    if malicious.shape != (n,) or malicious.dtype != jnp.bool_:
        raise ValueError(
            f"{attack}: malicious must be a boolean mask of shape ({n},), "
            f"got {malicious.dtype} of shape {malicious.shape}"
        )
    return updates, malicious


def malicious_rows(malicious: Array, max_malicious: int | None) -> Array:
    """Indices of the malicious rows, padded with n to a static length of `max_malicious` (n if None)."""
    n = malicious.shape[0]
    size = n if max_malicious is None else min(max_malicious, n)
    return jnp.nonzero(malicious, size=size, fill_value=n)[0]
