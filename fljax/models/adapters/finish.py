"""From a module's two forward passes to a `Model`: what is random, what has state, what is the same."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors
from jax import Array
from jax.extend.core import Var

from fljax.base import Model, Params


class Passes(NamedTuple):
    """The functions of a module, of which nothing is known yet.

    Attributes:
        init: `init(key) -> params`.
        evaluate: `evaluate(params, x, state) -> logits`.
        train: `train(params, x, state, real, key) -> (logits, state)`; without a key where it draws nothing.
            None where the module cannot tell training from evaluation.
        init_state: `init_state(key) -> state`; None where it has none.
    """

    init: Callable[[Array], Params]
    evaluate: Callable[[Params, Array, Any], Array]
    train: Callable[[Params, Array, Any, Array, Array | None], tuple[Array, Any]] | None = None
    init_state: Callable[[Array], Any] | None = None


def with_plain_state(passes: Passes) -> Passes:
    """The passes with the arrays of the state in a tuple, as checkpoints take it.

    A library's own container, into which they are put for every call, is not one that flax can write.
    """
    init, evaluate, train, init_state = passes
    if init_state is None or train is None:
        return passes
    structure = jax.tree.structure(jax.eval_shape(init_state, jax.random.key(0)))

    def packed(state: Any) -> tuple[Array, ...]:
        return tuple(jax.tree.leaves(state))

    def plain(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        logits, after = train(params, x, jax.tree.unflatten(structure, state), real, key)
        return logits, packed(after)

    return Passes(
        init,
        lambda params, x, state: evaluate(params, x, jax.tree.unflatten(structure, state)),
        plain,
        lambda key: packed(init_state(key)),
    )


def finish(passes: Passes, example: Any) -> Model:
    """The `Model` that a module's passes make.

    It is random if what training returns depends on its key. Without state and randomness, a training that
    compiles to the program of evaluation is left out.

    Args:
        passes: the module's.
        example: (1, *input_shape), or its shape and type.

    Raises:
        ValueError: if evaluation draws random numbers.
    """
    init, evaluate, train, init_state = passes
    key = jax.random.key(0)
    params = jax.eval_shape(init, key)
    state = () if init_state is None else jax.eval_shape(init_state, key)
    trace(evaluate, params, example, state)

    def stateless(params: Params, x: Array) -> Array:
        return evaluate(params, x, ())

    apply: Callable[..., Array] = stateless if init_state is None else evaluate
    if train is None:
        return Model(init, apply, init_state)
    both = train
    real = jnp.ones(1, bool)
    traced: Any = jax.make_jaxpr(both)(params, example, state, real, key)
    if _decides(traced.jaxpr.invars[-1], traced.jaxpr):
        return Model(init, apply, init_state, both)

    def plain(params: Params, x: Array, state: Any, real: Array) -> tuple[Array, Any]:
        return both(params, x, state, real, None)

    if init_state is None:
        programs = [
            jax.jit(forward).lower(params, example).as_text()
            for forward in (stateless, lambda params, x: plain(params, x, (), real)[0])
        ]
        if _body(programs[0]) == _body(programs[1]):
            return Model(init, apply)
    return Model(init, apply, init_state, plain)


def _decides(argument: Var, jaxpr: Any) -> bool:
    """True if a traced function's results depend on an argument."""
    needed = set(_variables(jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(_variables(equation.invars))
    return argument in needed


def _variables(operands: Iterable[Any]) -> Iterator[Var]:
    return (operand for operand in operands if isinstance(operand, Var))


def _body(program: str) -> str:
    """A lowered program without its first line, which has the name of the function."""
    return program.partition("\n")[2]


def trace(function: Callable[..., Any], *args: Any) -> Any:
    """The shapes that a function returns.

    Raises:
        ValueError: if it draws random numbers without a key.
    """
    try:
        return jax.eval_shape(function, *args)
    except errors.InvalidRngError:
        raise ValueError(
            "it draws random numbers in evaluation: its call must take an argument by which layers such as "
            "dropout are told that they train, for example train"
        ) from None
