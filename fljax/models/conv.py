"""A convolution that is fast inside loops and under a `vmap` over clients.

Two things make an ordinary convolution slow on a CPU. XLA brings convolutions into the form its fast routine
takes only outside of loops, and a round is a loop; here the convolution and its two gradients are written in
that form. And `vmap` over weights makes grouped convolutions of them; here those become matrix products over
patches.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

Pads = tuple[tuple[int, int], tuple[int, int]]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Up to so many channels or features, neighbouring outputs are computed together (benchmarks/README.md).
_FEW = 8


def check_plain(name: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError for what the convolution `name` does not do: dilation and feature groups."""
    dilations = [*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())]
    if any(d != 1 for d in dilations) or options.get("feature_group_count", 1) != 1:
        raise ValueError(f"{name}: dilation and feature groups are not supported; use the default lowering")


def patch_conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """Convolution as one matrix product over image patches.

    With per-client weights `vmap` turns an ordinary convolution into a grouped one, which takes seconds
    instead of half a second a round on a CPU (benchmarks/README.md). A matrix product stays one. Give it to
    `flax.linen.Conv(conv_general_dilated=patch_conv)`; the parameters keep their shapes.

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
        >>> patch_conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)), (1, 1), "VALID").shape
        (1, 2, 2, 5)
    """
    check_plain("patch_conv", options)
    kernel_height, kernel_width, channels, features = rhs.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    if any(low or high for low, high in padding):
        lhs = jnp.pad(lhs, ((0, 0), *padding, (0, 0)))
    down, right = window_strides
    height = (lhs.shape[1] - kernel_height) // down + 1
    width = (lhs.shape[2] - kernel_width) // right + 1
    patches = [
        lhs[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]
        for i in range(kernel_height)
        for j in range(kernel_width)
    ]
    flat = rhs.reshape(kernel_height * kernel_width * channels, features)
    return jnp.matmul(jnp.concatenate(patches, axis=-1), flat, precision=options.get("precision"))


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
    # What is the default now is not where the backward pass is traced.
    precision = options.get("precision") or jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return _conv(lhs, rhs, strides, pads, precision)


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


def _image_conv(
    x: Array, w: Array, strides: tuple[int, int], pads: Sequence[tuple[int, int]], precision: Any
) -> Array:
    """The ordinary convolution; on a CPU with few channels four neighbouring outputs at once.

    They are features of a convolution with stride 2, whose kernel is the kernel at four places of a window
    that is one larger: ((k + 1) / k)² times the arithmetic in matrix products that are four times as wide.
    """

    def convolved(w: Array, strides: tuple[int, int], pads: Sequence[tuple[int, int]]) -> Array:
        return lax.conv_general_dilated(
            x, w, strides, pads, dimension_numbers=_DIMENSIONS, precision=precision
        )

    *window, channels, features = w.shape
    few = min(channels, features) <= _FEW and max(window) > 1
    if not (few and strides == (1, 1) and jax.default_backend() == "cpu"):
        return convolved(w, strides, pads)
    height, width = (
        size + low + high - length + 1
        for size, (low, high), length in zip(x.shape[1:3], pads, window, strict=True)
    )
    at = [jnp.pad(w, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]
    (top, bottom), (left, right) = pads
    even = (top, bottom + height % 2), (left, right + width % 2)
    out = convolved(jnp.concatenate(at, axis=-1), (2, 2), even)
    out = out.reshape(*out.shape[:3], 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    images, rows, _, columns, _, _ = out.shape
    return out.reshape(images, 2 * rows, 2 * columns, features)[:, :height, :width]


@functools.cache
def _forward(strides: tuple[int, int], pads: Pads, precision: Any) -> Callable[[Array, Array], Array]:
    def direct(x: Array, w: Array) -> Array:
        return _image_conv(x, w, strides, pads, precision)

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
        turned = jnp.flip(w, (0, 1)).swapaxes(2, 3)
        if strides == (1, 1):
            return _image_conv(g, turned, strides, around, precision)
        return lax.conv_general_dilated(
            g,
            turned,
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
