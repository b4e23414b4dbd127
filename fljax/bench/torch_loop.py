"""A round as a PyTorch loop over the clients, written several ways; PyTorch is imported when asked for.

What makes the loop fast: images with their channels last, pooling before the ReLU, a ReLU in place, one
gather for the batches of all clients, updates written into one (n, d) matrix that is there before, rules and
attacks as few passes over it. It draws batches with replacement and leaves running batch statistics out,
which is less work than fljax has.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from fljax.config.schema import ExperimentConfig
from fljax.simulation.experiment import Experiment

NAME = "PyTorch"
EVALUATED_AT_ONCE = 1_000
STRETCH = 2.0  # of the Trim attack


class NoCounterpart(Exception):  # noqa: N818  a reason to leave a peer out, not a mistake
    """What a peer has no counterpart of."""


class Local(NamedTuple):
    """The local training that peers have: so many steps of plain SGD, on batches of one size, at one rate."""

    steps: int
    batch: int
    rate: float


class Way(NamedTuple):
    """One way to write the loop.

    Attributes:
        title: for a table.
        channels_last: memory format of images and kernels.
        threads: of PyTorch on a CPU.
        side_by_side: clients at the same time, each on one thread; 1 trains them one after the other.
        vmapped: clients in one call of `torch.func.vmap`; 0 for a loop.
    """

    title: str
    threads: int
    channels_last: bool = False
    side_by_side: int = 1
    vmapped: int = 0


# --- networks ------------------------------------------------------------------------------------------


def _sequence(*layers: Any) -> Any:
    from torch import nn

    return nn.Sequential(*layers)


def _cnn(shape: Sequence[int], outputs: int) -> Any:
    from torch import nn

    height, width = (((size - 2) // 2 - 2) // 2 for size in shape[:2])
    return _sequence(
        nn.Conv2d(shape[2], 30, 3),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(30, 50, 3),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(50 * height * width, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, outputs),
    )


def _lenet(shape: Sequence[int], outputs: int) -> Any:
    from torch import nn

    height, width = (((size - 4) // 2 - 4) // 2 for size in shape[:2])
    return _sequence(
        nn.Conv2d(shape[2], 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, outputs),
    )


def _dropout_cnn(shape: Sequence[int], outputs: int) -> Any:
    from torch import nn

    height, width = ((size - 4) // 2 for size in shape[:2])
    return _sequence(
        nn.Conv2d(shape[2], 32, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * height * width, 128),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(128, outputs),
    )


def _mlp(shape: Sequence[int], outputs: int, hidden: Sequence[int] = (64,)) -> Any:
    from torch import nn

    widths = [int(np.prod(shape)), *hidden]
    layers: list[Any] = [nn.Flatten()]
    for inputs, width in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
    return _sequence(*layers, nn.Linear(widths[-1], outputs))


def _resnet20(shape: Sequence[int], outputs: int) -> Any:
    from torch import nn

    def norm(width: int) -> Any:
        return nn.BatchNorm2d(width, track_running_stats=False)

    def conv(inputs: int, width: int, size: int, stride: int) -> Any:
        return nn.Conv2d(inputs, width, size, stride, padding=size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            self.first = _sequence(
                conv(inputs, width, 3, stride),
                norm(width),
                nn.ReLU(inplace=True),
                conv(width, width, 3, 1),
                norm(width),
            )
            self.short: Any = None
            if stride != 1 or inputs != width:
                self.short = _sequence(conv(inputs, width, 1, stride), norm(width))

        def forward(self, x: Any) -> Any:
            return (self.first(x) + (x if self.short is None else self.short(x))).relu_()

    layers = [conv(shape[2], 16, 3, 1), norm(16), nn.ReLU(inplace=True)]
    inputs = 16
    for width in (16, 32, 64):
        for block in range(3):
            layers.append(Block(inputs, width, 2 if width > 16 and block == 0 else 1))
            inputs = width
    return _sequence(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs))


# By the name of the model in fljax, with what it takes of the model's parameters.
NETWORKS: Mapping[str, Callable[..., Any]] = {
    "cnn": _cnn,
    "lenet": _lenet,
    "dropout_cnn": _dropout_cnn,
    "resnet20": _resnet20,
    "mlp": _mlp,
    "logistic_regression": partial(_mlp, hidden=()),
}


def make_network(config: ExperimentConfig, shape: Sequence[int], outputs: int) -> Any:
    """The network of a configuration.

    Raises:
        NoCounterpart: if there is none.
    """
    if config.model.name not in NETWORKS:
        raise NoCounterpart(f"no network {config.model.name}")
    try:
        return NETWORKS[config.model.name](shape, outputs, **config.model.parameters)
    except TypeError:
        raise NoCounterpart(f"no network {config.model.name} with {config.model.parameters}") from None


# --- rules and the attack, on the (n, d) matrix ---------------------------------------------------------


def _mean(updates: Any, root: Any) -> Any:
    n = len(updates)
    return updates.new_full((n,), 1 / n) @ updates


def _fltrust(updates: Any, root: Any) -> Any:
    import torch

    norms = torch.linalg.vector_norm(updates, dim=1)
    length = torch.linalg.vector_norm(root)
    scores = torch.relu((updates @ root) / (norms * length).clamp_min(1e-30))
    return ((scores / norms.clamp_min(1e-30)) @ updates) * (length / scores.sum().clamp_min(1e-30))


def _sorted_columns(updates: Any, kept: slice) -> Any:
    return updates.sort(dim=0).values[kept].mean(0)


def _sorted_rows(updates: Any, kept: slice) -> Any:
    return updates.t().contiguous().sort(dim=1).values[:, kept].mean(1)


def _selected(updates: Any, kept: slice) -> Any:
    """Order statistics one by one, of which a median has one or two."""
    columns = updates.t().contiguous()
    return sum(columns.kthvalue(k + 1, dim=1).values for k in range(kept.start, kept.stop)) / (
        kept.stop - kept.start
    )


def _order_statistics(updates: Any, kept: slice, cuda: bool) -> Callable[[Any, Any], Any]:
    """The mean of some order statistics, in the way that is the fastest for a matrix like this."""
    ways = [_sorted_columns, _sorted_rows] + [_selected] * (kept.stop - kept.start <= 2)
    seconds = []
    for way in ways:
        way(updates, kept)
        begin = time.perf_counter()
        way(updates, kept)
        _wait(cuda)
        seconds.append(time.perf_counter() - begin)
    best = ways[int(np.argmin(seconds))]
    return lambda updates, root: best(updates, kept)


def make_rule(config: ExperimentConfig, updates: Any, cuda: bool) -> Callable[[Any, Any], Any]:
    """The configured rule, `(updates, root_update) -> update`, for matrices like `updates`.

    Raises:
        NoCounterpart: if there is none.
    """
    rule, n = config.aggregator, len(updates)
    given = {
        name: value for name, value in rule.parameters.items() if (rule.name, name) != ("mean", "weights")
    }
    if rule.pre or rule.post:
        raise NoCounterpart("no pre-aggregators or post-aggregators")
    if rule.name == "trimmed_mean" and given.keys() == {"trim"} and isinstance(given["trim"], int):
        return _order_statistics(updates, slice(given["trim"], n - given["trim"]), cuda)
    if given or rule.name not in ("mean", "median", "fltrust"):
        raise NoCounterpart(f"no rule {rule.name} {given or ''}".rstrip())
    if rule.name == "median":
        return _order_statistics(updates, slice((n - 1) // 2, n // 2 + 1), cuda)
    return _mean if rule.name == "mean" else _fltrust


def trim_attack(updates: Any, count: int) -> None:
    """The first `count` rows just beyond the extremes of the others, against the sign of the sum."""
    import torch

    n = len(updates)
    sign = torch.sign(updates.new_ones(n) @ updates)
    honest = updates[count:]
    zero = torch.zeros((), device=updates.device)
    extreme = torch.where(sign > 0, honest.amin(0), torch.where(sign < 0, honest.amax(0), zero))
    farther = torch.where(sign * extreme > 0, extreme / STRETCH, extreme * STRETCH)
    updates[:count].uniform_().mul_(farther - extreme).add_(extreme)


def _wait(cuda: bool) -> None:
    if cuda:
        import torch

        torch.cuda.synchronize()


# --- the loop ------------------------------------------------------------------------------------------


class _Model:
    """A network whose parameters are views of one flat vector.

    With the channels last a kernel is stored as (out, height, width, in), and so is its part of the vector.
    """

    def __init__(self, network: Any, flat: Any, channels_last: bool) -> None:
        import torch

        self.flat = flat
        self.channels_last = channels_last
        self.network = network.to(flat.device)
        self.parameters = list(self.network.parameters())
        start = 0
        with torch.no_grad():
            for parameter in self.parameters:
                part = flat[start : start + parameter.numel()]
                start += parameter.numel()
                if channels_last and parameter.ndim == 4:
                    out, inputs, height, width = parameter.shape
                    parameter.data = part.view(out, height, width, inputs).permute(0, 3, 1, 2)
                else:
                    parameter.data = part.view(parameter.shape)

    def gradient(self, x: Any, y: Any) -> tuple[Any, ...]:
        """Of the mean cross-entropy of a batch, one tensor for each parameter."""
        import torch

        loss = torch.nn.functional.cross_entropy(self.network(x), y)
        return torch.autograd.grad(loss, self.parameters)

    def write(self, gradients: Sequence[Any], row: Any) -> None:
        """Put gradients into a row of the matrix, in the order of the flat vector."""
        import torch

        parts = [
            g.permute(0, 2, 3, 1).reshape(-1) if self.channels_last and g.ndim == 4 else g.reshape(-1)
            for g in gradients
        ]
        torch.cat(parts, out=row)


class TorchLoop:
    """Rounds of an experiment in PyTorch.

    Args:
        experiment: whose work it does, on its data.
        way: how the loop is written.

    Raises:
        NoCounterpart: if it cannot do the same work.
        ImportError: if PyTorch is not installed.
    """

    def __init__(self, experiment: Experiment, way: Way) -> None:
        import torch

        config, dataset = experiment.config, experiment.dataset
        self._steps, self._batch, self._rate = check(config)
        self.name, self._way = f"{NAME}, {way.title}", way
        self.cuda = on_cuda(experiment)
        device = torch.device("cuda" if self.cuda else "cpu")
        torch.set_num_threads(way.threads)
        if self.cuda:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")  # TF32, as XLA takes by default
        data = experiment.state.data
        n = config.cohort_size or len(data.counts)
        attacked = config.attack.name != "none"
        share = float(np.mean(np.asarray(data.malicious))) if attacked else 0.0
        self._malicious = round(share * n)
        shape = dataset.input_shape

        def images(x: Any) -> Any:
            tensor = torch.from_numpy(np.array(x, np.float32)).to(device)
            if len(shape) != 3:
                return tensor
            tensor = tensor.permute(0, 3, 1, 2)
            return tensor if way.channels_last else tensor.contiguous()

        def classes(y: Any) -> Any:
            return torch.from_numpy(np.array(y, np.int64)).to(device)

        self._x, self._y = images(data.x), classes(data.y)
        self._test = images(dataset.test_x), classes(dataset.test_y)
        table, counts = np.asarray(data.table), np.asarray(data.counts)
        self._table = torch.from_numpy(table.astype(np.int64)).to(device)
        self._counts = torch.from_numpy(counts.astype(np.int64)).to(device)
        self._cohort, self._device = n, device
        root = torch.from_numpy(np.asarray(data.root).astype(np.int64)).to(device)
        size = self._batch if config.root.batch_size is None else config.root.batch_size
        self._root = (self._x[root], self._y[root], len(root) if size == "full" else min(size, len(root)))

        outputs = dataset.format.num_outputs
        torch.manual_seed(config.seed)
        network = make_network(config, shape, outputs)
        d = sum(parameter.numel() for parameter in network.parameters())
        if d != experiment.facts["num_params"]:
            raise NoCounterpart(f"its {config.model.name} has {d:,} parameters")
        initial = torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
        self._global = torch.empty(d, device=device)
        self.updates = torch.empty((n, d), device=device)
        copies = [network, *(make_network(config, shape, outputs) for _ in range(way.side_by_side - 1))]
        self._models = [
            _Model(each, self._global.clone(), way.channels_last and len(shape) == 3) for each in copies
        ]
        self.set_parameters(initial.numpy())
        self._pool = ThreadPoolExecutor(way.side_by_side) if way.side_by_side > 1 else None
        # One step's row is the gradient, more steps' the way that the client went.
        self._scale = -self._rate if self._steps == 1 else 1.0
        self._needs_root = config.aggregator.name == "fltrust"
        self._rule = make_rule(config, torch.randn_like(self.updates), self.cuda)

    def __call__(self) -> None:
        """One round."""
        self._round(lambda: None)
        _wait(self.cuda)

    def shares(self) -> dict[str, float]:
        """Shares of gradients, attack and rule in the time of one round."""
        marks = []

        def mark() -> None:
            _wait(self.cuda)
            marks.append(time.perf_counter())

        mark()
        self._round(mark)
        mark()
        spent = np.diff(marks) / (marks[-1] - marks[0])
        return dict(zip(("gradients", "attack", "rule"), spent.tolist(), strict=True))

    def _round(self, mark: Callable[[], None]) -> None:
        import torch

        torch.set_num_threads(self._way.threads)
        x, y = self._draw()
        if self._way.vmapped:
            self._train_vmapped(x, y)
        elif self._pool is None:
            self._train(self._models[0], range(self._cohort), x, y)
        else:
            list(self._pool.map(partial(self._train_on_a_thread, x, y), range(len(self._models))))
            torch.set_num_threads(self._way.threads)
        mark()
        with torch.no_grad():
            if self._malicious:
                trim_attack(self.updates, self._malicious)
        mark()
        root = self._train_root() if self._needs_root else None
        with torch.no_grad():
            self._global.add_(self._rule(self.updates, root), alpha=self._scale)
            for model in self._models:
                model.flat.copy_(self._global)

    def parameters(self) -> np.ndarray:
        """The global model, (d,), in PyTorch's order of parameters."""
        network = self._models[0]
        return np.concatenate([p.detach().cpu().numpy().ravel() for p in network.parameters])

    def set_parameters(self, flat: np.ndarray) -> None:
        """Take another global model, as `parameters` returns it."""
        import torch

        first = self._models[0]
        with torch.no_grad():
            sizes = [parameter.numel() for parameter in first.parameters]
            parts = torch.from_numpy(np.array(flat, np.float32)).split(sizes)
            for parameter, part in zip(first.parameters, parts, strict=True):
                parameter.copy_(part.view(parameter.shape))
            for model in self._models:
                model.flat.copy_(first.flat)
            self._global.copy_(first.flat)

    def evaluate(self) -> float:
        """The error on the test set."""
        import torch

        x, y = self._test
        network = self._models[0].network.eval()
        with torch.inference_mode():
            wrong = sum(
                (network(part).argmax(1) != labels).sum()
                for part, labels in zip(x.split(EVALUATED_AT_ONCE), y.split(EVALUATED_AT_ONCE), strict=True)
            )
            error = float(wrong) / len(y)
        network.train()
        return error

    def _draw(self) -> tuple[Any, Any]:
        """The batches of all clients and steps, (n, R·b, …)."""
        import torch

        n, count = self._cohort, self._steps * self._batch
        table, counts = self._table, self._counts
        if n < len(table):
            clients = torch.randperm(len(table), device=self._device)[:n]
            table, counts = table[clients], counts[clients]
        places = (torch.rand((n, count), device=self._device) * counts[:, None]).long()
        chosen = table.gather(1, places).reshape(-1)
        x, y = self._x[chosen], self._y[chosen]
        return x.unflatten(0, (n, count)), y.view(n, count)

    def _train(self, model: _Model, rows: Sequence[int], x: Any, y: Any) -> None:
        import torch

        b = self._batch
        for i in rows:
            if self._steps == 1:
                model.write(model.gradient(x[i], y[i]), self.updates[i])
                continue
            for step in range(self._steps):
                part = slice(step * b, (step + 1) * b)
                gradients = model.gradient(x[i, part], y[i, part])
                with torch.no_grad():
                    torch._foreach_add_(model.parameters, gradients, alpha=-self._rate)
            torch.sub(model.flat, self._global, out=self.updates[i])
            model.flat.copy_(self._global)

    def _train_on_a_thread(self, x: Any, y: Any, number: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._train(self._models[number], range(number, self._cohort, len(self._models)), x, y)

    def _train_root(self) -> Any:
        """The server's own update, in the unit of the clients' rows."""
        import torch

        x, y, size = self._root
        model, row = self._models[0], torch.empty_like(self._global)
        for _ in range(self._steps):
            chosen = slice(None) if size == len(y) else torch.randperm(len(y), device=self._device)[:size]
            gradients = model.gradient(x[chosen], y[chosen])
            if self._steps == 1:
                model.write(gradients, row)
                return row
            with torch.no_grad():
                torch._foreach_add_(model.parameters, gradients, alpha=-self._rate)
        torch.sub(model.flat, self._global, out=row)
        model.flat.copy_(self._global)
        return row

    def _train_vmapped(self, x: Any, y: Any) -> None:
        import torch
        from torch.func import functional_call, grad, vmap

        network, b = self._models[0].network, self._batch
        named = {name: parameter.detach() for name, parameter in network.named_parameters()}

        def loss(parameters: Any, x: Any, y: Any) -> Any:
            return torch.nn.functional.cross_entropy(functional_call(network, parameters, (x,)), y)

        def gradients(parameters: Any, axis: int | None, x: Any, y: Any) -> Any:
            found = vmap(grad(loss), in_dims=(axis, 0, 0), randomness="different")(parameters, x, y)
            return [found[name].flatten(1) for name in named]

        for start in range(0, self._cohort, self._way.vmapped):
            rows = self.updates[start : start + self._way.vmapped]
            at, labels = x[start : start + len(rows)], y[start : start + len(rows)]
            first = gradients(named, None, at[:, :b], labels[:, :b])
            torch.cat(first, dim=1, out=rows)
            if self._steps == 1:
                continue
            rows.mul_(-self._rate).add_(self._global)
            sizes = [parameter.numel() for parameter in named.values()]
            own = {
                name: part.view(len(rows), *parameter.shape)
                for (name, parameter), part in zip(named.items(), rows.split(sizes, dim=1), strict=True)
            }
            for step in range(1, self._steps):
                part = slice(step * b, (step + 1) * b)
                found = gradients(own, 0, at[:, part], labels[:, part])
                rows.sub_(torch.cat(found, dim=1), alpha=self._rate)
            rows.sub_(self._global)


def check(config: ExperimentConfig) -> Local:
    """The local training of a configuration.

    Raises:
        NoCounterpart: naming it.
    """
    local, attack = config.local, config.attack
    for fine, what in (
        (isinstance(local.steps, int), "local.epochs"),
        (isinstance(local.batch_size, int), 'local.batch_size = "full"'),
        (isinstance(local.learning_rate, float | int), "a schedule of local.learning_rate"),
        (local.optimizer.name == "sgd" and not local.optimizer.parameters, "an optimizer but plain SGD"),
        (not local.augment, "augmentations"),
        (config.client.name == "sgd", f"the client {config.client.name}"),
        (config.server == type(config.server)(), "a server optimizer or rate"),
        (config.loss.name == "cross_entropy" and not config.loss.parameters, f"the loss {config.loss.name}"),
        (
            attack.name == "none" or (attack.name == "trim_attack" and not attack.parameters),
            f"the attack {attack.name} {attack.parameters or ''}".rstrip(),
        ),
        (attack.schedule is None and attack.in_cohort is None, "an attack's schedule or place in a cohort"),
    ):
        if not fine:
            raise NoCounterpart(f"no counterpart of {what}")
    return Local(cast(int, local.steps), cast(int, local.batch_size), float(cast(float, local.learning_rate)))


def check_fedavg(config: ExperimentConfig) -> Local:
    """The local training of a configuration, of a library that only takes means.

    Raises:
        NoCounterpart: naming what it has no counterpart of.
    """
    local = check(config)
    rule = config.aggregator
    if config.attack.name != "none" or rule.name != "mean" or rule.pre or rule.post:
        raise NoCounterpart("no counterpart of attacks and of rules but the mean")
    return local


def ways(config: ExperimentConfig, shape: Sequence[int], threads: int, cuda: bool) -> list[Way]:
    """The ways that may be the fastest for a model, the plain one first.

    On a CPU `vmap` makes grouped convolutions, which are far slower than the loop.
    """
    n = config.cohort_size or config.num_clients or 1
    images = len(shape) == 3 and config.model.name not in ("mlp", "logistic_regression")
    found = [Way("loop, channels last", threads, channels_last=True)] if images else []
    found.append(Way("loop, channels first" if images else "loop", threads))
    if threads > 1 and not cuda:
        found.append(Way("loop, one thread", 1, channels_last=images))
        found.append(Way(f"loop, {threads} clients side by side", threads, images, side_by_side=threads))
    if cuda or not images:
        found += [Way(f"vmap, {count} clients", threads, vmapped=count) for count in sorted({min(n, 10), n})]
    return found


def on_cuda(experiment: Experiment) -> bool:
    """Whether PyTorch and JAX can use the same GPU."""
    import torch

    return experiment.facts["device"].startswith(("gpu", "cuda")) and torch.cuda.is_available()
