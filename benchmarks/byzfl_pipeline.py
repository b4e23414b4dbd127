"""ByzFL's own pipeline and fljax on the same task: best test accuracy over the evaluations, seed by seed.

FLJAX_DATA=... python benchmarks/byzfl_pipeline.py --out benchmarks/results/byzfl_pipeline.json

A part of MNIST, ByzFL's perceptron with PyTorch's initialisation, worker momentum 0.9, batches of 25, rate
0.1, NNM and the trimmed mean; 15 clients without attack, and 12 with 3 attackers.
ByzFL's attackers hold no data, those of fljax do: its data set is larger by their share, so that honest
clients have as many examples. Needs `pip install "fljax[bench]"`. A run of one is followed by the same run of
the other.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fljax import run
from fljax.config.schema import parse_config
from fljax.data import Dataset, load
from fljax.models import Model
from fljax.simulation.environment import environment

CLIENTS, BATCH, RATE, MOMENTUM = 15, 25, 0.1, 0.9
HONEST, TEST = 24_000, 2_500  # examples that honest clients hold together, and that the model is tested on
MEAN, DEVIATION = 0.1307, 0.3081  # of a pixel, as ByzFL normalises
# Attackers, fljax's attack, ByzFL's. Optimised ALIE takes ByzFL some minutes a seed.
CASES: dict[str, tuple[int, dict, str]] = {
    "no attack": (0, {"name": "none"}, "NoAttack"),
    "sign flip of the mean": (3, {"name": "sign_flip", "of": "mean", "fraction": 0.2}, "SignFlipping"),
    "optimised ALIE": (3, {"name": "optimized_alie", "fraction": 0.2}, "Optimal_ALittleIsEnough"),
}
PARTITIONS = {
    "iid": ({"name": "iid"}, {"name": "iid", "distribution_parameter": 1.0}),
    "dirichlet 1.0": (
        {"name": "dirichlet", "alpha": 1.0},
        {"name": "dirichlet_niid", "distribution_parameter": 1.0},
    ),
}


def torch_folder(folder: Path, mnist: Dataset) -> None:
    """The first examples as the files that torchvision looks for."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    parts = {
        "train": (mnist.train_x[:HONEST], mnist.train_y[:HONEST]),
        "t10k": (mnist.test_x[:TEST], mnist.test_y[:TEST]),
    }
    for part, (x, y) in parts.items():
        for kind, values in (
            ("images-idx3", np.rint(x[..., 0] * 255).astype(np.uint8)),
            ("labels-idx1", y.astype(np.uint8)),
        ):
            # Two zeros, 8 for bytes, the number of axes and their lengths: the IDX format.
            head = np.array([0x800 + values.ndim, *values.shape], ">i4")
            (raw / f"{part}-{kind}-ubyte").write_bytes(head.tobytes() + values.tobytes())


def byzfl_best(
    folder: Path, partition: dict, case: str, seed: int, rounds: int, every: int
) -> tuple[float, float]:
    """Best test accuracy of ByzFL's pipeline, and its seconds."""
    import torch
    from byzfl.benchmark.train import start_training

    torch.set_num_threads(1)  # of models this small two threads are no faster
    f, _, attack = CASES[case]
    results = folder / f"{partition['name']}-{attack}-{seed}"
    start = time.perf_counter()
    start_training(
        {
            "benchmark_config": {
                "training_algorithm": {"name": "DSGD", "parameters": {}},
                "device": "cpu",
                "nb_steps": rounds,
                "training_seed": seed,
                "data_distribution_seed": seed,
                "nb_workers": CLIENTS,
                "nb_honest_clients": CLIENTS - f,
                "f": f,
                "tolerated_f": f,
                "size_train_set": 1.0,
                "data_distribution": partition,
            },
            "model": {
                "name": "fc_mnist",
                "dataset_name": "mnist",
                "nb_labels": 10,
                "loss": "NLLLoss",
                "learning_rate": RATE,
                "learning_rate_decay": 1.0,
                "milestones": [],
            },
            "aggregator": {"name": "TrMean", "parameters": {"f": f}},
            "pre_aggregators": [{"name": "NNM", "parameters": {"f": f}}],
            "honest_clients": {"momentum": MOMENTUM, "weight_decay": 0.0, "batch_size": BATCH},
            "attack": {"name": attack, "parameters": {}},
            "evaluation_and_results": {
                "evaluation_delta": every,
                "batch_size_evaluation": 500,
                "evaluate_on_test": True,
                "store_per_client_metrics": False,
                "store_models": False,
                "data_folder": str(folder),
                "results_directory": str(results),
            },
        }
    )
    seconds = time.perf_counter() - start
    (curve,) = results.glob("*/test_accuracy_*.txt")
    return float(np.loadtxt(curve, delimiter=",").max()), seconds


def perceptron() -> Model:
    """ByzFL's `fc_mnist`: 784, 100 with ReLU, 10; every number uniform in ±1/√inputs."""
    shapes = {"first": (784, 100), "second": (100, 10)}

    def init(key: jax.Array) -> dict:
        def layer(key: jax.Array, shape: tuple[int, int]) -> dict:
            half = 1 / math.sqrt(shape[0])
            weights, bias = jax.random.split(key)
            return {
                "kernel": jax.random.uniform(weights, shape, minval=-half, maxval=half),
                "bias": jax.random.uniform(bias, shape[1:], minval=-half, maxval=half),
            }

        keys = jax.random.split(key, len(shapes))
        return {name: layer(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}

    def apply(params: dict, x: jax.Array) -> jax.Array:
        first, second = params["first"], params["second"]
        hidden = jax.nn.relu(x.reshape(x.shape[0], -1) @ first["kernel"] + first["bias"])
        return hidden @ second["kernel"] + second["bias"]

    return Model(init, apply)


def fljax_best(
    mnist: Dataset, partition: dict, case: str, seed: int, rounds: int, every: int
) -> tuple[float, float]:
    """Best test accuracy of fljax, and its seconds with compiling."""
    f, attack, _ = CASES[case]
    # One example more: the root dataset takes at least one.
    size = HONEST * CLIENTS // (CLIENTS - f) + 1

    def normalised(x: np.ndarray) -> np.ndarray:
        return ((x - MEAN) / DEVIATION).astype(np.float32)

    dataset = Dataset(
        normalised(mnist.train_x[:size]),
        mnist.train_y[:size],
        normalised(mnist.test_x[:TEST]),
        mnist.test_y[:TEST],
        10,
        "mnist",
    )
    config = parse_config(
        {
            "rounds": rounds,
            "eval_every": every,
            "num_clients": CLIENTS,
            "seed": seed,
            "partition": partition,
            "root": {"size": 1},
            "client": {"name": "momentum", "beta": MOMENTUM},
            "local": {"steps": 1, "batch_size": BATCH, "learning_rate": RATE},
            "aggregator": {"name": "trimmed_mean", "trim": f, "pre": [{"name": "nnm", "num_malicious": f}]},
            "attack": attack,
        }
    )
    start = time.perf_counter()
    result = run(config, dataset=dataset, model=perceptron(), progress=False)
    return 1 - float(jnp.min(jnp.asarray(result.metrics["test_error"]))), time.perf_counter() - start


def spread(best: dict[str, list[float]]) -> dict[str, float | None]:
    """Mean and standard deviation over the seeds of each side."""
    found: dict[str, float | None] = {}
    for side, values in best.items():
        found[f"{side}_mean"] = round(statistics.mean(values), 4)
        found[f"{side}_deviation"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
    return found


def main() -> None:
    """Run both, seed by seed, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--case", choices=CASES, action="append", help="one case only; may be repeated")
    parser.add_argument("--partition", choices=PARTITIONS, action="append", help="likewise")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = {"rounds": given.rounds, "eval_every": given.every}
    mnist = load("mnist")
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        torch_folder(folder, mnist)
        for name, case in itertools.product(given.partition or PARTITIONS, given.case or CASES):
            ours, theirs = PARTITIONS[name]
            rows.append({"partition": name, "case": case})
            best: dict[str, list[float]] = {"byzfl": [], "fljax": []}
            seconds: dict[str, list[float]] = {"byzfl": [], "fljax": []}
            for seed in range(given.first, given.first + given.seeds):
                how = seed, given.rounds, given.every
                for side, (value, took) in (
                    ("byzfl", byzfl_best(folder, theirs, case, *how)),
                    ("fljax", fljax_best(mnist, ours, case, *how)),
                ):
                    best[side].append(round(value, 4))
                    seconds[side].append(round(took, 2))
                rows[-1] |= {"best_accuracy": best, "seconds": seconds} | spread(best)
                print(json.dumps(rows[-1]), flush=True)
                if given.out:
                    text = {"settings": settings, "environment": environment(), "rows": rows}
                    given.out.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
