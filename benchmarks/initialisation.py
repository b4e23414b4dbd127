"""What the initial model and the rate contribute to FLTrust's error on MNIST-0.5.

FLJAX_DATA=... python benchmarks/initialisation.py

The set-up of configs/paper/root_mnist_0.5.toml with a uniform root dataset and the server of the authors'
demo. Writes benchmarks/results/paper/initialisation_mnist_0.5.json.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from fljax import run
from fljax.config.loading import apply_overrides, read_toml
from fljax.config.schema import parse_config
from fljax.models import CNN, Model, as_model
from fljax.simulation.environment import environment

ROOT = Path(__file__).parents[1]
EVERY = 200
# Half the width of a weight's uniform distribution from the numbers of inputs and outputs, and of a bias's.
WIDTHS: dict[str, tuple[Callable[[float, float], float], Callable[[float], float]]] = {
    "Xavier, magnitude 2.24 (the demo, fljax)": (lambda i, o: math.sqrt(4.48 / (i + o)), lambda i: 0.0),
    "Glorot uniform": (lambda i, o: math.sqrt(6 / (i + o)), lambda i: 0.0),
    "He uniform": (lambda i, o: math.sqrt(6 / i), lambda i: 0.0),
    "PyTorch's default": (lambda i, o: 1 / math.sqrt(i), lambda i: 1 / math.sqrt(i)),
}


def cnn(name: str) -> Model:
    """The paper's CNN that starts from another distribution."""
    weight_width, bias_width = WIDTHS[name]
    model = as_model(CNN(10), (28, 28, 1))

    def init(key: jax.Array) -> dict:
        layers = model.init(key)
        made = {}
        for layer, key_of_layer in zip(sorted(layers), jax.random.split(key, len(layers)), strict=True):
            leaves, tree = jax.tree.flatten(layers[layer])
            bias, kernel = sorted(leaves, key=jnp.ndim)
            area = math.prod(kernel.shape[:-2])
            inputs, outputs = kernel.shape[-2] * area, kernel.shape[-1] * area
            widths = {kernel.ndim: weight_width(inputs, outputs), bias.ndim: bias_width(inputs)}
            keys = jax.random.split(key_of_layer, len(leaves))
            drawn = [
                widths[leaf.ndim] * jax.random.uniform(k, leaf.shape, minval=-1.0, maxval=1.0)
                for leaf, k in zip(leaves, keys, strict=True)
            ]
            made[layer] = jax.tree.unflatten(tree, drawn)
        return made

    return Model(init, model.apply)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    seeds = parser.parse_args().seeds
    values = read_toml(ROOT / "configs" / "paper" / "root_mnist_0.5.toml")
    del values["sweep"]
    fixed = {"root.bias": "uniform", "eval_every": EVERY}
    first = next(iter(WIDTHS))
    variants = [(name, {}) for name in WIDTHS] + [(first, {"local.learning_rate": 0.01})]
    found: list[dict] = []
    out = ROOT / "benchmarks" / "results" / "paper" / "initialisation_mnist_0.5.json"
    rounds = list(range(EVERY, int(values["rounds"]) + 1, EVERY))
    about = {"command": "python " + " ".join(sys.argv), "rounds": rounds, **environment(), "runs": found}
    for seed in seeds:
        for name, changed in variants:
            config = parse_config(apply_overrides(values, {**fixed, **changed, "seed": seed}))
            result = run(config, model=cnn(name))
            errors = [round(float(error), 4) for error in result.metrics["test_error"]]
            found.append({"initial model": name, **changed, "seed": seed, "test_error": errors})
            print(json.dumps(found[-1]), flush=True)
            out.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
