"""Batches as tasks of a Ray cluster: Ray places them, and runs again what a dead worker had."""

import dataclasses
import logging
import math
import os
import socket
import warnings
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fljax.config.plugins import load_plugins
from fljax.errors import ConfigError
from fljax.host.limits import device_memory
from fljax.host.programs import keep_programs, keeps_programs
from fljax.host.signals import kept
from fljax.simulation.devices import settle
from fljax.simulation.environment import environment
from fljax.simulation.memory import in_words, out_of_memory
from fljax.sweeps.axes import Sweep
from fljax.sweeps.batch import CellResult
from fljax.sweeps.cells import Cell
from fljax.sweeps.executors.base import (
    POLL,
    Finished,
    Watcher,
    Work,
    compile_within,
    interleaved,
    number_of_workers,
    run_in_parts,
)
from fljax.sweeps.known import Known
from fljax.sweeps.plan import Batch, Group, Plan, make_plan
from fljax.sweeps.program import GroupProgram
from fljax.sweeps.stages import SharedPrograms

# How often a batch is run again because its worker died or ran out of memory.
RETRIES = 3
# Programs, with their data, that a worker keeps for the next task.
KEPT = 2
# Configurations and results are small; Ray would set aside a third of the memory for them.
STORE_BYTES = 128 * 2**20


class Request(NamedTuple):
    """The resources that one task asks of the cluster.

    Attributes:
        cpus: cores, which also bounds XLA's threads.
        gpus: GPUs; a fraction shares one.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


class Ray:
    """Runs batches as tasks of a Ray cluster; made before JAX starts and anything is loaded.

    Args:
        address: of an existing cluster, which is left as it was; None for one on this machine, which is
            started and stopped, or for the one this process is connected to already.
        cpus: cores of a task.
        gpus: GPUs of a task; None for one if this process has any.
        workers: tasks that run at the same time on a cluster started here; None for one a core, or a GPU.

    Raises:
        ConfigError: if Ray is not installed, is connected to another cluster, or a number is out of range.
    """

    in_process = False

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
        workers: int | None = None,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError('executor="ray" needs Ray: pip install "fljax[ray]"') from None
        if address is not None and ray.is_initialized():
            raise ConfigError(
                f"address={address!r}: Ray is connected already in this process; leave address out"
            )
        if not (cpus > 0 and math.isfinite(cpus)):
            raise ConfigError(f"ray_cpus={cpus} must be positive")
        # A GPU of this machine is left to the tasks: this process only plans, and takes no memory in advance.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if gpus is None:
            gpus = 1.0 if jax.default_backend() == "gpu" else 0.0
        if not (gpus >= 0 and math.isfinite(gpus)) or (gpus > 1 and gpus != int(gpus)):
            raise ConfigError(f"ray_gpus={gpus} must be 0, a fraction of one GPU, or a whole number")
        self._address, self._request = address, Request(cpus, gpus)
        self.workers = number_of_workers(workers)

    @contextmanager
    def run(self, work: Work) -> Iterator[Iterator[Finished]]:
        """Begin to run batches; see `Executor`.

        A batch whose worker died is run again from its start, up to `RETRIES` times; one that raises is not.
        If `work.stop` says so, and on leaving, batches under way are cancelled.
        """
        with (
            connected(self._address, self._request, self.workers),
            closing(_finished_tasks(work, self._request)) as finished,
        ):
            yield finished


@contextmanager
def connected(address: str | None, request: Request, workers: int) -> Iterator[None]:
    """Connect to a cluster.

    Args:
        address: of an existing cluster, which is left as it was; None for one on this machine, which is
            started and stopped, or for the one this process is connected to already.
        request: of a task; on a cluster started here `workers` of them run at the same time.
        workers: tasks at the same time.

    Raises:
        ConfigError: if nothing answers at the address, or no node can run a task.
    """
    import ray

    if ray.is_initialized():
        _check_room(request)
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": math.ceil(workers * request.cpus),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_system_config": {"task_oom_retries": RETRIES},
        }
    try:
        _check_listening(address)
        with warnings.catch_warnings():
            # JAX warns of the fork that is followed by exec at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            with kept():  # Ray takes SIGTERM over
                ray.init(**options)
    except Exception as error:  # Ray raises what it comes across, a bare Exception among it
        ray.shutdown()
        where = "a Ray cluster could not be started" if address is None else f"no Ray cluster at {address!r}"
        raise ConfigError(f"{where}: {str(error).strip().splitlines()[0]}") from None
    try:
        _check_room(request)
        yield
    finally:
        ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Raise if nothing listens at the address; Ray would try for minutes, and print every try."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


def _check_room(request: Request) -> None:
    """Raise if no node can run a task; Ray would wait for one for ever."""
    nodes = _nodes()
    if not any(_slots(node, request) for node in nodes):
        have = "; ".join(str(Request(node.get("CPU", 0.0), node.get("GPU", 0.0))) for node in nodes)
        raise ConfigError(f"a task asks for {request}, but the nodes of the Ray cluster have {have}")


def _nodes() -> list[Mapping[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _slots(node: Mapping[str, float], request: Request) -> int:
    """Tasks a node runs at the same time."""
    slots = node.get("CPU", 0.0) / request.cpus
    if request.gpus:
        slots = min(slots, node.get("GPU", 0.0) / request.gpus)
    return int(slots + 1e-9)


def _finished_tasks(work: Work, request: Request) -> Generator[Finished]:
    """The batches, as tasks of the cluster this process is connected to.

    The watcher is told what is known here: Ray starts tasks in the order they are given, so as many are taken
    to be under way as the cluster has room for.
    """
    import ray

    plan = work.plan
    slots = sum(_slots(node, request) for node in _nodes())
    order = interleaved(work.batches, max(1, slots))
    data = _absolute(os.environ.get("FLJAX_DATA"))
    setting = _Setting(data, str(Path.cwd()), request, keeps_programs())
    groups = {number: ray.put(plan.groups[number].cells) for number in {batch.group for batch in order}}
    remote = ray.remote(num_cpus=request.cpus, num_gpus=request.gpus, max_retries=RETRIES)(run_task)
    tasks: dict[Any, Batch] = {}
    begun = _Begun(plan, order, work.watcher)
    try:
        for batch in order:
            group = plan.groups[batch.group]
            given = _Task([cell.id for cell in batch.cells], group.size, plan.budget, group.staged)
            tasks[remote.remote(groups[batch.group], given, setting)] = batch
        begun.more(slots)
        while tasks:
            ready, _ = ray.wait(list(tasks), num_returns=1, timeout=POLL)
            for task in ready:
                batch = tasks.pop(task)
                finished = _finished(plan.groups[batch.group], batch, task)
                begun.over(finished)
                yield finished
            if work.stop():
                return
    finally:
        for task in tasks:
            ray.cancel(task, force=True)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _finished(group: Group, batch: Batch, task: Any) -> Finished:
    """The batch of a task that has ended, with its results or its error."""
    import ray

    try:
        outcome = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        said = in_words(cause if isinstance(cause, Exception) else error, group.need.largest.lower)
        return Finished(group, batch, [], 0.0, said)
    except ray.exceptions.OutOfMemoryError as error:  # of a worker that Ray ended for it
        return Finished(group, batch, [], 0.0, out_of_memory(error, group.need.largest.lower))
    except Exception as error:  # the worker or its node died too often, or its error cannot be sent
        return Finished(group, batch, [], 0.0, error)
    return Finished(group, batch, outcome.results, outcome.seconds_compile, here=outcome.here)


class _Begun:
    """Tells the watcher which programs are being compiled."""

    def __init__(self, plan: Plan, order: Sequence[Batch], watcher: Watcher) -> None:
        self._plan, self._watcher = plan, watcher
        self._waiting = deque(batch.group for batch in order)
        self._begun: set[int] = set()
        self._compiled: set[int] = set()

    def more(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            number = self._waiting.popleft()
            if number not in self._begun:
                self._begun.add(number)
                self._watcher.compiling(self._plan.groups[number])

    def over(self, finished: Finished) -> None:
        number = finished.group.number
        if finished.error is None and number not in self._compiled:
            self._begun.add(number)
            self._compiled.add(number)
            self._watcher.compiled(finished.group, finished.seconds_compile)
        self.more(1)


# --- in a worker --------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """Some cells of a group.

    Attributes:
        ids: of the cells.
        size: the number of cells that the group's program holds.
        budget: bytes it may use.
        staged: as in `Group`.
    """

    ids: list[str]
    size: int
    budget: int
    staged: bool


class _Setting(NamedTuple):
    """The surroundings that a worker takes over from the process that runs the sweep.

    Attributes:
        data: its FLJAX_DATA, or None.
        folder: where relative paths of the configuration begin, if the node has such a folder.
        request: of the task.
        keeps_programs: whether it keeps compiled programs, as a worker does then.
    """

    data: str | None
    folder: str
    request: Request
    keeps_programs: bool


class _Outcome(NamedTuple):
    """The result of a task.

    Attributes:
        results: one per cell.
        seconds_compile: of the group's program in this worker.
        here: device and versions.
    """

    results: list[CellResult]
    seconds_compile: float
    here: dict[str, Any]


# Of this worker process: Ray gives it one task after the other.
_known = Known()
_programs: OrderedDict[Any, tuple[Group, GroupProgram]] = OrderedDict()
_shared = SharedPrograms()


def run_task(cells: list[Cell], task: _Task, setting: _Setting) -> _Outcome:
    """Run some cells of a group; the data and the program stay for the next task.

    Args:
        cells: all cells of the group, because its program depends on them.
        task: the cells to run, and the size of the program.
        setting: of the process that runs the sweep.
    """
    prepare(setting.request)
    if setting.data is not None:
        os.environ["FLJAX_DATA"] = setting.data
    load_plugins(cells[0].config.plugins)
    settle(cells[0].config)
    if setting.keeps_programs:
        keep_programs()
    with chdir(setting.folder) if Path(setting.folder).is_dir() else nullcontext():
        group, program = _program(cells, task)
    wanted = set(task.ids)
    batch = Batch(group.number, [cell for cell in group.cells if cell.id in wanted])
    results = run_in_parts(group, batch, program)
    return _Outcome(results, program.seconds_compile, environment(program.devices))


def prepare(request: Request) -> None:
    """Keep JAX within what the task asked for; without effect once it has started in this process."""
    # XLA takes the number of its threads on a CPU from here, not from OMP_NUM_THREADS, which Ray sets.
    os.environ["NPROC"] = str(math.ceil(request.cpus))
    if not request.gpus:
        # Ray leaves the node's GPUs visible to tasks that asked for none.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif request.gpus < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * request.gpus:.3f}")


def _program(cells: list[Cell], task: _Task) -> tuple[Group, GroupProgram]:
    key = (tuple(cell.id for cell in cells), task.size, task.budget, task.staged)
    if key not in _programs:
        while len(_programs) >= KEPT:
            _programs.popitem(last=False)
        # This node, or its part of a GPU, may have less memory than the plan was made for.
        budget = min(task.budget, device_memory())
        (group,) = make_plan(Sweep("", {}, cells, {}), budget=budget, known=_known).groups
        group = dataclasses.replace(group, size=task.size, staged=task.staged)
        _programs[key] = group, compile_within(group, budget, _shared)
    _programs.move_to_end(key)
    return _programs[key]
