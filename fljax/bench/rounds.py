"""Measurements of whole rounds: shares, the floor of the arithmetic, and peers in the same run."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import jax
import numpy as np

from fljax.bench.jobs import Job
from fljax.bench.measure import (
    TIMES,
    Limits,
    Row,
    Side,
    load_average,
    named,
    peak_bytes,
    program_bytes,
    repeat,
    statistics_of,
    timed,
)
from fljax.bench.round_peers import Contender, contenders
from fljax.engine.mesh import put
from fljax.host.speed import machine_flops
from fljax.simulation.assembly import make_parts
from fljax.simulation.experiment import Experiment, assemble, compile_experiment
from fljax.simulation.memory import gradient_of

SHARES = ("gradients", "attack", "rule", "evaluation")
COLUMNS = (
    *("job", "who", "status", "reason", "vary", "value", "clients", "num_params", "batch", "steps"),
    *("seconds_compile", *TIMES, "cpu_seconds_median", "rounds_per_second", "examples_per_second"),
    *(*SHARES, "seconds_evaluation", "program_bytes", "device_peak_bytes"),
    *("round_flops", "machine_flops", "of_floor", "ratio", "load_average"),
)
# A call is so many rounds that it takes at least this long: the clock and the call itself take microseconds.
LEAST_SECONDS = 0.02
# Peers, and ways to write one, that a first look finds slower than the best by this factor are left at that.
HOPELESS = 1.4
LOOKS = 2
# Rows and columns of the matrices whose product is the machine's speed.
PRODUCT, LARGE_PRODUCT = 2048, 8192
OURS = "fljax"
NO_ATTACK: dict[str, Any] = {"attack": {"name": "none"}}


class Rounds:
    """Compiled rounds of an experiment that go on with their own state, up to `eval_every` of them in a call.

    Attributes:
        count: rounds in a call.
        seconds_compile: wall time of compiling.
        bytes: of the program of the rounds; None where the compiler does not say.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._state, data = experiment.state
        program = compile_experiment(experiment)
        dataset, self.count = experiment.dataset, experiment.config.eval_every
        test = put((dataset.test_x, dataset.test_y), experiment.mesh)
        self._bound = program.bind(data, test, self.count, experiment.beside)
        self.seconds_compile = program.seconds_compile
        self.bytes = program_bytes(program.chunk)

    def __call__(self) -> None:
        """`count` rounds."""
        self._state, metrics = self._bound.chunk(
            self._state, self._bound.blank, np.int32(0), np.int32(self.count)
        )
        jax.block_until_ready((self._state.params, metrics))

    def evaluate(self) -> None:
        """One evaluation."""
        jax.block_until_ready(self._bound.evaluate(self._state))


def medians(rounds: Mapping[Any, Rounds], repeats: int) -> dict[Any, float]:
    """The median seconds of a round of each, over `repeats` calls after a warm-up, in turns."""
    sides = [_side(each) for each in rounds.values()]
    times = repeat(sides, [timed(side)[0] for side in sides], Limits(repeats, math.inf))
    return {
        name: statistics.median(own) / each.count
        for (name, each), own in zip(rounds.items(), times, strict=True)
    }


def _side(call: Callable[[], object]) -> Side:
    return tuple, call


def measure_jobs(
    jobs: Sequence[Job], limits: Limits, compared: bool = False
) -> Iterator[tuple[int, list[Row]]]:
    """Measure job by job.

    Args:
        jobs: as `jobs.plan` makes them.
        limits: of each side of a job.
        compared: whether peers do the same work.

    Yields:
        The job's number and its rows; one that cannot be measured says why.
    """
    for number, job in enumerate(jobs):
        try:
            rows = measure_job(job, limits, compared)
        except Exception as error:  # whatever a job dies of, the others go on
            rows = [_row(job, OURS) | {"status": "failed", "reason": named(error)}]
        yield number, rows


def _row(job: Job, who: str) -> Row:
    value = job.value if isinstance(job.value, int | float) else None
    return dict.fromkeys(COLUMNS) | {
        "job": job.name,
        "who": who,
        "status": "ok",
        "reason": "",
        "vary": job.vary,
        "value": value,
    }


class _Clocked:
    """A side of a job, called so often that it takes `LEAST_SECONDS`; remembers seconds of the processor."""

    def __init__(self, call: Callable[[], object], rounds: int = 1) -> None:
        self._call, self.rounds, self.calls = call, rounds, 1
        self.cpu: list[float] = []
        self.calls = max(1, math.ceil(LEAST_SECONDS / max(timed(_side(self))[0], 1e-9)))

    def __call__(self) -> None:
        begin = time.process_time()
        for _ in range(self.calls):
            self._call()
        self.cpu.append(time.process_time() - begin)

    def row(self, times: Sequence[float]) -> Row:
        """The figures of a round, or of an evaluation, from the seconds of the last calls."""
        each = self.rounds * self.calls
        found = statistics_of([seconds / each for seconds in times])
        cpu = statistics.median(self.cpu[-len(times) :]) / each
        return found | {"cpu_seconds_median": cpu, "load_average": load_average()}


def measure_job(job: Job, limits: Limits, compared: bool = False) -> list[Row]:
    """The rows of one job: fljax, and every peer, or why it is left out."""
    with ExitStack() as stack:
        return _measured(job, limits, compared, stack)


def _measured(job: Job, limits: Limits, compared: bool, stack: ExitStack) -> list[Row]:
    dataset = job.dataset()

    def assembled(**overrides: Any) -> Experiment:
        return assemble(job.config(**overrides), dataset=dataset)

    experiment = assembled()
    sizes = _sizes(job, experiment)
    # What a round takes less without the attack is the attack, and so on.
    programs = {"whole": Rounds(experiment)}
    if experiment.config.attack.name != "none":
        programs["honest"] = Rounds(assembled(**NO_ATTACK))
    if experiment.config.aggregator.name != "mean":
        programs["averaged"] = Rounds(assembled(**NO_ATTACK, aggregator={"name": "mean"}))
    whole = programs["whole"]
    sides = {name: _paced(each) for name, each in programs.items()}
    sides["evaluation"] = _Clocked(whole.evaluate)
    found, left_out = contenders(experiment) if compared else ([], {})
    for each in found:
        stack.callback(each.close)
    looks = {each.name: _looked_at(each) for each in found}
    sides |= {each.name: looks[each.name][0] for each in found if not _hopeless(each, found, looks)}
    turns = [_side(side) for side in sides.values()]
    times = dict(zip(sides, repeat(turns, [timed(turn)[0] for turn in turns], limits), strict=True))
    figures = {name: side.row(times[name]) for name, side in sides.items()}

    def speeds(row: Row) -> Row:
        per_second = 1 / row["seconds_median"]
        return row | {
            "rounds_per_second": per_second,
            "examples_per_second": per_second * sizes["clients"] * sizes["steps"] * sizes["batch"],
        }

    seconds = {name: row["seconds_median"] for name, row in figures.items()}
    ours = speeds(_row(job, OURS) | sizes | figures["whole"]) | _shares(seconds)
    ours |= {
        "seconds_compile": whole.seconds_compile,
        "seconds_evaluation": seconds["evaluation"],
        "program_bytes": whole.bytes,
        "device_peak_bytes": peak_bytes(jax.devices()[0]),
        "machine_flops": _machine_flops(),
    }
    ours["of_floor"] = ours["round_flops"] / ours["machine_flops"] / seconds["whole"]
    rows = [ours]
    for each in found:
        side, looked = looks[each.name]
        row = speeds(_row(job, each.name) | sizes | (figures.get(each.name) or side.row(looked)))
        row["ratio"] = row["seconds_median"] / seconds["whole"]
        row["reason"] = "" if each.name in figures else f"{LOOKS} calls: slower than the best of its library"
        rows.append(row | each.shares())
    return rows + [_row(job, name) | {"status": "left out", "reason": why} for name, why in left_out.items()]


def _paced(rounds: Rounds) -> _Clocked:
    """Rounds, as many in one call of the program as take `LEAST_SECONDS`, if it has so many."""
    most, rounds.count = rounds.count, 1
    rounds()
    wanted = LEAST_SECONDS / max(timed(_side(rounds))[0], 1e-9)
    rounds.count = max(1, min(most, math.ceil(wanted)))
    return _Clocked(rounds, rounds.count)


def _looked_at(contender: Contender) -> tuple[_Clocked, list[float]]:
    """A peer as a side, and what its first calls after a warm-up take."""
    side = _Clocked(contender.step)
    return side, [timed(_side(side))[0] for _ in range(LOOKS)]


def _hopeless(contender: Contender, found: Sequence[Contender], looks: Mapping[str, Any]) -> bool:
    """Whether another way to write the same peer is so much faster that this one need not be measured."""
    fastest = {each.name: min(looks[each.name][1]) / looks[each.name][0].calls for each in found}
    best = min(fastest[each.name] for each in found if each.library == contender.library)
    return fastest[contender.name] > HOPELESS * best


def _sizes(job: Job, experiment: Experiment) -> Row:
    """The columns that say how much work a round is."""
    parts = make_parts(experiment.config, experiment.dataset)
    gradient, steps = gradient_of(parts), parts.mean_steps
    # As a model grows, its parameters do.
    grown = {"value": gradient.num_params} if job.vary.startswith("model.") else {}
    return grown | {
        "clients": parts.cohort_size,
        "num_params": gradient.num_params,
        "batch": gradient.batch,
        "steps": steps,
        "round_flops": gradient.flops * parts.cohort_size * steps,
    }


def _shares(seconds: Mapping[str, float]) -> Row:
    """Shares of a round's time; those of attack and rule are differences, which noise can make negative."""
    whole = seconds["whole"]
    honest = seconds.get("honest", whole)
    averaged = seconds.get("averaged", honest)
    parts = (averaged, whole - honest, honest - averaged, seconds["evaluation"])
    return {name: part / whole for name, part in zip(SHARES, parts, strict=True)}


def _machine_flops() -> float:
    """Operations per second of the machine's large matrix products."""
    return machine_flops(PRODUCT if jax.devices()[0].platform == "cpu" else LARGE_PRODUCT)


def exponents(rows: Sequence[Row]) -> dict[str, float]:
    """The exponents p of seconds ~ value^p, for every key that varies and everyone, by least squares."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["status"] == "ok" and row["value"] is not None:
            name = f"{row['vary']}, {row['who']}"
            points.setdefault(name, []).append((row["value"], row["seconds_median"]))
    fitted = {}
    for name, found in points.items():
        x, y = np.log(np.array(found)).T
        if len(set(x)) > 1:
            fitted[name] = float(np.polyfit(x, y, 1)[0])
    return fitted
