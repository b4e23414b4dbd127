"""Min-Max: rows, reference and wrong versions."""

import math

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.pools import deviation, mean, pool_of, square


def towards(pool, direction):
    """Shejwalkar & Houmansadr 2021: the perturbation p."""
    center = mean(pool)
    if direction == "unit":
        return -center / math.sqrt(sum(value**2 for value in center))
    if direction == "sign":
        return np.array([-1.0 if value > 0 else 1.0 if value < 0 else 0.0 for value in center])
    return deviation(pool, 1) * (1 if direction == "std" else -1)


def max_allowed(pool, row):
    """Min-Max: is the row no farther from any other than the two farthest of the pool from each other?"""
    largest = max(square(a - b) for a in pool for b in pool)
    return max(square(row - other) for other in pool), largest


def halving_search(pool, direction, measure, start=10.0, tolerance=1e-5):
    """The published search for γ: up or down by half as much as before, until it moves too little."""
    center, along = mean(pool), towards(pool, direction)
    gamma, step, found = start, start, 0.0
    while abs(found - gamma) > tolerance:
        value, limit = measure(pool, center + gamma * along)
        if value <= limit:
            found = gamma
            gamma = gamma + step / 2
        else:
            gamma = gamma - step / 2
        step = step / 2
    return found


def farthest(rows, malicious, measure, direction="unit", knowledge="full", along=None):
    """The row at the largest γ that the measure allows, by bisection; the mean where nothing is to exceed."""
    pool = pool_of(rows, malicious, knowledge)
    center = mean(pool)
    if len(pool) == 1:
        return center
    along = towards(pool, direction) if along is None else along
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        value, limit = measure(pool, center + middle * along)
        low, high = (middle, high) if value <= limit else (low, middle)
    return center + low * along


def min_max(rows, malicious, **hyper):
    """Shejwalkar & Houmansadr 2021."""
    return farthest(rows, malicious, max_allowed, **hyper)


CASES = [
    AttackCase("min_max", min_max),
    AttackCase("min_max", min_max, {"direction": "std", "knowledge": "partial"}, variant="std"),
    AttackCase("min_max", min_max, {"direction": "minus_std"}, variant="minus std"),
    AttackCase("min_max", min_max, {"direction": "sign"}, variant="sign"),
]


def versions(attack, other):
    """Wrong versions of Min-Max or Min-Sum, of which `other` is the other one."""

    def with_(**changes):
        return lambda rows, malicious, **hyper: attack(rows, malicious, **{**hyper, **changes})

    def half_way(rows, malicious, **hyper):
        center = mean(pool_of(rows, malicious, hyper.get("knowledge", "full")))
        return (center + attack(rows, malicious, **hyper)) / 2

    def with_the_mean(rows, malicious, **hyper):
        return attack(rows, malicious, **hyper, along=-towards(pool_of(rows, malicious, "full"), "unit"))

    return {
        "half way": half_way,
        "with the mean": with_the_mean,
        "along the deviation": with_(direction="std"),
        "against the deviation": with_(direction="minus_std"),
        "along the sign": with_(direction="sign"),
        "along the mean's direction": with_(direction="unit"),
        "of their own rows": with_(knowledge="partial"),
        "of the honest rows": with_(knowledge="full"),
        "the other bound": other,
    }


def _mean_distance(pool, row):
    """No farther from the mean than the farthest of the pool."""
    return square(row - mean(pool)), max(square(other - mean(pool)) for other in pool)


MUTANTS = {
    "min_max": versions(
        min_max, lambda rows, malicious, **hyper: farthest(rows, malicious, _mean_distance, **hyper)
    )
}
