"""A round in pfl-research, which is imported where it is asked for."""

from typing import Any

import numpy as np

from fljax.bench.torch_loop import NoCounterpart, check_fedavg, make_network
from fljax.simulation.experiment import Experiment

NAME = "pfl-research"


class PflRounds:
    """FedAvg of an experiment as pfl-research simulates it, without evaluations.

    A client's examples of all its steps are a dataset of its own there, gone through once in batches.

    Attributes:
        network: the global model between two rounds.

    Args:
        experiment: whose work it does, on its data.
        threads: of PyTorch.

    Raises:
        NoCounterpart: if it is more than the mean of what clients trained.
        ImportError: if pfl-research or PyTorch is not installed.
    """

    def __init__(self, experiment: Experiment, threads: int) -> None:
        config = experiment.config
        local = check_fedavg(config)
        import torch
        from pfl.aggregate.simulate import SimulatedBackend
        from pfl.algorithm.base import NNAlgorithmParams
        from pfl.algorithm.federated_averaging import FederatedAveraging
        from pfl.data.dataset import Dataset
        from pfl.data.federated_dataset import FederatedDataset
        from pfl.data.sampling import get_user_sampler
        from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
        from pfl.model.pytorch import PyTorchModel

        self._threads, self._iteration = threads, 0
        torch.set_num_threads(threads)
        torch.manual_seed(config.seed)
        data, shape = experiment.state.data, experiment.dataset.input_shape
        counts, size = np.asarray(data.counts), local.steps * local.batch
        if counts.min() < size:
            raise NoCounterpart(f"no {local.steps} steps without an example twice")
        self.network = network = make_network(config, shape, experiment.dataset.format.num_outputs)

        class Loss(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def loss(self, x: Any, y: Any) -> Any:
                self.train()
                return torch.nn.functional.cross_entropy(self.network(x), y)

            def metrics(self, x: Any, y: Any) -> dict[str, Any]:
                return {}

        x, y = np.asarray(data.x), np.asarray(data.y)
        if len(shape) == 3:
            x = np.moveaxis(x, -1, 1)
        table = np.asarray(data.table)

        def user(number: int) -> Dataset:
            chosen = np.random.permutation(counts[number])[:size]
            places = table[number, chosen]
            return Dataset([torch.from_numpy(x[places]), torch.from_numpy(y[places]).long()])

        users = FederatedDataset(user, get_user_sampler("minimize_reuse", range(len(counts))))
        self._backend = SimulatedBackend(users, users)
        model = Loss()
        self._model = PyTorchModel(model, torch.optim.SGD, torch.optim.SGD(model.parameters(), 1.0))
        self._algorithm = FederatedAveraging()
        self._settings = (
            NNAlgorithmParams(
                central_num_iterations=-1,
                evaluation_frequency=2**31,
                train_cohort_size=config.cohort_size or len(counts),
                val_cohort_size=None,
            ),
            NNTrainHyperParams(
                local_num_epochs=1,
                local_learning_rate=local.rate,
                local_batch_size=local.batch,
            ),
            NNEvalHyperParams(local_batch_size=None),
        )

    def __call__(self) -> None:
        """One round."""
        import torch

        torch.set_num_threads(self._threads)
        self._iteration += 1  # the first would be evaluated
        contexts, model, _ = self._algorithm.get_next_central_contexts(
            self._model, self._iteration, *self._settings
        )
        (context,) = contexts
        statistics, metrics = self._backend.gather_results(model, self._algorithm, central_context=context)
        self._model, _ = self._algorithm.process_aggregated_statistics(context, metrics, model, statistics)
