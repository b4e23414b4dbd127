"""Ranks of every coordinate on a GPU: one kernel that reads the matrix once and bisects in registers.

A thread holds up to `HELD` entries of a column and counts those below a threshold, bit after bit of a float;
for more rows, neighbouring threads share a column and add up what they counted. XLA's own kernels read the
matrix for every two bits, or cut a sorting network into many (benchmarks/README.md, "An accelerator").
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.blocks import as_tree
from fljax.numerics.sharding import column_devices

# Entries of a column in a thread's registers at most: 128 are hardly faster and take two to three times as
# long to compile.
HELD = 64
# Threads of a block.
THREADS = 256
# Above this many rows a block has fewer than eight columns, too few to be read at once.
MOST_ROWS = HELD * THREADS // 8


def kernel_selects(n: int, dtype: jnp.dtype) -> bool:
    """True if `select_ranks_in_registers` is the way for n rows: on a GPU that has all of their columns."""
    fits = dtype == jnp.float32 and n <= MOST_ROWS
    return fits and jax.default_backend() == "gpu" and column_devices() == 1


def _ordered(bits: Array) -> Array:
    """The bits of float32 numbers as int32 that are in their order, and back."""
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def select_ranks_in_registers(
    updates: Array,
    ranks: Array,
    *,
    held: int = HELD,
    threads: int = THREADS,
    interpret: bool = False,
) -> tuple[Array, ...]:
    """The exact rank-th smallest entry of every coordinate, as `select_ranks`, by one kernel on a GPU.

    Args:
        updates: (n, d) float32.
        ranks: (k,) int32, counted from 0; may be traced.
        held: entries of a column in a thread, at most.
        threads: of a block, a power of two.
        interpret: run the kernel's steps as ordinary operations, on any device.

    Returns:
        One (d,) array per rank; NaN counts as +inf.

    Example:
        >>> column, ranks = jnp.array([[5.0], [1.0], [3.0]]), jnp.array([0, 1])
        >>> [value.tolist() for value in select_ranks_in_registers(column, ranks, interpret=True)]
        [[1.0], [3.0]]
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    n, d = updates.shape
    # Threads that share a column, and columns of a block: powers of two, as Triton wants them.
    sharing = 1 << max(0, (-(-n // held) - 1).bit_length())
    columns = threads // sharing
    count = -(-n // sharing)

    def kernel(wanted: Any, source: Any, *results: Any) -> None:
        at = pl.program_id(0) * columns + jnp.arange(columns)
        inside = at < d
        part = jnp.arange(sharing)[:, None]

        def loaded(number: int) -> Array:
            row = part + number * sharing
            there = (row < n) & inside[None]
            place = jnp.minimum(row, n - 1), jnp.minimum(at, d - 1)[None]
            values = triton.load(source.at[place], mask=there, other=jnp.inf)
            values = jnp.where(values != values, jnp.inf, values)
            return jnp.where(there, _ordered(lax.bitcast_convert_type(values, jnp.int32)), 2**31 - 1)

        keys = [loaded(number) for number in range(count)]

        def narrow(i: Array, lows: tuple[Array, ...]) -> tuple[Array, ...]:
            moved = []
            for number, low in enumerate(lows):
                tried = low + (jnp.int32(1) << (31 - i))
                lower = as_tree(jnp.add, [(key < tried[None]).astype(jnp.int32) for key in keys])
                below = jnp.sum(lower, axis=0)
                moved.append(jnp.where(below <= wanted[number], tried, low))
            return tuple(moved)

        start = tuple(jnp.full((columns,), -(2**31), jnp.int32) for _ in range(len(ranks)))
        found = lax.fori_loop(0, 32, narrow, start)
        for result, key in zip(results, found, strict=True):
            value = lax.bitcast_convert_type(_ordered(key), jnp.float32)
            triton.store(result.at[at], value, mask=inside)

    how: dict[str, Any] = {"interpret": True}
    if not interpret:
        how = {"compiler_params": triton.CompilerParams(num_warps=threads // 32, num_stages=1)}
    call = pl.pallas_call(
        kernel,
        out_shape=[jax.ShapeDtypeStruct((d,), jnp.float32) for _ in range(len(ranks))],
        grid=(-(-d // columns),),
        **how,
    )
    return tuple(call(ranks, updates))
