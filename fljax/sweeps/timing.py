"""A rough estimate of the time of a plan, without running it."""

import time

import jax
import jax.numpy as jnp

from fljax.sweeps.plan import Group, Plan

# Of the speed of a large matrix product, what whole rounds reach; and what one operation more costs on a CPU
# and on an accelerator: measured, see benchmarks/README.md.
EFFICIENCY = 0.2
SECONDS_COMPILE = 6.0
OVERHEAD = 2e-4


def machine_flops(size: int = 1024) -> float:
    """Operations per second of a large float32 matrix product."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(times)


def estimate_seconds(plan: Plan, workers: int) -> list[float]:
    """Seconds of every group on its share of the machine: compiling, and the rounds of its cells."""
    speed = machine_flops() * EFFICIENCY

    def of(group: Group) -> float:
        rounds = group.config.rounds * len(group.cells)
        overhead = OVERHEAD * group.config.rounds * len(group.batches) / workers
        return SECONDS_COMPILE / workers + rounds * group.round_flops / speed + overhead

    return [of(group) for group in plan.groups]
