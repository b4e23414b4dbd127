"""Convolutions of one client after the other on a CPU: YNNPACK's, Eigen's, patches, `client_conv`.

    python benchmarks/convolutions.py --out benchmarks/results/convolutions.json

Milliseconds of a client: forward with ReLU, and the two gradients. All ways of a layer take turns.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import jax
from jax import Array, lax

from fljax.engine.loop import CPU_OPTIONS
from fljax.models import client_conv, patch_conv
from fljax.simulation.environment import environment

# Batch, height and width, channels, features, kernel, padding.
LAYERS = {
    "LeNet's first": (50, 32, 3, 6, 5, 0),
    "LeNet's second": (50, 14, 6, 16, 5, 0),
    "paper's CNN, first": (32, 28, 1, 30, 3, 0),
    "paper's CNN, second": (32, 12, 30, 50, 3, 0),
    "ResNet20's stage 1": (64, 32, 16, 16, 3, 1),
    "ResNet20's stage 2": (64, 16, 32, 32, 3, 1),
    "ResNet20's stage 3": (64, 8, 64, 64, 3, 1),
    "EMNIST's CNN, second": (10, 26, 32, 64, 3, 0),
}
WAYS = ("YNNPACK", "Eigen", "patches", "client_conv")


def plain_conv(x: Array, w: Array, strides: tuple[int, int], padding: list[tuple[int, int]]) -> Array:
    """The convolution as XLA has it."""
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def parts(layer: tuple[int, ...], way: str, clients: int) -> dict[str, tuple]:
    """Compiled forward pass and gradients of so many clients, and their arguments."""
    batch, size, channels, features, kernel, pad = layer
    conv = {"patches": patch_conv, "client_conv": client_conv}.get(way, plain_conv)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (clients, batch, size, size, channels))
    w = jax.random.normal(keys[1], (kernel, kernel, channels, features))

    def forward(x: Array, w: Array) -> Array:
        return conv(x, w, (1, 1), [(pad, pad)] * 2)

    g = jax.random.normal(keys[2], (clients, *jax.eval_shape(forward, x[0], w).shape))
    functions = {
        "forward": (lambda x, w: lax.map(lambda x: jax.nn.relu(forward(x, w)), x), (x, w)),
        "input": (
            lambda x, w, g: lax.map(lambda a: jax.vjp(lambda x: forward(x, w), a[0])[1](a[1])[0], (x, g)),
            (x, w, g),
        ),
        "kernel": (
            lambda x, w, g: lax.map(lambda a: jax.vjp(lambda w: forward(a[0], w), w)[1](a[1])[0], (x, g)),
            (x, w, g),
        ),
    }
    options = {} if way == "YNNPACK" else CPU_OPTIONS
    return {
        name: (jax.jit(function).lower(*given).compile(compiler_options=options), given)
        for name, (function, given) in functions.items()
    }


def main() -> None:
    """Time every layer in every way, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--layer", choices=LAYERS, action="append", help="one layer only; may be repeated")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.layer or LAYERS:
        compiled = {way: parts(LAYERS[name], way, given.clients) for way in WAYS}
        taken: dict[tuple[str, str], list[float]] = {}
        for repeat in range(given.repeats + 1):
            for way, functions in compiled.items():
                for part, (function, arguments) in functions.items():
                    begin = time.perf_counter()
                    jax.block_until_ready(function(*arguments))
                    if repeat:  # the first call warms up caches and page tables
                        taken.setdefault((way, part), []).append(time.perf_counter() - begin)
        row: dict = {"layer": name, "load": os.getloadavg()[0]}
        for (way, part), seconds in taken.items():
            row.setdefault(way, {})[part] = round(1e3 * statistics.median(seconds) / given.clients, 3)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if given.out:
            text = {"unit": "ms of a client", "environment": environment(), "rows": rows}
            given.out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
