"""A rough estimate of the time of a plan, without running it."""

from fljax.host.speed import machine_flops
from fljax.sweeps.plan import Group, Plan

# Of the speed of a large matrix product, what whole rounds reach; what a group takes to compile, also where
# others share stages of its rounds; and what a round costs besides: measured, see benchmarks/README.md.
EFFICIENCY = 0.2
SECONDS_COMPILE, SECONDS_COMPILE_STAGED = 6.0, 2.0
OVERHEAD = 2e-4


def estimate_seconds(plan: Plan, workers: int) -> list[float]:
    """Seconds of every group on its share of the machine: compiling, and the rounds of its cells."""
    speed = machine_flops() * EFFICIENCY

    def of(group: Group) -> float:
        rounds = group.config.rounds * len(group.cells)
        overhead = OVERHEAD * group.config.rounds * len(group.batches) / workers
        compiling = SECONDS_COMPILE_STAGED if group.staged else SECONDS_COMPILE
        return compiling / workers + rounds * group.round_flops / speed + overhead

    return [of(group) for group in plan.groups]
