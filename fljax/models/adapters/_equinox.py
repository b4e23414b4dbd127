"""An equinox module as a `Model`; imported only where one is given."""

import dataclasses
import inspect
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Model, Params
from fljax.models.adapters.finish import Passes, finish, with_plain_state
from fljax.models.adapters.padding import at_least_one, deviation


def from_equinox(module: eqx.Module, state: eqx.nn.State | None, example: Array) -> Model:
    """A `Model` from an equinox module, whose current floating-point arrays are the initial model.

    The module is called with one example, as equinox has it, and `vmap`ped over the batch. It trains as after
    `eqx.nn.inference_mode(module, False)` and is evaluated as after `eqx.nn.inference_mode(module)`. An
    argument `key` of its call gets a key for every example in training, None in evaluation. In training every
    `BatchNorm` normalises with the statistics of the real examples of its batch.

    Args:
        module: `module(x)`, or with state `module(x, state) -> (logits, state)`.
        state: what `eqx.nn.make_with_state` returned beside the module; None for a module without.
        example: (1, *input_shape).

    Returns:
        The `Model`; `eqx.combine(params, module)` is a module again.

    Raises:
        ValueError: if the module has state that is not given, or batch statistics over several axes.
    """
    nodes = jax.tree.leaves(module, is_leaf=_is_stateful)
    if state is None and any(_is_stateful(node) for node in nodes):
        raise ValueError(
            f"model {type(module).__name__}: it has state, so give the pair (module, state) that "
            "eqx.nn.make_with_state returns"
        )
    axes = {axis for node in nodes if isinstance(node, eqx.nn.BatchNorm) for axis in _axes(node)}
    if len(axes) > 1:
        raise ValueError(
            f"model {type(module).__name__}: its BatchNorm layers must share one axis_name, got "
            f"{', '.join(sorted(map(str, axes)))}"
        )
    axis = next(iter(axes), "batch")
    takes_key = "key" in inspect.signature(type(module).__call__).parameters
    params, _ = eqx.partition(module, eqx.is_inexact_array)
    rest = {
        trains: eqx.partition(eqx.nn.inference_mode(module, not trains), eqx.is_inexact_array)[1]
        for trains in (False, True)
    }

    def forward(trains: bool, params: Params, x: Array, state: Any, real: Any, key: Any) -> tuple[Array, Any]:
        merged = eqx.combine(params, rest[trains])

        def one(x: Array, real: Any, key: Any) -> tuple[Array, Any]:
            layers: Any = merged
            if real is not None:
                layers = jax.tree.map(lambda node: _masked(node, real), merged, is_leaf=_is_norm)
            given = {"key": key} if takes_key else {}
            if not jax.tree.leaves(state):
                return layers(x, **given), ()
            # A copy, as setting a state spoils the object.
            logits, after = layers(x, jax.tree.map(lambda leaf: leaf, state), **given)
            return logits, after

        keys = None if key is None else jax.random.split(key, len(x))
        out: tuple[Array, Any] = jax.vmap(one, out_axes=(0, None), axis_name=axis)(x, real, keys)
        return out

    def evaluate(params: Params, x: Array, state: Any) -> Array:
        return forward(False, params, x, state, None, None)[0]

    def train(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        return forward(True, params, x, state, at_least_one(real) if axes else None, key)

    passes = Passes(
        lambda key: jax.tree.map(jnp.array, params),
        evaluate,
        train,
        None if state is None else lambda key: jax.tree.map(jnp.array, state),
    )
    return finish(with_plain_state(passes), example)


def _is_norm(node: Any) -> bool:
    return isinstance(node, eqx.nn.BatchNorm)


def _is_stateful(node: Any) -> bool:
    return isinstance(node, (eqx.nn.BatchNorm, eqx.nn.StateIndex))


def _axes(norm: eqx.nn.BatchNorm) -> tuple[Any, ...]:
    """The names of the axes over which a layer computes its statistics."""
    names: Any = norm.axis_name
    return tuple(names) if isinstance(names, (tuple, list)) else (names,)


class _RealExamples(eqx.nn.BatchNorm):
    """A `BatchNorm` that leaves out the examples that only pad the batch.

    It hands its parent padding that is the mean, and two more values for every channel and example, so far
    from the mean that the statistics of all are those of the real examples.
    """

    real: Any = None

    def __call__(self, x: Array, state: Any, *, key: Any = None, inference: bool | None = None) -> Any:
        if self.inference if inference is None else inference:
            return super().__call__(x, state, inference=True)
        flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        pixels, batch = flat.shape[1], lax.psum(1, self.axis_name)
        count = lax.psum(self.real.astype(x.dtype), self.axis_name)

        def mean_over_real(values: Array) -> Array:
            own = jnp.where(self.real, jnp.mean(values, axis=1, keepdims=True), 0.0)
            return lax.psum(own, self.axis_name) / count

        mean = mean_over_real(flat)
        variance = mean_over_real(jnp.square(flat - mean))
        away = deviation(variance) * jnp.sqrt((batch * (pixels + 2) - count * pixels) / (2 * batch))
        filled = jnp.concatenate([jnp.where(self.real, flat, mean), mean - away, mean + away], axis=1)
        out, state = super().__call__(filled, state, inference=False)
        return out[:, :pixels].reshape(x.shape), state


def _masked(node: Any, real: Array) -> Any:
    """A `BatchNorm` with the flag of this example; anything else as it is."""
    if not _is_norm(node):
        return node
    masked = object.__new__(_RealExamples)
    for field in dataclasses.fields(node):
        object.__setattr__(masked, field.name, getattr(node, field.name))
    object.__setattr__(masked, "real", real)
    return masked
