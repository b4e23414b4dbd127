"""A convolution that is fast inside loops and under a `vmap` over clients.

Two things make an ordinary convolution slow on a CPU. XLA brings convolutions into the form its fast routine
takes only outside of loops, and a round is a loop; here the convolution and its two gradients are written in
that form. And `vmap` over weights makes grouped convolutions of them; here those become matrix products over
patches.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from fljax.models.layers import check_plain, patch_conv

Pads = tuple[tuple[int, int], tuple[int, int]]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def client_conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """The convolution `flax.linen.Conv(conv_general_dilated=client_conv)` asks for.

    Where all clients share the weights, their batches are one; where each has its own, they are products over
    patches (`patch_conv`), and one client at a time is an ordinary convolution. The backward pass keeps no
    patches. Reverse-mode gradients only.

    Args:
        lhs: (batch, height, width, channels).
        rhs: (kernel height, kernel width, channels, features).
        window_strides: of the two spatial axes.
        padding: "VALID", "SAME" or pairs per spatial axis.
        **options: as for `jax.lax.conv_general_dilated`.

    Returns:
        (batch, height', width', features).

    Raises:
        ValueError: for dilation or feature groups, which it does not do.

    Example:
        >>> client_conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)), (1, 1), "VALID").shape
        (1, 2, 2, 5)
    """
    check_plain("client_conv", options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    strides = (window_strides[0], window_strides[1])
    pads = tuple((low, high) for low, high in padding)
    return _conv(lhs, rhs, strides, pads, options.get("precision"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x: Array, w: Array, strides: tuple[int, int], pads: Pads, precision: Any) -> Array:
    return _forward(strides, pads, precision)(x, w)


def _conv_forward(
    x: Array, w: Array, strides: tuple[int, int], pads: Pads, precision: Any
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, w, strides, pads, precision), (x, w)


def _conv_backward(
    strides: tuple[int, int], pads: Pads, precision: Any, kept: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, w = kept
    return (
        _input_gradient(strides, pads, precision, x.shape[1:3])(g, w),
        _kernel_gradient(strides, pads, precision, w.shape[:2])(x, g),
    )


_conv.defvjp(_conv_forward, _conv_backward)


def _over_clients(
    direct: Callable[[Array, Array], Array], patches: Callable[[Array, Array], Array], mergeable: bool
) -> Callable[[Array, Array], Array]:
    """`direct`, and under `vmap` whatever suits who has an axis of clients.

    Args:
        direct: the ordinary convolution.
        patches: the same as a matrix product, for several clients with two operands each.
        mergeable: whether clients that share the second operand can be one batch in the first.

    Returns:
        The function.
    """

    @custom_vmap
    def call(a: Array, b: Array) -> Array:
        return direct(a, b)

    @call.def_vmap
    def over_clients(size: int, batched: list[bool], a: Array, b: Array) -> tuple[Array, bool]:
        if size == 1:
            return call(a[0] if batched[0] else a, b[0] if batched[1] else b)[None], True
        if mergeable and not batched[1]:
            out = call(a.reshape(-1, *a.shape[2:]), b)
            return out.reshape(*a.shape[:2], *out.shape[1:]), True
        axes = tuple(0 if each else None for each in batched)
        return jax.vmap(patches, in_axes=axes)(a, b), True

    return call


@functools.cache
def _forward(strides: tuple[int, int], pads: Pads, precision: Any) -> Callable[[Array, Array], Array]:
    def direct(x: Array, w: Array) -> Array:
        return lax.conv_general_dilated(
            x, w, strides, pads, dimension_numbers=_DIMENSIONS, precision=precision
        )

    def patches(x: Array, w: Array) -> Array:
        return patch_conv(x, w, strides, pads, precision=precision)

    return _over_clients(direct, patches, mergeable=True)


@functools.cache
def _input_gradient(
    strides: tuple[int, int], pads: Pads, precision: Any, size: tuple[int, int]
) -> Callable[[Array, Array], Array]:
    def direct(g: Array, w: Array) -> Array:
        around = []
        for axis in range(2):
            low = w.shape[axis] - 1 - pads[axis][0]
            spread = (g.shape[1 + axis] - 1) * strides[axis] + 1
            around.append((low, size[axis] - spread - low + w.shape[axis] - 1))
        return lax.conv_general_dilated(
            g,
            jnp.flip(w, (0, 1)).swapaxes(2, 3),
            (1, 1),
            around,
            lhs_dilation=strides,
            dimension_numbers=_DIMENSIONS,
            precision=precision,
        )

    def patches(g: Array, w: Array) -> Array:
        x = jax.ShapeDtypeStruct((g.shape[0], *size, w.shape[2]), g.dtype)
        (dx,) = jax.linear_transpose(lambda x: patch_conv(x, w, strides, pads, precision=precision), x)(g)
        return dx

    return _over_clients(direct, patches, mergeable=True)


@functools.cache
def _kernel_gradient(
    strides: tuple[int, int], pads: Pads, precision: Any, size: tuple[int, int]
) -> Callable[[Array, Array], Array]:
    def direct(x: Array, g: Array) -> Array:
        # Channels take the place of the batch, the batch that of the channels.
        around = []
        for axis in range(2):
            low = pads[axis][0]
            spread = (g.shape[1 + axis] - 1) * strides[axis] + 1
            around.append((low, size[axis] - 1 - x.shape[1 + axis] - low + spread))
        dw = lax.conv_general_dilated(
            x.transpose(3, 1, 2, 0),
            g.transpose(1, 2, 0, 3),
            (1, 1),
            around,
            rhs_dilation=strides,
            dimension_numbers=_DIMENSIONS,
            precision=precision,
        )
        return dw.transpose(1, 2, 0, 3)

    def patches(x: Array, g: Array) -> Array:
        w = jax.ShapeDtypeStruct((*size, x.shape[3], g.shape[3]), g.dtype)
        (dw,) = jax.linear_transpose(lambda w: patch_conv(x, w, strides, pads, precision=precision), w)(g)
        return dw

    return _over_clients(direct, patches, mergeable=False)
