"""Optimised IPM: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.ipm import ipm
from tests.attacks.line_search import line_search, redescending
from tests.attacks.pools import mean, pool_of


def optimized_ipm(rows, malicious, evaluations, smallest, largest, refine=True):
    """Allouah et al. 2023, through the rule `redescending`."""
    along = -mean(pool_of(rows, malicious, "full"))
    factors = np.geomspace(smallest, largest, -(-evaluations // 2))
    steps = evaluations - len(factors) if refine else 0
    best, _ = line_search(rows, malicious, redescending, 0.0, along, factors, steps, largest)
    return best * along


CASES = [
    AttackCase(
        "optimized_ipm",
        optimized_ipm,
        {"evaluations": 12, "smallest": 0.25, "largest": 8.0},
        rule=redescending,
    )
]

MUTANTS = {
    "optimized_ipm": {
        "the grid alone": lambda u, m, **hyper: optimized_ipm(u, m, **hyper, refine=False),
        "a smaller end": lambda u, m, **hyper: optimized_ipm(u, m, **{**hyper, "largest": 1.0}),
        "with the mean": lambda u, m, **hyper: -optimized_ipm(u, m, **hyper),
        "one factor": lambda u, m, **hyper: ipm(u, m, 0.5),
        "the mean of all": lambda u, m, **hyper: optimized_ipm(u, m & False, **hyper),
    }
}
