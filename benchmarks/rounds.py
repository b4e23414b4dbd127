"""Seconds per round, and the same local gradients by a plain PyTorch loop over the clients in the same run.

    FLJAX_DATA=... python benchmarks/rounds.py configs/mnist_quick.toml --peer --out rounds.json

Both sides use all cores. Compile time is given apart; the figures are medians of `--repeats` blocked calls.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from fljax.config.loading import load_config
from fljax.engine.loop import compile_program, no_metrics
from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble


def time_fljax(path: str, overrides: dict, repeats: int) -> dict:
    """Compile one round of the configuration and time it, the evaluation apart."""
    experiment = assemble(load_config(path, {"rounds": 1, "eval_every": 1, **overrides}))
    state, data = experiment.state
    test = experiment.dataset.test_x, experiment.dataset.test_y
    program = compile_program(
        experiment.step, experiment.evaluate, state, data, test, 1, experiment.beside, experiment.mesh
    )
    metrics, one_round = no_metrics(1), (np.int32(0), np.int32(1))
    rounds, evaluations = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program.chunk(state, metrics, data, *one_round))
        rounds.append(time.perf_counter() - start)
        start = time.perf_counter()
        jax.block_until_ready(program.evaluate(state.params, *test, state.model_state, experiment.beside))
        evaluations.append(time.perf_counter() - start)
    # The first call warms up caches and page tables.
    return {
        "seconds_compile": round(program.seconds_compile, 2),
        "seconds_per_round": round(statistics.median(rounds[1:]), 4),
        "seconds_per_evaluation": round(statistics.median(evaluations[1:]), 4),
    }


def time_torch(clients: int, batch: int, repeats: int) -> dict:
    """Gradients of the paper's CNN for every client in turn, on random images: the arithmetic of a round."""
    import torch
    from torch import nn

    torch.set_num_threads(os.cpu_count() or 1)
    model = nn.Sequential(
        nn.Conv2d(1, 30, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(30, 50, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1250, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    x = torch.rand(clients, batch, 1, 28, 28)
    y = torch.randint(0, 10, (clients, batch))
    loss = nn.CrossEntropyLoss()
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        rows = []
        for client in range(clients):
            model.zero_grad()
            loss(model(x[client]), y[client]).backward()
            rows.append(torch.cat([p.grad.ravel() for p in model.parameters()]))
        torch.stack(rows)
        times.append(time.perf_counter() - start)
    return {"torch": torch.__version__, "seconds_per_round": round(statistics.median(times[1:]), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = {
        "as configured": {},
        "FedAvg, no attack": {"aggregator.name": "mean", "attack.name": "none"},
        "median": {"aggregator.name": "median"},
        "one client at a time": {"client_chunk": 1},
        "five clients at a time": {"client_chunk": 5},
    }
    results = {
        "config": arguments.config,
        "repeats": arguments.repeats,
        **environment(),
        "cores": os.cpu_count(),
    }
    if arguments.peer:
        results["PyTorch loop over clients, gradients only"] = time_torch(100, 32, arguments.repeats)
    for name, overrides in cases.items():
        results[name] = time_fljax(arguments.config, overrides, arguments.repeats)
        print(name, results[name], flush=True)
    if arguments.peer:
        results["PyTorch loop, again at the end"] = time_torch(100, 32, arguments.repeats)
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
