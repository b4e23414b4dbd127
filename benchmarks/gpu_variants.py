"""What was tried for a GPU: order statistics as kernels of our own, and other forms of a CNN's gradients.

    python benchmarks/gpu_variants.py --budget 200 --out variants.jsonl

Parts, until the budget is spent: `order` (ranks and sums of every coordinate in several ways), `gradients`
(pooling, bias and kernel gradients of the paper's CNN, 100 clients × 32), `layers` (a user's plain network,
as it is and as `for_clients` has it). A row is written as soon as it is there. `--small` tries all on a CPU.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

import fljax
from fljax.config.schema import parse_config
from fljax.models import as_model, conv, for_clients
from fljax.models.layers import max_pool_2x2
from fljax.numerics.order_statistics import LARGEST_NETWORK, ranked, sorted_rows, sorting_network, sum_rows
from fljax.numerics.rank_kernel import select_ranks_in_registers
from fljax.simulation.environment import environment

Row = dict[str, Any]
Found = tuple[Array, Array, Array]


def seconds(call: Callable[..., Any], *args: Any, repeats: int = 10) -> tuple[float, float]:
    """Of a call that is waited for, the median; and of one of many under way."""
    jax.block_until_ready(call(*args))
    waited = []
    while len(waited) < repeats and sum(waited) < 2.0:
        begin = time.perf_counter()
        jax.block_until_ready(call(*args))
        waited.append(time.perf_counter() - begin)
    many = max(1, min(50, int(0.1 / min(waited))))
    begin = time.perf_counter()
    jax.block_until_ready([call(*args) for _ in range(many)][-1])
    return statistics.median(waited), (time.perf_counter() - begin) / many


# --- order statistics ----------------------------------------------------------------------------------


def network(x: Array, first: int, end: int, columns: int, warps: int, interpret: bool) -> Found:
    """The sorting network of one column in the registers of one thread: (first, last, sum) of some ranks."""
    n, d = x.shape

    def of_block(source: Any, *results: Any) -> None:
        at = pl.program_id(0) * columns + jnp.arange(columns)
        inside = at < d
        rows = [triton.load(source.at[jnp.int32(i), at], mask=inside, other=0.0) for i in range(n)]
        rows = [jnp.where(row != row, jnp.inf, row) for row in rows]
        for i, j in sorting_network(n):
            rows[i], rows[j] = jnp.minimum(rows[i], rows[j]), jnp.maximum(rows[i], rows[j])
        found = rows[first], rows[end - 1], sum_rows(rows[first:end])
        for result, value in zip(results, found, strict=True):
            triton.store(result.at[at], value, mask=inside)

    how = {"interpret": True} if interpret else {"compiler_params": triton.CompilerParams(warps, 1)}
    shapes = [jax.ShapeDtypeStruct((d,), x.dtype)] * 3
    return pl.pallas_call(of_block, out_shape=shapes, grid=(-(-d // columns),), **how)(x)


def order(small: bool) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Sum of the middle values of every coordinate."""
    for n, d in [(12, 1000)] if small else [(100, 139_960), (100, 1_000_000), (1000, 1_000_000)]:
        x = jax.random.normal(jax.random.key(n), (n, d))
        first, end = n // 5, n - n // 5
        ranks = jnp.array([first, end - 1])
        ways: dict[str, Callable[[Array], Any]] = {
            "read": lambda x: (jnp.sum(x, axis=0),),
            **{
                f"ranks in registers, {held} a thread": functools.partial(
                    select_ranks_in_registers, ranks=ranks, held=held, interpret=small
                )
                for held in (32, 64, 128)
            },
            "as the library": lambda x, first=first, end=end: ranked(x, first, end, sorted_rows(x)),
        }
        if n <= LARGEST_NETWORK:
            ways |= {
                "sorted, axis 0": lambda x, first=first, end=end: (jnp.sort(x, axis=0)[first:end].sum(0),),
                **{
                    f"network kernel, {c} columns, {w} warps": functools.partial(
                        network, first=first, end=end, columns=c, warps=w, interpret=small
                    )
                    for c, w in ((128, 4), (256, 8))
                },
            }
        for name, way in ways.items():

            def measured(way: Callable[[Array], Any] = way, x: Array = x) -> Row:
                begin = time.perf_counter()
                call = jax.jit(way).lower(x).compile()
                compiled = time.perf_counter() - begin
                waited, under_way = seconds(call, x)
                return {
                    "ms": 1e3 * waited,
                    "ms_of_many": 1e3 * under_way,
                    "gb_per_s": x.nbytes / under_way / 1e9,
                    "seconds_compile": compiled,
                }

            yield {"n": n, "d": d, "way": name}, measured


# --- gradients -----------------------------------------------------------------------------------------


def halves(x: Array) -> Array:
    """(b, h, w, c) as (b, h / 2, 2, w / 2, 2, c)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


@jax.custom_vjp
def pooled(x: Array) -> Array:
    """2 × 2 pooling whose gradient is one elementwise operation."""
    return jnp.max(halves(x), axis=(2, 4))


def _shares(x: Array, axis: int) -> Array:
    other = jnp.flip(x, axis)
    return jnp.where(x > other, 1.0, jnp.where(x == other, 0.5, 0.0))


def _pooled_backward(x: Array, g: Array) -> tuple[Array]:
    pairs = halves(x)
    columns = _shares(jnp.max(pairs, axis=2), 3)[:, :, None]
    return ((g[:, :, None, :, None, :] * columns * _shares(pairs, 2)).reshape(x.shape),)


pooled.defvjp(lambda x: (pooled(x), x), _pooled_backward)


@jax.custom_vjp
def biased(y: Array, b: Array) -> Array:
    """A bias whose gradient is a product."""
    return y + b


def _biased_backward(_: None, g: Array) -> tuple[Array, Array]:
    flat = g.reshape(-1, g.shape[-1])
    return g, jnp.ones(len(flat), g.dtype) @ flat


biased.defvjp(lambda y, b: (y + b, None), _biased_backward)


def _windows(x: Array, size: Sequence[int], strides: Sequence[int], out: Sequence[int]) -> list[Array]:
    ends = [(length - 1) * stride + 1 for length, stride in zip(out, strides, strict=True)]
    return [
        x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(size[0])
        for j in range(size[1])
    ]


def kernel_gradient(stacked: bool) -> Callable[..., Any]:
    """Instead of patches one product for every place of the kernel, or one of all places side by side."""
    theirs = PATCHES

    @functools.cache
    def made(strides: Any, pads: Any, precision: Any, size: Any) -> Callable[[Array, Array], Array]:
        def products(x: Array, g: Array) -> Array:
            features = g.shape[-1]
            windows = _windows(jnp.pad(x, ((0, 0), *pads, (0, 0))), size, strides, g.shape[1:3])
            if stacked:
                found = jnp.einsum("kbhwc,bhwf->kcf", jnp.stack(windows), g, precision=precision)
            else:
                flat = g.reshape(-1, features)
                columns = [window.reshape(-1, x.shape[3]).T for window in windows]
                found = jnp.stack([jnp.matmul(each, flat, precision=precision) for each in columns])
            return found.reshape(*size, x.shape[3], features)

        @custom_vmap
        def call(x: Array, g: Array) -> Array:
            return theirs(strides, pads, precision, size)(x, g)

        @call.def_vmap
        def over_clients(count: int, batched: list[bool], x: Array, g: Array) -> tuple[Array, bool]:
            return jax.vmap(products, [0 if each else None for each in batched])(x, g), True

        return call

    return made


PATCHES = conv._kernel_gradient
KERNELS = {"patches": PATCHES, "products": kernel_gradient(False), "stacked": kernel_gradient(True)}


def gradients(small: bool) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """A round of the paper's CNN without batches, attack and rule."""
    n, b = (4, 4) if small else (100, 32)
    shapes = [(3, 3, 1, 30), (30,), (3, 3, 30, 50), (50,), (1250, 100), (100,), (100, 10), (10,)]
    keys = jax.random.split(jax.random.key(0), len(shapes) + 2)
    params = [0.1 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=False)]
    x = jax.random.uniform(keys[-1], (n, b, 28, 28, 1))
    y = jax.random.randint(keys[-2], (n, b), 0, 10)
    for names in (
        *(("strided", "sum", "patches"), ("elementwise", "product", "products")),
        *(("elementwise", "sum", "products"), ("elementwise", "product", "stacked")),
        *(("strided", "sum", "stacked"), ("elementwise", "sum", "patches")),
        *(("strided", "product", "patches"), ("strided", "sum", "products")),
    ):
        pool = {"strided": max_pool_2x2, "elementwise": pooled}[names[0]]
        add = {"sum": jnp.add, "product": biased}[names[1]]

        def loss(params: list[Array], x: Array, y: Array, pool: Any = pool, add: Any = add) -> Array:
            for i in (0, 2):
                side = (x.shape[1] - 2) // 2 * 2 + 2
                x = conv.client_conv(x[:, :side, :side], params[i], (1, 1), "VALID")
                x = nn.relu(pool(add(x, params[i + 1])))
            x = nn.relu(x.reshape(len(x), -1) @ params[4] + params[5]) @ params[6] + params[7]
            return -jnp.mean(jnp.take_along_axis(nn.log_softmax(x), y[:, None], 1))

        def step(params: list[Array], _: None, loss: Any = loss) -> tuple[list[Array], None]:
            rows = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, y)
            stack = jnp.concatenate([leaf.reshape(n, -1) for leaf in rows], axis=1)
            mean, at = jnp.mean(stack, axis=0), 0
            new = []
            for leaf in params:
                new.append(leaf - 0.01 * mean[at : at + leaf.size].reshape(leaf.shape))
                at += leaf.size
            return new, None

        def measured(step: Any = step, kernel: str = names[2]) -> Row:
            conv._kernel_gradient = KERNELS[kernel]
            try:
                return of_rounds(lambda params: lax.scan(step, params, length=10)[0], params, 10)
            finally:
                conv._kernel_gradient = PATCHES

        yield {"pooling": names[0], "bias": names[1], "kernel": names[2]}, measured


def of_rounds(call: Callable[[Any], Any], state: Any, rounds: int) -> Row:
    """Compiled, and timed."""
    begin = time.perf_counter()
    run = jax.jit(call).lower(state).compile()
    compiled = time.perf_counter() - begin
    memory = run.memory_analysis()
    return {
        "ms": 1e3 * seconds(run, state, repeats=3)[0] / rounds,
        "seconds_compile": compiled,
        "temporary_mb": memory.temp_size_in_bytes / 2**20,
    }


class Plain(nn.Module):
    """A network as its user writes it."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Images to logits."""
        for features in (30, 50):
            x = nn.relu(nn.max_pool(nn.Conv(features, (3, 3), padding="VALID")(x), (2, 2), (2, 2)))
        return nn.Dense(10)(nn.relu(nn.Dense(100)(x.reshape(len(x), -1))))


def layers(small: bool) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Whole rounds of FedAvg."""
    n, many = (4, 400) if small else (100, 8000)
    random = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "images.npz"
    images = {f"{part}_x": random.random((many, 28, 28, 1), np.float32) for part in ("train", "test")}
    labels = {f"{part}_y": random.integers(0, 10, many).astype(np.int32) for part in ("train", "test")}
    np.savez(path, **images, **labels)
    for steps in (1, 5):
        values = {
            "num_clients": n,
            "local": {"steps": steps},
            "aggregator": {"name": "mean"},
            "data": {"name": "npz", "file": str(path)},
        }
        for name, wrap in (("as it is", lambda model: model), ("for_clients", for_clients)):

            def measured(values: Any = values, wrap: Any = wrap) -> Row:
                step, state = fljax.build(parse_config(values), model=wrap(as_model(Plain(), (28, 28, 1))))
                return of_rounds(lambda state: lax.scan(step, state, length=5)[0], state, 5)

            yield {"steps": steps, "network": name}, measured


def main() -> None:
    """Measure the parts one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="gradients,layers,order", help="which, and in which order")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds")
    parser.add_argument("--out", type=Path, default=Path("variants.jsonl"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    args = parser.parse_args()
    end = time.monotonic() + args.budget
    parts = {"order": order, "gradients": gradients, "layers": layers}
    with args.out.open("w") as file:
        file.write(json.dumps(environment()) + "\n")
        for part in args.parts.split(","):
            for told, measured in parts[part](args.small):
                if time.monotonic() > end:
                    return
                try:
                    row = {"part": part, **told, **measured()}
                except Exception as error:  # a way that this device does not know
                    row = {"part": part, **told, "reason": f"{type(error).__name__}: {error}"[:300]}
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
