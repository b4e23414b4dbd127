"""Figures of fljax on an accelerator, in one command that needs no network.

python benchmarks/accelerator.py --budget 540 --out accelerator                          # the first call
python benchmarks/accelerator.py --budget 540 --out again --previous accelerator         # what is missing

From the root of a checkout, whose tests hold the references. Parts, in this order, until the budget is spent:

* checks: every rule and attack against its NumPy reference, on the device.
* rules: milliseconds and shares of the copy bandwidth at the paper's size, of some rules at larger ones.
* rounds: CNN, ResNet20, HAR, digits; shares, memory, the arithmetic's floor, PyTorch on the same device.
* sweep: 64 seeds as one program against one seed after the other.
* table3: the paper's Table III at full length, MNIST-0.5 first, for as long as there is time and data in
  FLJAX_DATA; a table that is stopped goes on in the next call.

Everything measured is in OUT/accelerator.json and OUT/accelerator.md after every row, the sweeps of Table III
in OUT/table3.tar. `--previous` takes over what an earlier call has finished. The last two parts need pandas
and pyarrow, the others do not. `--small` tries everything in a minute or two on a CPU.
"""

import argparse
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fljax.bench import grid, jobs, measure, rounds
from fljax.config.loading import apply_overrides
from fljax.errors import ConfigError, DataError, first_line
from fljax.host.cores import count_cores
from fljax.host.signals import InterruptError, Stop
from fljax.simulation.environment import environment
from fljax.simulation.lines import to_json

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
LARGE = ("mean", "median", "trimmed_mean", "fltrust", "krum")
TABLES = ("mnist_0.5", "mnist_0.1", "fashion_mnist", "uci_har", "ch_mnist", "cifar10")
# Seconds that a part must find left to begin its next row.
LEAST = {"checks": 30.0, "rules": 40.0, "rounds": 90.0, "sweep": 120.0, "table3": 60.0}
# What the last program under way and its checkpoint may take after the time is up.
RESERVE = 30.0
COLUMNS = {
    "checks": ("name", "of_tolerance", "ok"),
    "rules": ("name", "n", "d", "ms", "gb_per_s", "of_copy", "of_read", "seconds_compile", "reason"),
    "rounds": (
        *("name", "ms", "rounds_per_second", "ratio", "gradients", "attack", "rule", "evaluation"),
        *("of_floor", "seconds_compile", "reason"),
    ),
    "sweep": ("name", "seconds_run", "seconds_compile", "of_singles"),
    "table3": ("name", "cells", "of", "rounds_per_second", "reason"),
}


class Given:
    """The command line, and the time that is left."""

    def __init__(self, budget: float, out: Path, small: bool) -> None:
        self.out, self.small = out, small
        self._end = time.monotonic() + budget

    def left(self) -> float:
        return self._end - time.monotonic()


class Kept:
    """Rows by part, written after each; those of an earlier call are there from the start."""

    def __init__(self, out: Path, about: Row, previous: Path | None) -> None:
        self._out = out
        out.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, Row]] = {part: {} for part in PARTS}
        self._calls: list[Row] = [about]
        if previous is not None:
            found = json.loads((previous / "accelerator.json").read_text())
            self._calls = [*found["calls"], about]
            for part, rows in found["parts"].items():
                self.rows[part] = {row["name"]: row for row in rows}

    def add(self, part: str, row: Row) -> None:
        row = {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in row.items()}
        self.rows[part][row["name"]] = row
        print(part, *(f"{column}={_text(row.get(column))}" for column in COLUMNS[part]), flush=True)
        self.write()

    def write(self) -> None:
        parts = {part: list(rows.values()) for part, rows in self.rows.items()}
        content = {"calls": self._calls, "parts": parts}
        for name, text in (
            ("accelerator.json", to_json(content, indent=1) + "\n"),
            ("accelerator.md", self._markdown()),
        ):
            # A kill leaves the file before or the one after.
            path = self._out / f"{name}.new"
            path.write_text(text, encoding="utf-8")
            path.replace(self._out / name)

    def _markdown(self) -> str:
        device = ", ".join(dict.fromkeys(call["device"] for call in self._calls))
        lines = [f"# {device}", ""]
        for part, rows in self.rows.items():
            columns = COLUMNS[part]
            lines += [f"## {part}", "", "| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
            for row in rows.values():
                lines.append("| " + " | ".join(_text(row.get(name)) for name in columns) + " |")
            lines.append("")
        return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- parts: `(given, rows that are there by name) -> rows` ---------------------------------------------


def checks(given: Given, there: Mapping[str, Row]) -> Iterator[Row]:
    """The largest difference from the reference, as a share of what the tests tolerate."""
    sys.path.insert(0, str(ROOT))
    from tests.attacks import case as attack_case
    from tests.attacks.quadratic import attack_of, expected_by_rounds, sent_by_rounds
    from tests.attacks.table import DATA_CASES, TRAINING_CASES, UPDATE_CASES
    from tests.rules import case as rule_case
    from tests.rules.table import PRE_CASES, RULE_CASES

    def excess(found: Any, expected: Any, rtol: float, atol: float) -> float:
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        return float(np.max(np.abs(found - expected) / (atol + rtol * np.abs(expected)), initial=0.0))

    def rule(case: Any) -> float:
        pairs = zip(rule_case.on_samples(case), rule_case.expected_on_samples(case), strict=True)
        return max(excess(*pair, case.rtol[0], case.rtol[0] / 10) for pair in pairs)

    def sent(case: Any) -> float:
        results = attack_case.on_samples(case), attack_case.expected_on_samples(case)
        triples = zip(attack_case.SAMPLES, *results, strict=True)
        return max(
            excess(rows, expected, case.rtol, case.rtol * np.abs(updates).max())
            for (updates, _), rows, expected in triples
        )

    def data(case: Any) -> float:
        attack, worst = case.attack(), 0.0
        for x, y, is_copy in attack_case.BATCHES:
            poison = jax.jit(partial(attack.poison_data, **attack_case.told(attack)))
            poisoned = poison(x, y, is_copy, np.int32(1))
            for found, wanted in zip(poisoned, case.data(x, y, is_copy, 1, **case.hyper), strict=True):
                worst = max(worst, excess(found, wanted, 1e-6, 1e-12))
        return worst

    def training(case: Any) -> float:
        expected = expected_by_rounds(case.trained, **case.hyper)
        # By default the products of local training are as coarse as the device likes them.
        with jax.default_matmul_precision("highest"):
            return excess(sent_by_rounds(attack_of(case)), expected, 2e-5, 2e-5)

    def firsts(cases: Any) -> list[Any]:
        return list({case.name: case for case in reversed(cases)}.values())[::-1]

    todo: list[tuple[str, Callable[[Any], float], Any]] = [
        *((f"rule {case.name}", rule, case) for case in rule_case.first_rows(RULE_CASES + PRE_CASES)),
        *((f"attack {case.name}", sent, case) for case in firsts([c for c in UPDATE_CASES if c.rows])),
        *((f"poisoning {case.name}", data, case) for case in firsts(DATA_CASES)),
        *((f"training {case.name}", training, case) for case in firsts(TRAINING_CASES)),
    ]
    if given.small:
        todo = todo[:: len(todo) // 6]
    todo = [each for each in todo if each[0] not in there]

    def one(each: tuple[str, Callable[[Any], float], Any]) -> Row | None:
        name, check, case = each
        if given.left() < LEAST["checks"]:
            return None
        try:
            worst = check(case)
        except Exception as error:
            return {"name": name, "of_tolerance": None, "ok": False, "reason": measure.named(error)}
        return {"name": name, "of_tolerance": worst, "ok": worst <= 1.0}

    # Nearly all of it is compiling, which other threads do at the same time.
    with ThreadPoolExecutor(count_cores()) as pool:
        yield from filter(None, pool.map(one, todo))


def rules(given: Given, there: Mapping[str, Row]) -> Iterator[Row]:
    """The rules' times; a name has the size."""
    sizes = [(100, 139_960), (100, 1_000_000), (1_000, 1_000_000)]
    if given.small:
        sizes = [(8, 500), (8, 1_000), (16, 1_000)]
    device = jax.devices()[0]
    name = grid.device_name(device)
    for number, (n, d) in enumerate(sizes):
        few = LARGE[:2] if given.small else LARGE if number else ()
        cells = grid.plan(list(few), n=[n], d=[d])
        cells = [cell for cell in cells if f"{cell.rule} ({n:,} × {d:,})" not in there]
        limits = measure.Limits(20, 0.01 if given.small else 0.5)
        for _, found in measure.measure(cells, {name: device}, 0.2, limits):
            for row in found:
                row["name"] = f"{row['rule']} ({n:,} × {d:,})" + (row["variant"] and f", {row['variant']}")
                row["ms"] = row["seconds_median"] and 1e3 * row["seconds_median"]
                yield row
            if given.left() < LEAST["rules"]:
                return


def round_jobs(small: bool) -> list[jobs.Job]:
    """Those of the paper's preset, and the residual network with all of its clients."""
    found = jobs.plan(preset="paper")
    if small:
        tiny = {"num_clients": 4, "local.batch_size": 2, "root.size": 2}
        (job,) = (job for job in found if job.values["model"]["name"] == "logistic_regression")
        made = jobs.Made((5,), 3, each=4, test=8)
        return [job._replace(values=apply_overrides(job.values, tiny), made=made)]
    residual = next(job for job in found if job.values["model"]["name"] == "resnet20")
    hundred = apply_overrides(residual.values, {"num_clients": 100})
    return [*found, residual._replace(name=f"{residual.name}, 100 clients", values=hundred)]


def whole_rounds(given: Given, there: Mapping[str, Row]) -> Iterator[Row]:
    """What `fljax bench rounds --preset paper --peers` measures."""
    for job in round_jobs(given.small):
        if f"{job.name}: {rounds.OURS}" in there:
            continue
        if given.left() < LEAST["rounds"]:
            return
        limits = measure.Limits(10, 0.05 if given.small else 3.0)
        for _, found in rounds.measure_jobs([job], limits, compared=True):
            for row in found:
                row["name"] = f"{job.name}: {row['who']}"
                row["ms"] = row["seconds_median"] and 1e3 * row["seconds_median"]
                yield row


def many_seeds(given: Given, there: Mapping[str, Row]) -> Iterator[Row]:
    """As benchmarks/sweep.py measures it."""
    from sweep import time_singles, time_sweep

    from fljax.sweeps import load_sweep
    from fljax.sweeps.executors.base import default_workers

    if any(name.endswith("at once") for name in there):
        return
    few = {"rounds": 20, "sweep.seeds": 4} if given.small else {}
    sweep = load_sweep(ROOT / "configs" / "digits_seeds.toml", few)
    singles = time_singles(sweep, 2 if given.small else 8, 1)
    yield {"name": "one seed after the other", **singles}
    found = time_sweep(sweep, default_workers(), None, 1)
    of_singles = found["seconds_run"] / singles["seconds_run"]
    yield {"name": f"{found['cells']} seeds at once", **found, "of_singles": of_singles}


class Deadline(Stop):
    """Asks to stop, as SIGTERM does, when the time is up."""

    def __init__(self, given: Given) -> None:
        self._given = given

    @property
    def number(self) -> int:  # type: ignore[override]
        return 15 if self._given.left() < RESERVE else 0


def table3(given: Given, there: Mapping[str, Row]) -> Iterator[Row]:
    """Table III, one data set after the other; a row says how far it is."""
    import pandas as pd

    from fljax.sweeps import Threads, Watcher, load_sweep, make_plan, run_plan
    from fljax.sweeps.executors.base import default_workers

    class Counter(Watcher):
        """Counts the rounds of cells that are done."""

        rounds = 0

        def finished(self, finished: Any, rows: Any) -> None:
            self.rounds += sum(row["rounds"] for row in rows)

    small = {"data.name": "digits", "model.name": "mlp", "rounds": 10, "eval_every": 5, "num_clients": 10}
    small |= {"root.size": 20, "sweep.axes.attack": ["none"], "sweep.axes.aggregator": ["mean", "median"]}
    for table in TABLES[:1] if given.small else TABLES:
        name = f"table3_{table}"
        if given.left() < LEAST["table3"]:
            return
        if there.get(name, {}).get("cells", 0) == there.get(name, {}).get("of"):
            continue
        config, folder = ROOT / "configs" / "paper" / f"{name}.toml", given.out / "table3" / name
        try:
            plan = make_plan(load_sweep(config, small if given.small else {}), workers=default_workers())
        except (DataError, ConfigError) as error:  # its files are not there
            yield {"name": name, "reason": first_line(error)}
            continue
        begin, finished = time.monotonic(), Counter()
        try:
            run_plan(
                plan,
                folder,
                resume=folder.exists(),
                executor=Threads(default_workers()),
                watcher=finished,
                stop=Deadline(given),
            )
        except InterruptError:
            pass
        finally:
            with tarfile.open(given.out / "table3.tar.new", "w") as tar:
                tar.add(given.out / "table3", "table3")
            (given.out / "table3.tar.new").replace(given.out / "table3.tar")
        path, results = folder / "results.parquet", []
        if path.exists():  # a cell is done
            frame = pd.read_parquet(path)[["aggregator", "attack", "test_error"]]
            results = json.loads(frame.to_json(orient="records"))
        yield {
            "name": name,
            "cells": len(results),
            "of": len(plan.sweep.cells),
            "rounds_per_second": finished.rounds / (time.monotonic() - begin),
            "results": results,
        }


PARTS: dict[str, Callable[[Given, Mapping[str, Row]], Iterator[Row]]] = {
    "checks": checks,
    "rules": rules,
    "rounds": whole_rounds,
    "sweep": many_seeds,
    "table3": table3,
}


def main() -> None:
    """Do the parts one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument("--out", type=Path, default=Path("accelerator"))
    parser.add_argument("--previous", type=Path, help="OUT of an earlier call")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part only; may be repeated")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it on a CPU")
    words = parser.parse_args()
    # PyTorch uses the same device.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    given = Given(words.budget, words.out, words.small)
    about = {**environment(), "cores": count_cores(), "load_average": measure.load_average()}
    kept = Kept(words.out, {**about, "command": " ".join(sys.argv)}, words.previous)
    if words.previous is not None and (words.previous / "table3.tar").exists():
        with tarfile.open(words.previous / "table3.tar") as tar:
            tar.extractall(words.out, filter="data")
    for part in words.part or PARTS:
        if given.left() < LEAST[part]:
            print(f"{part}: no time left", flush=True)
            continue
        begin = time.monotonic()
        try:
            for row in PARTS[part](given, dict(kept.rows[part])):
                kept.add(part, row)
        except Exception as error:  # the other parts may do
            kept.add(part, {"name": "failed", "reason": measure.named(error)})
        print(f"{part}: {time.monotonic() - begin:.0f} s, {given.left():.0f} s left", flush=True)
    kept.write()


if __name__ == "__main__":
    main()
