"""DYN-OPT: rows, reference and wrong versions."""

import math

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.line_search import line_search, redescending
from tests.attacks.min_max import towards
from tests.attacks.pools import deviation, mean, pool_of, square


def dyn_opt(
    rows,
    malicious,
    evaluations,
    smallest,
    largest,
    direction="unit",
    knowledge="full",
    refine=True,
    base=None,
    length=None,
):
    """Shejwalkar & Houmansadr 2021, through the rule `redescending`."""
    pool = pool_of(rows, malicious, knowledge)
    center = mean(pool) if base is None else base
    # One row has no spread.
    size = math.sqrt(square(deviation(pool, 1))) or math.sqrt(square(mean(pool)))
    size = size if length is None else length
    along = towards(pool, direction)
    norm = math.sqrt(square(along))
    grid = np.geomspace(smallest, largest, -(-evaluations // 2))
    steps = evaluations - len(grid) if refine else 0
    unit = size * along / norm if norm else 0.0 * along
    best, _ = line_search(rows, malicious, redescending, center, unit, list(grid), steps, largest)
    return center + best * unit


HYPER = {"evaluations": 12, "smallest": 0.25, "largest": 8.0}
CASES = [
    AttackCase("dyn_opt", dyn_opt, HYPER, rule=redescending),
    AttackCase(
        "dyn_opt",
        dyn_opt,
        {**HYPER, "direction": "std", "knowledge": "partial"},
        variant="std, partial",
        rule=redescending,
    ),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: dyn_opt(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "dyn_opt": {
        "the grid alone": _with(refine=False),
        "around zero": _with(base=0.0),
        "a step in absolute units": _with(length=1.0),
        "along the deviation": _with(direction="std"),
        "against the deviation": _with(direction="minus_std"),
        "along the sign": _with(direction="sign"),
        "of their own rows": _with(knowledge="partial"),
        "of the honest rows": _with(knowledge="full"),
        "a smaller end": _with(largest=2.0),
    }
}
