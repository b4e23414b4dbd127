"""Many runs as a handful of programs: axes, planner, batched programs, executors, results."""

from fljax.errors import SweepError
from fljax.sweeps.axes import Sweep, load_sweep, make_sweep
from fljax.sweeps.cells import Cell
from fljax.sweeps.executors.base import Executor, Finished, Watcher, Work
from fljax.sweeps.executors.threads import Threads
from fljax.sweeps.plan import Plan, make_plan
from fljax.sweeps.run import run_plan, sweep

__all__ = [
    "Cell",
    "Executor",
    "Finished",
    "Plan",
    "Sweep",
    "SweepError",
    "Threads",
    "Watcher",
    "Work",
    "load_sweep",
    "make_plan",
    "make_sweep",
    "run_plan",
    "sweep",
]
