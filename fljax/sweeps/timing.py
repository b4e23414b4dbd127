"""A rough estimate of the time of a plan, without running it."""

from fljax.host.speed import machine_flops
from fljax.sweeps.plan import Group, Plan

# Of the speed of a large matrix product, what whole rounds reach; and what one operation more costs on a CPU
# and on an accelerator: measured, see benchmarks/README.md.
EFFICIENCY = 0.2
SECONDS_COMPILE = 6.0
OVERHEAD = 2e-4


def estimate_seconds(plan: Plan, workers: int) -> list[float]:
    """Seconds of every group on its share of the machine: compiling, and the rounds of its cells."""
    speed = machine_flops() * EFFICIENCY

    def of(group: Group) -> float:
        rounds = group.config.rounds * len(group.cells)
        overhead = OVERHEAD * group.config.rounds * len(group.batches) / workers
        return SECONDS_COMPILE / workers + rounds * group.round_flops / speed + overhead

    return [of(group) for group in plan.groups]
