"""A round in Flower's simulation on Ray; both are imported where they are asked for."""

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np

from fljax.bench.torch_loop import check_fedavg, make_network
from fljax.config.schema import ExperimentConfig, parse_config
from fljax.simulation.experiment import Experiment

NAME = "Flower"
START_SECONDS, ROUND_SECONDS = 300.0, 3600.0


class FlowerRounds:
    """FedAvg of an experiment as Flower simulates it: actors on Ray, one a core, train one client at a time.

    Every actor reads the data once, from a file.

    Attributes:
        arrays: the global model between two rounds.

    Args:
        experiment: whose work it does, on its data.

    Raises:
        NoCounterpart: if it is more than the mean of what all clients trained.
        ImportError: if Flower, Ray or PyTorch is not installed.
    """

    def __init__(self, experiment: Experiment) -> None:
        config = experiment.config
        check_fedavg(config)
        os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
        import ray  # noqa: F401
        import torch
        from flwr.app import ArrayRecord, ConfigRecord
        from flwr.clientapp import ClientApp
        from flwr.serverapp import ServerApp
        from flwr.serverapp.strategy import FedAvg
        from flwr.simulation import run_simulation

        data, dataset = experiment.state.data, experiment.dataset
        n = len(data.counts)
        share = min(1.0, ((config.cohort_size or n) + 0.5) / n)  # Flower rounds down
        self._folder = tempfile.TemporaryDirectory(prefix="fljax-flower-")
        folder = Path(self._folder.name)
        for name in ("x", "y", "table", "counts"):
            np.save(folder / f"{name}.npy", np.asarray(getattr(data, name)))
        outputs = dataset.format.num_outputs
        about = {"config": config.resolved(), "outputs": outputs}
        (folder / "about.json").write_text(json.dumps(about))
        self.arrays: Any = None
        self._orders: Queue[bool] = Queue()
        self._answers: Queue[BaseException | None] = Queue()
        server, client = ServerApp(), ClientApp()

        @server.main()
        def serve(grid: Any, context: Any) -> None:
            torch.manual_seed(config.seed)
            network = make_network(config, dataset.input_shape, outputs)
            arrays = self.arrays = ArrayRecord(network.state_dict())
            strategy = FedAvg(fraction_train=share, fraction_evaluate=0.0, min_available_nodes=n)
            number = 0
            self._answers.put(None)
            while self._orders.get():
                number += 1
                messages = strategy.configure_train(number, arrays, ConfigRecord(), grid)
                replies = grid.send_and_receive(messages=messages)
                found, _ = strategy.aggregate_train(number, replies)
                if found is None:
                    raise RuntimeError("no client has answered")
                arrays = self.arrays = found
                self._answers.put(None)

        place = str(folder)

        @client.train()
        def train(message: Any, context: Any) -> Any:
            return train_client(place, message, context)

        def simulate() -> None:
            try:
                run_simulation(
                    server, client, n, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
                )
            except BaseException as error:
                self._answers.put(error)
            else:
                self._answers.put(RuntimeError("the simulation has ended"))

        Thread(target=simulate, daemon=True).start()
        self._wait(START_SECONDS)

    def _wait(self, seconds: float) -> None:
        error = self._answers.get(timeout=seconds)
        if error is not None:
            raise error

    def __call__(self) -> None:
        """One round."""
        self._orders.put(True)
        self._wait(ROUND_SECONDS)

    def close(self) -> None:
        """End the simulation and forget the data."""
        self._orders.put(False)
        self._answers.get(timeout=START_SECONDS)
        self._folder.cleanup()


@lru_cache(maxsize=1)
def _read(folder: str) -> tuple[ExperimentConfig, Any, dict[str, np.ndarray]]:
    """An actor's own copy of the network and the data."""
    import torch

    torch.set_num_threads(1)
    about = json.loads((Path(folder) / "about.json").read_text())
    arrays = {
        name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("x", "y", "table", "counts")
    }
    config = parse_config(about["config"])
    return config, make_network(config, arrays["x"].shape[1:], about["outputs"]), arrays


def train_client(folder: str, message: Any, context: Any) -> Any:
    """What a client answers: the model after its local steps, and how many examples it holds."""
    import torch
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    config, network, data = _read(folder)
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    network.train()
    client = int(context.node_config["partition-id"])
    count = int(data["counts"][client])
    local = check_fedavg(config)
    parameters = list(network.parameters())
    for _ in range(local.steps):
        places = np.sort(data["table"][client, np.random.randint(0, count, local.batch)])
        x = torch.from_numpy(data["x"][places])
        x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x
        y = torch.from_numpy(data["y"][places]).long()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-local.rate)
    content = RecordDict(
        {
            "arrays": ArrayRecord(network.state_dict()),
            "metrics": MetricRecord({"num-examples": count}),
        }
    )
    return Message(content=content, reply_to=message)
