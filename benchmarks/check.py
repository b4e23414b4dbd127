"""Has anything become slower? Ratios now against those kept for this kind of machine.

python benchmarks/check.py            # `make bench-check`: compare, and exit with 1 if something is slower
python benchmarks/check.py --keep     # keep what is measured now, where the machine is quiet

Ratios, because seconds depend on the day: of whole rounds the best PyTorch loop's seconds over fljax's, in
turns in the same run, where PyTorch is installed, and the share of the arithmetic's floor; of rules the share
of the bandwidth of a copy. Something is slower if its ratio is below `--allowed` of the kept one in
two measurements, since one may have met another program. Not part of the tests: timings are none.
"""

import argparse
import json
import platform
import re
import sys
from pathlib import Path

import jax

from fljax.bench import grid, jobs, measure, rounds
from fljax.bench.torch_loop import NAME
from fljax.host.cores import count_cores
from fljax.simulation.environment import environment

KEPT = Path(__file__).parent / "results" / "check"
RULES = ("mean", "median", "trimmed_mean", "krum", "fltrust", "geometric_median", "nnm", "clip")


def machine() -> str:
    """The kind of this machine, as a file's name."""
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else _processor()
    return re.sub(r"[^a-z0-9]+", "_", f"{kind} {count_cores()} cores".lower()).strip("_")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def ratios_of(found: list[measure.Row]) -> dict[str, float]:
    """The ratios of one job's rows: to the fastest way to write it in PyTorch, and to the floor."""
    ours, *others = found
    if ours["status"] != "ok":
        return {}
    peers = [row["ratio"] for row in others if row["status"] == "ok" and row["who"].startswith(NAME)]
    against = {f"{ours['job']}, against {NAME}": min(peers)} if peers else {}
    return {**against, f"{ours['job']}, of the floor": ours["of_floor"]}


def measured(planned: list[jobs.Job], rules: tuple[str, ...], limits: measure.Limits) -> dict[str, float]:
    """All ratios; the larger, the better."""
    found: dict[str, float] = {}
    for _, rows in rounds.measure_jobs(planned, limits, compared=True):
        found |= ratios_of(rows)
    devices = grid.find_devices([])
    for _, rows in measure.measure(grid.plan(rules) if rules else [], devices, 0.2, limits):
        found |= {f"{row['rule']}, of a copy": row["of_copy"] for row in rows if row["status"] == "ok"}
    return found


def slower(now: dict[str, float], kept: dict[str, float], allowed: float) -> list[str]:
    """The names whose ratio has fallen below the allowed share of the kept one."""
    return [name for name, value in now.items() if name in kept and value < allowed * kept[name]]


def main() -> int:
    """Measure, compare or keep, and say so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--allowed", type=float, default=0.8)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each side")
    given = parser.parse_args()
    path, limits = KEPT / f"{machine()}.json", measure.Limits(20, given.seconds)
    if not given.keep and not path.exists():
        print(f"nothing kept for {machine()}: measure with --keep on a quiet machine first")
        return 2
    planned, before = jobs.plan(preset="paper"), measure.load_average()
    now = measured(planned, RULES, limits)
    if given.keep:
        about = {**environment(), "load_average": before, "seconds": given.seconds}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**about, "ratios": now}, indent=1) + "\n")
        print(f"kept: {path}")
        return 0
    kept = json.loads(path.read_text())["ratios"]
    suspected = slower(now, kept, given.allowed)
    if suspected:
        again = [job for job in planned if any(name.startswith(f"{job.name}, ") for name in suspected)]
        rules = tuple(rule for rule in RULES if f"{rule}, of a copy" in suspected)
        # The better of two.
        for name, value in measured(again, rules, limits).items():
            now[name] = max(now.get(name, 0.0), value)
    found = slower(now, kept, given.allowed)
    for name, value in now.items():
        mark = "  slower" if name in found else ""
        print(f"{name:60} {value:7.2f}   kept {kept.get(name, float('nan')):7.2f}{mark}")
    for name in kept.keys() - now.keys():
        print(f"{name:60} not measured")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
