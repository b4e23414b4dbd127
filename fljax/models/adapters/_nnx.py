"""A flax.nnx module as a `Model`."""

import functools
import inspect
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from fljax.base import Model, Params
from fljax.models.adapters.finish import Passes, finish, with_plain_state
from fljax.models.adapters.padding import at_least_one, example_mask
from fljax.models.modes import mode_argument

# The real examples of the batch that is being traced.
_REAL: ContextVar[Array | None] = ContextVar("real examples", default=None)


def from_nnx(module: nnx.Module, example: Array) -> Model:
    """A `Model` from an initialised flax.nnx module; its current parameters are the initial model.

    It trains as after `module.train()` and is evaluated as after `module.eval()`; an argument of its call
    that is one of `fljax.models.modes.MODES` says so as well. In training every `BatchNorm` normalises with
    the statistics of the real examples of its batch. All random streams, and an argument `rngs` of the call,
    draw from the step's key.

    Args:
        module: with parameters and perhaps batch statistics, which are the model's state. It stays as it is.
        example: (1, *input_shape).

    Returns:
        The `Model`.

    Raises:
        ValueError: if it has other state.
    """
    call = type(module).__call__
    mode = mode_argument(call)
    takes_rngs = "rngs" in inspect.signature(call).parameters

    def parts(trains: bool) -> Any:
        view = nnx.clone(module)
        (view.train if trains else view.eval)()
        for _, node in nnx.iter_graph(view):
            if isinstance(node, nnx.BatchNorm):
                node.__class__ = _masking(type(node))
        return nnx.split(view, nnx.Param, nnx.BatchStat, nnx.RngState, ...)

    evaluating, params, statistics, streams, rest = parts(trains=False)
    training = parts(trains=True)[0]
    has_statistics = bool(jax.tree.leaves(statistics))
    if jax.tree.leaves(rest):
        raise ValueError(
            f"model {type(module).__name__}: only parameters, batch statistics and random streams are "
            "supported, it has other state"
        )

    def arguments(trains: bool, key: Array | None) -> dict[str, Any]:
        given: dict[str, Any] = {} if mode is None else {mode[0]: mode[1] == trains}
        return {**given, "rngs": None if key is None else nnx.Rngs(key)} if takes_rngs else given

    def evaluate(params: Params, x: Array, state: Any) -> Array:
        merged: Any = nnx.merge(evaluating, params, state if has_statistics else statistics, streams, rest)
        logits: Any = merged(x, **arguments(False, None))
        return logits

    def train(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        own = streams if key is None else _restarted(streams, key)
        merged: Any = nnx.merge(training, params, state if has_statistics else statistics, own, rest)
        token = _REAL.set(at_least_one(real))
        try:
            logits = merged(x, **arguments(True, key))
        finally:
            _REAL.reset(token)
        return logits, nnx.state(merged, nnx.BatchStat) if has_statistics else state

    passes = Passes(
        lambda key: jax.tree.map(jnp.array, params),
        evaluate,
        train,
        (lambda key: jax.tree.map(jnp.array, statistics)) if has_statistics else None,
    )
    return finish(with_plain_state(passes), example)


def _restarted(streams: Any, key: Array) -> Any:
    """A module's random streams with keys of their own, folded from one key."""
    leaves, structure = jax.tree.flatten(streams)
    fresh = [
        jnp.broadcast_to(jax.random.fold_in(key, number), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for number, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, fresh)


@functools.cache
def _masking(kind: Any) -> Any:
    """A subclass of a `BatchNorm` that leaves out the examples that only pad the batch."""

    class RealExamples(kind):
        def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
            real = _REAL.get()
            if mask is None and real is not None:
                mask = example_mask(x, real)
            return super().__call__(x, use_running_average, mask=mask)

    return RealExamples
