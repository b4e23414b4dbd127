"""Measurements: compile time apart, medians of blocked calls, floors of the same size, memory."""

import inspect
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.aggregators import PRE_AGGREGATORS
from fljax.bench import peers
from fljax.bench.grid import COUNTS, Cell, device_name, model_facts, resolve
from fljax.errors import first_line
from fljax.host.cores import count_cores
from fljax.simulation.environment import environment
from fljax.simulation.memory import is_out_of_memory, out_of_memory

Row = dict[str, Any]
# What to do before a call, and the call, which is timed and returns when its result is there.
Side = tuple[Callable[[], tuple[Any, ...]], Callable[..., Any]]
# Calls of one side before it is the other's turn. One at a time would leave each side the other's cache.
TURN = 5
TIMES = ("calls", "seconds_median", "seconds_min", "seconds_q1", "seconds_q3")
COLUMNS = (
    *("rule", "variant", "n", "d", "dtype", "device", "num_malicious", "hyper", "status", "reason"),
    *("seconds_compile", *TIMES, "matrix_bytes", "gb_per_s"),
    *("read_seconds", "copy_seconds", "fresh_copy_seconds", "of_read", "of_copy"),
    *("program_bytes", "memory_multiple", "device_peak_bytes"),
    *("peer", *(f"peer_{name}" for name in TIMES), "ratio", "difference", "peer_note"),
)


class Limits(NamedTuple):
    """The most calls after the warm-up, and the most seconds, that each side of a cell takes."""

    repeats: int
    seconds: float


class Stack(NamedTuple):
    """The inputs of all rules at one size: (n, d) updates, other arrays by name, and the floors' seconds."""

    updates: Array
    arrays: Mapping[str, Array]
    floors: Mapping[str, float]


def facts(command: str, limits: Limits, peer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Facts behind the figures besides the code: machine, versions, threads, the command to repeat them."""
    devices = [f"{device_name(device)}: {device.device_kind}" for device in jax.devices()]
    machine = {"machine": platform.machine(), "cores": count_cores(), "devices": devices}
    busy = {"load_average": load_average()}
    flags = {"xla_flags": os.environ.get("XLA_FLAGS", "")}
    return {"command": command, **limits._asdict(), **environment(), **machine, **busy, **flags, "peer": peer}


def load_average() -> float | None:
    """Programs that wanted a core in the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def draw(n: int, d: int, flipped: int) -> np.ndarray:
    """(n, d) float32: a common direction and noise, the last `flipped` rows with the opposite sign."""
    random = np.random.default_rng(0)
    direction = 0.5 * random.standard_normal(d, dtype=np.float32)
    rows = random.standard_normal((n, d), dtype=np.float32)
    rows += direction
    rows[n - flipped :] *= -1
    return rows


def make_stack(n: int, d: int, flipped: int, dtype: str, device: jax.Device, limits: Limits) -> Stack:
    """Draw the updates, put them on the device, and time reading and copying that many bytes there."""
    put = partial(jax.device_put, device=device)
    updates = put(draw(n, d, flipped)).astype(dtype)
    zero = put(jnp.zeros(d, dtype))
    arrays = {
        "root_update": put(draw(2, d, 0)[1]).astype(dtype),
        "center": zero,
        "params": zero,
        "history": updates,
        "weights": put(jnp.ones(n, dtype)),
        "scores": put(jnp.zeros(n, dtype)),
        "key": put(jax.random.key(0)),
        **put(model_facts(d)),
    }
    # float32 whatever the type, as many bytes: on a CPU some types are slow for another reason than memory.
    x = put(jnp.ones((n, -(-updates.nbytes // (4 * n))), jnp.float32))
    return Stack(updates, arrays, _floors(x, limits))


def _floors(x: Array, limits: Limits) -> dict[str, float]:
    """Median times of reading `x` (the faster of `ones @ x` and its rows' sums of squares) and copying it.

    copy: into a buffer that was there before, the donated result of the last call. fresh copy: into a new
    one, which on a CPU costs more in page faults than the copying.
    """
    ones = jnp.ones_like(x[:, 0])
    reuse = jax.jit(lambda x, out: jnp.copy(x), donate_argnums=1, keep_unused=True)
    last = [jnp.copy(x)]

    def into_last(out: Array) -> None:
        last.append(jax.block_until_ready(reuse(x, out)))

    def median(prepare: Callable[[], tuple[Array, ...]], call: Callable[..., Any]) -> float:
        return float(np.median(repeat([(prepare, call)], [timed((prepare, call))[0]], limits)[0]))

    product = median(lambda: (ones, x), _blocked(jax.jit(jnp.matmul)))
    squares = median(lambda: (x, x), _blocked(jax.jit(partial(jnp.einsum, "ij,ij->i"))))
    return {
        "read_seconds": min(product, squares),
        "copy_seconds": median(lambda: (last.pop(),), into_last),
        "fresh_copy_seconds": median(lambda: (x,), _blocked(jax.jit(jnp.copy))),
    }


def _blocked(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: jax.block_until_ready(function(*args))


def timed(side: Side) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    prepare, call = side
    arguments = prepare()
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def repeat(sides: Sequence[Side], first: Sequence[float], limits: Limits) -> list[list[float]]:
    """The times of every side, in turns so that another program's noise hits all of them.

    The warm-up, `first`, counts as used; it is the only time of a side that has no seconds left after it,
    because a call under way is never cut off.
    """
    times = [[seconds] for seconds in first]

    def goes_on(own: list[float]) -> bool:
        return len(own) <= limits.repeats and sum(own) < limits.seconds

    while any(map(goes_on, times)):
        for side, own in zip(sides, times, strict=True):
            for _ in range(TURN):
                if goes_on(own):
                    own.append(timed(side)[0])
    return [own[1:] or own for own in times]


def statistics_of(times: Sequence[float], prefix: str = "") -> Row:
    """The columns TIMES."""
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    values = (len(times), median, min(times), low, high)
    return {f"{prefix}{name}": value for name, value in zip(TIMES, values, strict=True)}


def _difference(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference of two results relative to the second one's norm; NaN if they do not compare."""
    a, b = np.asarray(ours, np.float64), theirs
    return float(np.max(np.abs(a - b)) / max(np.linalg.norm(b), 1e-300)) if a.shape == b.shape else math.nan


def measure(
    cells: Sequence[Cell],
    devices: Mapping[str, jax.Device],
    fraction: float,
    limits: Limits,
    compared: bool = False,
) -> Iterator[tuple[int, list[Row]]]:
    """Measure cell by cell.

    Args:
        cells: as `grid.plan` orders them.
        devices: by name.
        fraction: share of the rows that point the other way.
        limits: of each side of a cell.
        compared: whether to time ByzFL's rules too.

    Yields:
        The cell's number and its rows; one that cannot be measured says why.
    """
    place, stack, failure = None, None, ""
    for number, cell in enumerate(cells):
        # What is yielded is computed inside, so that the caller never runs with 64-bit types switched on.
        with jax.enable_x64(cell.dtype == "float64"):
            here = (*cell.work[:2], cell.dtype, cell.device)
            if place != here:
                place, stack = here, None  # the last one is freed before the next is made
                try:
                    n, d, dtype, device = here
                    stack = make_stack(n, d, int(fraction * n), dtype, devices[device], limits)
                except Exception as error:  # out of memory, most likely; the other sizes may fit
                    failure = named(error)
            rows = measure_cell(cell, stack, limits, compared) if stack else [_row(cell, "failed", failure)]
        yield number, rows


def named(error: Exception) -> str:
    """An error in one line."""
    if is_out_of_memory(error):
        return first_line(out_of_memory(error, "take fewer rows (--n) or columns (--d)"))
    return f"{type(error).__name__}: {first_line(error)}"


def _row(cell: Cell, status: str, reason: str = "") -> Row:
    (n, d, *_), place = cell.work, {"dtype": cell.dtype, "device": cell.device}
    said = {"rule": cell.rule, "variant": "", "n": n, "d": d, **place, "status": status, "reason": reason}
    return dict.fromkeys(COLUMNS) | said


def measure_cell(cell: Cell, stack: Stack, limits: Limits, compared: bool = False) -> list[Row]:
    """The rows of one cell: for each pair with the peer, and for a pre-aggregator with its input donated."""
    try:
        function, names, hyper = resolve(cell)
    except ValueError as error:
        return [_row(cell, "refused", first_line(error))]
    except Exception as error:
        return [_row(cell, "failed", named(error))]
    takes = inspect.signature(function).parameters
    arrays = {name: stack.arrays[name] for name in names}
    rows = []
    for pair in (peers.pairs(cell.rule, cell.work.n, hyper) if compared else []) or [peers.NO_PAIR]:
        # An override that the rule does not take is left out; the difference then shows it.
        values = hyper | {k: v for k, v in pair.override.items() if k in takes}
        bound = partial(function, **values)
        for donate in (False, True) if cell.rule in PRE_AGGREGATORS else (False,):
            row = _row(cell, "ok")
            row["variant"] = ", ".join(filter(None, (pair.label, "donated" * donate)))
            row["num_malicious"] = next((values[name] for name in COUNTS if name in values), None)
            row["hyper"] = json.dumps(values)
            try:
                result: Any = jax.eval_shape(bound, stack.updates, **arrays) if donate else stack.updates
                if (result.shape, result.dtype) != (stack.updates.shape, stack.updates.dtype):
                    continue  # it cannot take the donated buffer's place
                row |= _time(stack, bound, arrays, donate, limits, pair)
            except ValueError as error:
                row |= {"status": "refused", "reason": first_line(error)}
            except Exception as error:  # whatever a rule or its compilation dies of, the grid goes on
                row |= {"status": "failed", "reason": named(error)}
            rows.append(row)
    return rows


def _time(
    stack: Stack,
    bound: Callable[..., Array],
    arrays: Mapping[str, Array],
    donate: bool,
    limits: Limits,
    pair: peers.Pair,
) -> Row:
    start = time.perf_counter()
    program = jax.jit(bound, donate_argnums=0 if donate else ()).lower(stack.updates, **arrays).compile()
    row: Row = {"seconds_compile": time.perf_counter() - start}
    copy = _blocked(jax.jit(jnp.copy))

    def prepare() -> tuple[Array]:
        return (copy(stack.updates) if donate else stack.updates,)

    sides: list[Side] = [(prepare, _blocked(partial(program, **arrays)))]
    seconds, ours = timed(sides[0])
    first = [seconds]
    if pair is not peers.NO_PAIR:
        row |= {"peer": peers.NAME, "peer_note": pair.note}
        try:
            theirs = peers.sides(pair, stack.updates)
            seconds, answer = timed(theirs)
            row["difference"] = _difference(ours, peers.to_numpy(answer))
            sides, first = [*sides, theirs], [*first, seconds]
            if stack.updates.dtype != peers.DTYPE:
                row["peer_note"] = "; ".join(filter(None, (pair.note, f"{peers.NAME} computes in float32")))
        except Exception as error:  # what the peer cannot do must not cost our figure
            row["peer_note"] = first_line(error)
    ours = answer = None  # frees both before the repetitions
    times = repeat(sides, first, limits)
    row |= statistics_of(times[0])
    if len(times) > 1:
        row |= statistics_of(times[1], "peer_")
        row["ratio"] = row["peer_seconds_median"] / row["seconds_median"]
    size, median = stack.updates.nbytes, row["seconds_median"]
    row |= {"matrix_bytes": size, "gb_per_s": size / median / 1e9, **stack.floors}
    row |= {f"of_{floor}": stack.floors[f"{floor}_seconds"] / median for floor in ("read", "copy")}
    (device,) = stack.updates.devices()
    row["device_peak_bytes"] = peak_bytes(device)
    row["program_bytes"] = program_bytes(program)
    if row["program_bytes"] is not None:
        row["memory_multiple"] = row["program_bytes"] / size
    return row


def peak_bytes(device: jax.Device) -> int | None:
    """The most memory of the device that this process has used; None where it does not say."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def program_bytes(program: Any) -> int | None:
    """Arguments, results and temporaries of a compiled program; None where the compiler does not say."""
    memory = program.memory_analysis()
    if memory is None:
        return None
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(used - memory.alias_size_in_bytes)
