"""The planner: cells grouped by the program they need, groups cut into batches that fit the memory."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS, RULES, mean, stateless
from fljax.assembly import (
    Parts,
    check_names,
    clients_at_once,
    compose,
    gather,
    load_dataset,
    num_convolutions,
)
from fljax.attacks import ATTACKS, NO_ATTACK
from fljax.attacks.base import TASK_ARGUMENTS
from fljax.components import make_aggregator, make_attack
from fljax.config import Component, ExperimentConfig, parse_tables
from fljax.data import DATASETS, Dataset
from fljax.errors import ConfigError
from fljax.fit import check_pieces
from fljax.local import cross_entropy
from fljax.signatures import traceable_parameters
from fljax.sweeps.axes import Cell, Sweep
from fljax.types import RoundData

# Copies of the (n, d) stack that training, an attack and a rule together hold at once, and which share of a
# gradient's intermediate results is held at once. With these the estimate is 1.0 to 1.4 times the compiler's
# own figure for digits, UCI HAR and MNIST; the share is the same for a ResNet.
STACKS = 2
HELD = 1 / 8
# Cells in one program. On a CPU more do not pay, and one is best for convolutions and where there are few
# cells, whose program then compiles faster (benchmarks/README.md).
MOST_ON_CPU, MOST_ELSEWHERE = 8, 512
FEW_ON_CPU = 4


class Batch(NamedTuple):
    """Cells that run at the same time; `cells` may be fewer than the program has room for."""

    group: int
    cells: list[Cell]


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Cells that share one compiled program.

    Attributes:
        number: from 0.
        cells: in the order of the sweep.
        parts: of every cell.
        traced: dotted keys whose values differ and enter the program as arrays: (cells,) each.
        size: how many cells the program holds.
        cell_bytes: estimated memory of one cell, without the data all share.
        shared_bytes: memory of the data.
        round_flops: estimated operations of one cell's round.
        num_params: d.
    """

    number: int
    cells: list[Cell]
    parts: list[Parts]
    traced: Mapping[str, np.ndarray]
    size: int
    cell_bytes: int
    shared_bytes: int
    round_flops: float
    num_params: int

    @property
    def config(self) -> ExperimentConfig:
        """The first cell's configuration, which stands for all of them."""
        return self.parts[0].config

    @property
    def batches(self) -> list[Batch]:
        """The group's cells, `size` at a time."""
        return [
            Batch(self.number, self.cells[start : start + self.size])
            for start in range(0, len(self.cells), self.size)
        ]

    def resized(self, size: int) -> "Group":
        """The group in batches of another size."""
        return dataclasses.replace(self, size=size)


class Plan(NamedTuple):
    """A sweep and how it will be run."""

    sweep: Sweep
    groups: list[Group]
    budget: int

    @property
    def notes(self) -> list[str]:
        """What is to be said about data sets and models."""
        return list(dict.fromkeys(note for group in self.groups for p in group.parts for note in p.notes))


def device_memory(workers: int = 1) -> int:
    """Bytes a program may use: most of an accelerator, or a share of half of the machine's memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if jax.default_backend() != "cpu" and "bytes_limit" in stats:
        return int(0.9 * stats["bytes_limit"])
    import psutil

    return int(0.5 * psutil.virtual_memory().total) // max(workers, 1)


def make_plan(
    sweep: Sweep,
    *,
    budget: int | None = None,
    workers: int = 1,
    size: int | None = None,
    known: "Known | None" = None,
) -> Plan:
    """Check every cell with its data, group the cells, and choose how many run at once.

    Args:
        sweep: the cells.
        budget: bytes one program may use; None for what the device has.
        workers: programs that run at the same time.
        size: cells in a program at most; None for what suits the device.
        known: what earlier plans of this process have loaded.

    Returns:
        The `Plan`. It depends on the configuration and the device, not on what has been run already.

    Raises:
        ConfigError: naming the cell, if one cannot be run.
        DataError: if the data cannot be read.
    """
    budget = device_memory(workers) if budget is None else budget
    known = Known() if known is None else known
    members: dict[str, list[tuple[Cell, Parts, dict[str, Any]]]] = {}
    for cell in sweep.cells:
        try:
            parts = known.parts(cell.config)
            numbers = traceable(parts.config)
            program = signature(parts, numbers)
            known.check(parts, program)
        except ConfigError as error:
            shown = ", ".join(f"{key}={value}" for key, value in cell.axes.items())
            raise ConfigError(f"{error} (in the cell {shown})") from None
        members.setdefault(program, []).append((cell, parts, numbers))
    # Where there are few programs, each in as many batches as keep all workers busy.
    batches = -(-workers // len(members))
    groups = [_group(number, rows, budget, batches, size) for number, rows in enumerate(members.values())]
    return Plan(sweep, groups, budget)


class Known:
    """What cells have in common, computed once."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._clients: dict[str, RoundData] = {}
        self._checked: set[str] = set()

    def dataset(self, config: ExperimentConfig) -> Dataset:
        # A data set that ignores the seed is read once.
        seeded = DATASETS[config.data.name].seeded
        key = config.data.model_dump_json() + (str(config.seed_for("data")) if seeded else "")
        if key not in self._datasets:
            self._datasets[key] = load_dataset(config)
        return self._datasets[key]

    def parts(self, config: ExperimentConfig) -> Parts:
        named = config.model_dump_json(include={"data", "partition", "aggregator", "local", "server"})
        if named not in self._checked:
            check_names(config)
            self._checked.add(named)
        dataset = self.dataset(config)
        fraction = None if config.attack.name == "none" else config.attack.fraction
        root = config.root.sample()
        clients = json.dumps(
            [
                *(id(dataset), config.seed_for("data"), config.partition.model_dump(), root),
                *(config.num_clients, fraction),
            ]
        )
        parts = gather(config, dataset, data=self._clients.get(clients))
        self._clients[clients] = parts.data
        return parts

    def check(self, parts: Parts, program: str) -> None:
        """Whether the pieces fit: all of them once a program, rule and attack for their own numbers."""
        config, sizes = parts.config, (parts.num_clients, parts.cohort_size, parts.dataset.input_shape)
        rule = repr((sizes, config.aggregator))
        attack = repr((sizes, parts.task.num_classes, config.attack.model_copy(update={"fraction": 0.0})))
        if program not in self._checked:
            compose(parts)
        elif rule not in self._checked:
            check_pieces(make_aggregator(config.aggregator), NO_ATTACK, *sizes)
        if program in self._checked and attack not in self._checked:
            check_pieces(stateless(mean), make_attack(config.attack, parts.task), *sizes)
        self._checked |= {program, rule, attack}


def traceable(config: ExperimentConfig) -> dict[str, Any]:
    """Dotted keys of the numbers that may enter a program as arrays, and their values."""
    found: dict[str, Any] = {}

    def look(prefix: str, table: Component, function: Any, hidden: Any = ()) -> None:
        for name, (kind, default) in traceable_parameters(function, hidden).items():
            value = table.parameters.get(name, default)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[f"{prefix}{name}"] = kind(value)

    look("aggregator.", config.aggregator, RULES[config.aggregator.name].function)
    for number, piece in enumerate(config.aggregator.pre):
        look(f"aggregator.pre.{number}.", piece, PRE_AGGREGATORS[piece.name].function)

    def look_at_attack(prefix: str, table: Component) -> None:
        if table.name == "none":
            return
        look(prefix, table, ATTACKS[table.name].function, TASK_ARGUMENTS)
        if "attacks" in table.parameters:
            for number, other in enumerate(parse_tables(prefix, table.parameters["attacks"])):
                look_at_attack(f"{prefix}attacks.{number}.", other)

    look_at_attack("attack.", config.attack)
    for key, part in (("local", config.local), ("server", config.server)):
        if not isinstance(part.learning_rate, Component):
            found[f"{key}.learning_rate"] = float(part.learning_rate)
    return found


def signature(parts: Parts, numbers: Mapping[str, Any]) -> str:
    """What decides which program a cell needs, as text: its configuration without what may be an array."""
    values = parts.config.resolved()
    for key in ("seed", "seeds", "partition", "num_clients", "cohort_size"):
        del values[key]
    for key in ("size", "bias", "bias_class"):
        del values["root"][key]
    del values["attack"]["fraction"]
    for key in numbers:
        table: Any = values
        *parents, name = key.split(".")
        for parent in parents:
            table = table[int(parent)] if isinstance(table, list) else table[parent]
        table[name] = "traced"
    shapes = [parts.num_clients, parts.cohort_size, parts.in_cohort, parts.dataset.train_x.shape]
    return json.dumps([values, shapes, parts.dataset.test_x.shape], sort_keys=True)


def _group(
    number: int,
    rows: Sequence[tuple[Cell, Parts, dict[str, Any]]],
    budget: int,
    batches: int,
    size: int | None,
) -> Group:
    cells, parts, numbers = (list(column) for column in zip(*rows, strict=True))
    varying = {
        key: np.array([values[key] for values in numbers], np.int32 if type(value) is int else np.float32)
        for key, value in numbers[0].items()
        if len({values[key] for values in numbers}) > 1
    }
    cell_bytes, flops, num_params = estimate(parts[0])
    distinct = {id(p.dataset): p.dataset for p in parts}.values()
    shared = max(d.train_x.nbytes + d.test_x.nbytes for d in distinct)
    convolutional = num_convolutions(jax.eval_shape(parts[0].model.init, jax.random.key(0))) > 0
    on_cpu = jax.default_backend() == "cpu"
    alone = convolutional or len(cells) <= FEW_ON_CPU
    most = size or ((1 if alone else MOST_ON_CPU) if on_cpu else MOST_ELSEWHERE)
    most = max(1, min(most, (budget - shared) // max(cell_bytes, 1)))
    count = max(-(-len(cells) // most), min(batches, len(cells)))
    return Group(
        number, cells, parts, varying, -(-len(cells) // count), cell_bytes, shared, flops, num_params
    )


def estimate(parts: Parts) -> tuple[int, float, int]:
    """Bytes of one cell, operations of one of its rounds, and d, before anything is compiled."""
    params = jax.eval_shape(parts.model.init, jax.random.key(0))
    d = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    local = parts.config.local
    batch = parts.data.table.shape[1] if local.batch_size == "full" else local.batch_size
    x = jax.ShapeDtypeStruct((batch, *parts.dataset.input_shape), jnp.float32)
    y = jax.ShapeDtypeStruct((batch,), jnp.int32)
    weights = jax.ShapeDtypeStruct((batch,), jnp.float32)
    model = parts.model
    state = () if model.init_state is None else jax.eval_shape(model.init_state, jax.random.key(0))
    gradient = jax.value_and_grad(cross_entropy(model.apply, model.train), has_aux=True)
    jaxpr: Any = jax.make_jaxpr(gradient)(params, state, x, y, weights)
    shapes = [v.aval.shape for e in jaxpr.eqns for v in e.outvars]
    activations = HELD * sum(4 * int(np.prod(shape)) for shape in shapes if shape[:1] == (batch,))
    lowered: Any = jax.jit(gradient).lower(params, state, x, y, weights).cost_analysis() or {}
    n = parts.cohort_size
    chunk = clients_at_once(parts.config, params, n)
    trained = float(lowered.get("flops", 0.0)) * n * local.steps
    held = STACKS * 4 * n * d + chunk * (4 * int(np.prod(x.shape)) + activations) + 4 * parts.data.table.size
    # A rule and an attack read the stack some ten times, with an operation or two for every entry.
    return int(held), trained + 20.0 * n * d, d
