"""The search for the factor of a direction that does most damage, as a slow float64 loop."""

import math

import numpy as np

from tests.attacks.pools import mean, pool_of, square


def line_search(rows, malicious, rule, base, along, factors, num_steps, largest):
    """The best factor: those given, then steps up and down from the best, ever smaller; and all evaluated."""
    honest_mean = mean(pool_of(rows, malicious, "full"))
    best, moved, seen = factors[0], -1.0, []
    grid = [f for f in factors if f > 0][-2:]

    def attempt(factor):
        nonlocal best, moved
        stack = np.array(rows, np.float64)
        stack[np.asarray(malicious)] = base + factor * along
        deviation_ = math.sqrt(square(rule(stack) - honest_mean))
        seen.append((factor, deviation_))
        if deviation_ > moved:
            best, moved = factor, deviation_

    for factor in factors:
        attempt(factor)
    power = 0.5
    for step in range(num_steps):
        ratio = (grid[1] / grid[0]) ** power
        attempt(min(best * ratio if step % 2 == 0 else best / ratio, largest))
        if step % 2 == 1:
            power /= 2
    return best, seen


def redescending(stack, power=2):
    """A mean that long rows have little weight in, for NumPy and JAX: the best factor is in between."""
    weights = 1 / (1 + (stack**2).mean(1) / 4) ** power
    return (weights[:, None] * stack).sum(0) / weights.sum()
