"""FMPA's attack: rows, reference and wrong versions."""

import math

import numpy as np

from tests.attacks.case import KEY, AttackCase, fresh_model, random_walk
from tests.attacks.line_search import redescending
from tests.attacks.pools import mean, pool_of, square

ROUNDS = 2


def drive_to(
    rows,
    malicious,
    target="stay",
    evaluations=20,
    smallest=0.125,
    largest=64.0,
    refine=True,
    published=True,
    whole_mean=False,
    side=1,
):
    """Zhang et al. 2023, through the rule `redescending`: as close to the target as the steps come."""
    n, d = rows.shape
    m = int(malicious.sum())
    models = {"initial": random_walk(0, d), "fresh": np.asarray(fresh_model(KEY, d), np.float64)}
    wanted = np.zeros(d) if target == "stay" else models[target] - random_walk(ROUNDS - 1, d)
    average = mean(pool_of(rows, malicious, "full"))
    along = wanted - (1 if whole_mean else (n - m) / n) * average
    grid = list(np.geomspace(smallest, largest, -(-(evaluations - 1) // 2)))
    first = n / m
    best, least = first, math.inf

    def attempt(p):
        nonlocal best, least
        stack = np.array(rows, np.float64)
        stack[malicious] = p * along
        far = math.sqrt(square(redescending(stack) - wanted))
        if side * far < least:
            best, least = p, side * far

    for p in [first, *grid] if published else grid:
        attempt(p)
    for step in range(evaluations - 1 - len(grid) if refine else 0):
        ratio = (grid[1] / grid[0]) ** (0.5 ** (step // 2 + 1))
        attempt(min(best * ratio if step % 2 == 0 else best / ratio, largest))
    return best * along


HYPER = {"evaluations": 12, "smallest": 0.25, "largest": 8.0}
CASES = [
    AttackCase("drive_to", drive_to, HYPER, rule=redescending),
    AttackCase(
        "drive_to",
        drive_to,
        {**HYPER, "target": "fresh"},
        variant="fresh",
        rule=redescending,
        rounds=ROUNDS,
        model=random_walk,
    ),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: drive_to(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "drive_to": {
        "the grid alone": _with(refine=False),
        "as far as possible": _with(side=-1),
        "the whole mean": _with(whole_mean=True),
        "for the plain mean": lambda rows, malicious, **hyper: drive_to(
            rows, malicious, **{**hyper, "evaluations": 1, "refine": False}
        ),
        "to the model as it is": _with(target="stay"),
        "to the first model": _with(target="initial"),
    }
}
