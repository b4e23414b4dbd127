"""The planner: cells grouped by the program they need, groups cut into batches that fit the memory."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from fljax.config.schema import ExperimentConfig
from fljax.errors import ConfigError
from fljax.host.limits import Limit, device_memory, gigabytes, room
from fljax.simulation.assembly import Parts, may_stream, streaming
from fljax.simulation.devices import shared_among
from fljax.simulation.memory import Need, estimate, sharing, shortage
from fljax.simulation.model import num_convolutions
from fljax.sweeps.axes import Sweep
from fljax.sweeps.cells import TOLD_EVERY, Cell, Told, in_the_cell
from fljax.sweeps.known import Known, Member
from fljax.sweeps.recipes import can_be_staged, recipes

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
        need: estimated memory of the first cell, which stands for all of them; of a device's share of it,
            where each of several has a memory of its own.
        shared_bytes: memory of the data.
        memories: among how many memories a batch's cells are divided.
        devices: among how many devices they and their clients are divided.
        staged: whether a round is several programs, which groups share.
        round_flops: estimated operations of one cell's round.
        num_params: d.
    """

    number: int
    cells: list[Cell]
    parts: list[Parts]
    traced: Mapping[str, np.ndarray]
    size: int
    need: Need
    shared_bytes: int
    round_flops: float
    num_params: int
    memories: int = 1
    devices: int = 1
    staged: bool = False

    @property
    def config(self) -> ExperimentConfig:
        """The first cell's configuration, which stands for all of them."""
        return self.parts[0].config

    @property
    def cell_bytes(self) -> int:
        """Estimated memory of one cell, without the data all share."""
        return self.need.own

    @property
    def bytes(self) -> int:
        """Estimated memory of the program: the data and a batch's cells, or one memory's share of them."""
        return self.shared_bytes + -(-self.size // self.memories) * self.cell_bytes

    @property
    def batches(self) -> list[Batch]:
        """The group's cells, `size` at a time."""
        return [
            Batch(self.number, self.cells[start : start + self.size])
            for start in range(0, len(self.cells), self.size)
        ]

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of a cell in `cells`, by its id."""
        return {cell.id: place for place, cell in enumerate(self.cells)}

    def resized(self, size: int) -> "Group":
        """The group in batches of another size."""
        return self if size == self.size else dataclasses.replace(self, size=size)


class Plan(NamedTuple):
    """A sweep and how it will be run.

    Attributes:
        sweep: its cells.
        groups: those that share a program.
        budget: bytes one program should use at most.
        strict: whether that is what the user allows.
    """

    sweep: Sweep
    groups: list[Group]
    budget: int
    strict: bool = False

    @property
    def limit(self) -> Limit:
        """The memory that not even one cell may exceed."""
        return _limit(self.budget, self.strict)

    @property
    def notes(self) -> list[str]:
        """Notes on data sets and models, each once."""
        return list(dict.fromkeys(note for group in self.groups for p in group.parts for note in p.notes))


def make_plan(
    sweep: Sweep,
    *,
    budget: int | None = None,
    workers: int = 1,
    size: int | None = None,
    known: Known | None = None,
    told: Told | None = None,
    staged: bool | None = None,
) -> Plan:
    """Check every cell with its data, group the cells, and choose how many run at once.

    Args:
        sweep: the cells.
        budget: bytes one program may use, by the user; None for what the device has.
        workers: programs that run at the same time.
        size: cells in a program at most; None for what suits the device.
        known: what earlier plans of this process have loaded.
        told: called now and then with the number of cells that are planned, and of all.
        staged: whether rounds are several programs that groups share, where they can be; None for where
            it is faster.

    Returns:
        The `Plan`. It depends on the configuration and the device, not on what has been run already.

    Raises:
        ConfigError: naming the cell, if one cannot be run.
        DataError: if the data cannot be read.
    """
    strict = budget is not None
    budget = device_memory(workers) if budget is None else budget
    known = Known() if known is None else known
    members: dict[str, list[tuple[Cell, Member]]] = {}
    for number, cell in enumerate(sweep.cells):
        try:
            member = known.member(cell.config)
        except ConfigError as error:
            raise ConfigError(f"{error} {in_the_cell(cell.axes)}") from None
        members.setdefault(member.program, []).append((cell, member))
        if told is not None and (number + 1) % TOLD_EVERY == 0:
            told(number + 1, len(sweep.cells))
    # Where there are few programs, each in as many batches as keep all workers busy.
    batches = -(-workers // len(members))
    limit = _limit(budget, strict)
    groups = [
        _group(number, rows, budget, limit, batches, size, known)
        for number, rows in enumerate(members.values())
    ]
    return Plan(sweep, _staged(groups, staged), budget, strict)


# Seconds of a core that a program of a round less takes to compile, and that the host takes for a round in
# several programs (benchmarks/README.md).
TRAINING_SECONDS, DISPATCH_SECONDS = 2.5, 3e-4


def _staged(groups: list[Group], wanted: bool | None) -> list[Group]:
    """The groups, of which those are staged where that pays."""
    alike: dict[str | None, list[Group]] = {}
    if wanted is not False and jax.process_count() == 1:
        for group in groups:
            possible = group.devices == 1 and can_be_staged(group.parts[0])
            text = recipes(group.parts[0]).train.text(group.traced) if possible else None
            alike.setdefault(text, []).append(group)
    alike.pop(None, None)
    paying: set[int] = set()
    for others in alike.values():
        rounds = sum(group.config.rounds * len(group.batches) for group in others)
        saved = TRAINING_SECONDS * (len(others) - 1)
        pays = jax.default_backend() == "cpu" and saved > DISPATCH_SECONDS * rounds
        if wanted or pays:
            paying |= {group.number for group in others}
    return [dataclasses.replace(group, staged=group.number in paying) for group in groups]


def _limit(budget: int, strict: bool) -> Limit:
    """The memory that not even one cell may exceed."""
    return room(budget / 1e9 if strict else None)


def _group(
    number: int,
    rows: Sequence[tuple[Cell, Member]],
    budget: int,
    limit: Limit,
    batches: int,
    size: int | None,
    known: Known,
) -> Group:
    cells = [cell for cell, _ in rows]
    parts, numbers = [member.parts for _, member in rows], [member.numbers for _, member in rows]
    varying = {
        key: np.array([values[key] for values in numbers], np.int32 if type(value) is int else np.float32)
        for key, value in numbers[0].items()
        if len({values[key] for values in numbers}) > 1
    }
    gradient = known.gradient(parts[0])
    on_cpu = jax.default_backend() == "cpu"
    alone = num_convolutions(gradient.params) > 0 or len(cells) <= FEW_ON_CPU
    most = size or ((1 if alone else MOST_ON_CPU) if on_cpu else MOST_ELSEWHERE)
    # Every device has all of the data.
    try:
        among = shared_among(parts[0].config, parts[0].cohort_size, min(most, len(cells)))
    except ConfigError as error:
        raise ConfigError(f"{error} {in_the_cell(cells[0].axes)}") from None
    need = estimate(parts[0], gradient, known.decided(parts[0]), own_data=False).of_memory(among[1])
    distinct = {id(p.dataset): p.dataset for p in parts}.values()
    shared = max(d.train_x.nbytes + d.test_x.nbytes for d in distinct) * sharing(math.prod(among))
    if shared + need.own > limit.most and may_stream(parts[0]):
        instead = estimate(streaming(parts[0]), gradient, own_data=False).of_memory(among[1])
        if instead.own < need.own:
            parts, need = [streaming(p) for p in parts], instead
    memories = 1 if on_cpu else among[0]
    most = max(1, min(most, memories * ((budget - shared) // max(need.own, 1))))
    count = max(-(-len(cells) // most), min(batches, len(cells)))
    n, d = parts[0].cohort_size, gradient.num_params
    # A rule and an attack read the stack some ten times, with an operation or two for every entry.
    flops = gradient.flops * n * parts[0].mean_steps + 20.0 * n * d
    return Group(
        number=number,
        cells=cells,
        parts=parts,
        traced=varying,
        size=-(-len(cells) // count),
        need=need,
        shared_bytes=shared,
        round_flops=flops,
        num_params=d,
        memories=memories,
        devices=math.prod(among),
    )


def too_large(plan: Plan) -> dict[int, str]:
    """Numbers of the groups of which not even one cell fits, with the reason."""
    limit = plan.limit
    return {
        group.number: f"{shortage(group.need, limit)} {in_the_cell(group.cells[0].axes)}"
        for group in plan.groups
        if group.shared_bytes + group.cell_bytes > limit.most
    }


def check_fits(plan: Plan, workers: int) -> None:
    """Refuse a sweep with a cell that cannot fit, or with programs that do not fit beside each other.

    Args:
        plan: the plan.
        workers: programs that run at the same time.

    Raises:
        ConfigError: naming the cell.
    """
    for reason in too_large(plan).values():
        raise ConfigError(reason)
    if plan.strict or jax.default_backend() != "cpu":
        return
    needs = sorted(g.bytes for g in plan.groups for _ in g.batches[:workers])
    together, limit = sum(needs[-workers:]), plan.limit
    if together > limit.most:
        raise ConfigError(
            f"memory: {workers} programs at the same time need about {gigabytes(together)}, but "
            f"{gigabytes(limit.bytes)} are {limit.whose}; run fewer (workers)"
        )
