"""The last layer of a model of any library, found in the trace of its forward pass."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from fljax.base import Head, Lacking, Params

# Operations whose program is a part of the forward pass, and those that only move numbers.
_CALLS = {"jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}
_MOVES = {"reshape", "squeeze", "convert_element_type", "transpose", "copy", "copy_p", "broadcast_in_dim"}


class _Scope(NamedTuple):
    """A program within the forward pass, and where its arguments come from."""

    jaxpr: Any
    arguments: Sequence["_Place"] | None = None


class _Place(NamedTuple):
    scope: _Scope
    var: Any


def _maker(place: _Place) -> tuple[_Scope, Any]:
    """The operation that makes a value, or the number of the argument of the whole that it is; or None."""
    while True:
        scope, var = place
        if isinstance(var, Literal):
            return scope, None
        inputs = list(scope.jaxpr.invars)
        if var in inputs:
            number = inputs.index(var)
            if scope.arguments is None:
                return scope, number
            place = scope.arguments[number]
            continue
        made = (each for each in scope.jaxpr.eqns if var in each.outvars)
        operation = next(made, None)
        if operation is None or operation.primitive.name not in _CALLS:
            return scope, operation
        inner = next(value for value in operation.params.values() if hasattr(value, "eqns"))
        inner = getattr(inner, "jaxpr", inner)
        arguments = [_Place(scope, each) for each in operation.invars]
        place = _Place(_Scope(inner, arguments), inner.outvars[operation.outvars.index(var)])


def _argument(place: _Place) -> tuple[int | None, bool]:
    """The number of the argument that a value is, perhaps moved about, and whether it is transposed."""
    transposed = False
    while True:
        scope, made = _maker(place)
        if made is None or isinstance(made, int):
            return made, transposed
        if made.primitive.name not in _MOVES:
            return None, transposed
        if made.primitive.name == "transpose":
            transposed ^= tuple(made.params["permutation"]) == (1, 0)
        place = _Place(scope, made.invars[0])


def find_head(apply: Callable[..., Array], params: Params, x: Any, *state: Any) -> Head | Lacking:
    """The last layer of a model, if that is a dense one that gives the outputs as they are.

    Args:
        apply: `apply(params, x, *state) -> outputs`, (b, ..., M).
        params: shapes of the parameters.
        x: of the inputs (b, ...).
        state: of the model's state.

    Returns:
        Its place among the raveled parameters, or why there is none.

    Example:
        >>> shapes = jax.eval_shape(lambda: {"b": jnp.zeros(2), "k": jnp.zeros((3, 2))})
        >>> find_head(lambda params, x: x @ params["k"] + params["b"], shapes, jnp.ones((1, 3)))
        Head(kernel=2, num_features=3, num_classes=2, bias=0, transposed=False)
    """
    lacking = Lacking("the model's last layer is not a dense one whose outputs are the model's")
    closed, outputs = jax.make_jaxpr(apply, return_shape=True)(params, x, *state)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    starts = [0, *accumulate(math.prod(shape) for shape in shapes)]
    num_classes = outputs.shape[-1]
    place, bias = _Place(_Scope(closed.jaxpr), closed.jaxpr.outvars[0]), None
    while True:
        scope, made = _maker(place)
        name = getattr(getattr(made, "primitive", None), "name", "")
        operands = [_Place(scope, var) for var in made.invars] if name else []
        if name in _MOVES:
            place = operands[0]
        elif name in ("add", "add_any") and bias is None:
            found = [_argument(each)[0] for each in operands]
            is_bias = [n is not None and n < len(shapes) and shapes[n] == (num_classes,) for n in found]
            if sum(is_bias) != 1:
                return lacking
            bias, place = found[is_bias.index(True)], operands[is_bias.index(False)]
        elif name == "dot_general":
            contracted = made.params["dimension_numbers"][0]
            for operand, axes in zip(operands, contracted, strict=True):
                number, transposed = _argument(operand)
                if number is None or number >= len(shapes) or len(axes) != 1 or len(shapes[number]) != 2:
                    continue
                # The axis of the leaf itself that is summed over.
                inputs = (axes[0] + transposed) % 2
                if shapes[number][1 - inputs] == num_classes:
                    return Head(
                        kernel=starts[number],
                        num_features=shapes[number][inputs],
                        num_classes=num_classes,
                        bias=None if bias is None else starts[bias],
                        transposed=inputs == 1,
                    )
            return lacking
        else:
            return lacking


def inputs_of_head(apply: Callable[..., Array], params: Params, head: Head, x: Array, *state: Any) -> Array:
    """What a model's last layer takes in, (b, h), read from outputs with the identity in its place.

    The layers before it are computed once: with M outputs there are ⌈h / M⌉ last layers that each hand out
    M of the features.

    Args:
        apply: `apply(params, x, *state) -> outputs`.
        params: of the model.
        head: its last layer.
        x: (b, ...).
        state: the model's.
    """
    leaves, structure = jax.tree.flatten(params)
    starts = [0, *accumulate(leaf.size for leaf in leaves)]
    kernel = starts.index(head.kernel)
    if head.bias is not None:
        bias = starts.index(head.bias)
        leaves[bias] = jnp.zeros_like(leaves[bias])
    h, num_classes = head.num_features, head.num_classes
    blocks = -(-h // num_classes)
    identity = jnp.eye(h, blocks * num_classes, dtype=leaves[kernel].dtype)
    layers = jnp.moveaxis(identity.reshape(h, blocks, num_classes), 1, 0)
    if head.transposed:
        layers = jnp.swapaxes(layers, 1, 2)

    def outputs(layer: Array) -> Array:
        others = [*leaves[:kernel], layer, *leaves[kernel + 1 :]]
        return apply(jax.tree.unflatten(structure, others), x, *state)

    # (blocks, b, ..., M) to (b, ..., blocks · M), of which the last ones are zero.
    parts = jnp.moveaxis(jax.vmap(outputs)(layers), 0, -2)
    return parts.reshape(*parts.shape[:-2], blocks * num_classes)[..., :h].reshape(x.shape[0], -1)
