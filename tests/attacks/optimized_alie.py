"""Optimised ALIE: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.alie import alie, alie_factor
from tests.attacks.case import AttackCase
from tests.attacks.line_search import line_search, redescending
from tests.attacks.pools import deviation, mean, pool_of


def optimized_alie(
    rows,
    malicious,
    evaluations,
    smallest,
    largest,
    knowledge="full",
    signs="positive",
    ddof=0,
    refine=True,
    base=None,
):
    """Allouah et al. 2023, through the rule `redescending`."""
    pool = pool_of(rows, malicious, knowledge)
    center, along = mean(pool) if base is None else base, deviation(pool, ddof)
    parts = 4 if signs == "both" else 2
    grid = np.geomspace(smallest, largest, -(-(evaluations - 1) // parts))
    grid = [*grid, *-grid] if signs == "both" else grid
    factors = [alie_factor(len(rows), int(malicious.sum())), *grid]
    steps = evaluations - len(factors) if refine else 0
    best, _ = line_search(rows, malicious, redescending, center, along, factors, steps, largest)
    return center + best * along


HYPER = {"evaluations": 12, "smallest": 0.25, "largest": 8.0}
PARTIAL = {**HYPER, "knowledge": "partial"}
CASES = [
    AttackCase("optimized_alie", optimized_alie, HYPER, rule=redescending),
    AttackCase(
        "optimized_alie", optimized_alie, {**HYPER, "signs": "both"}, variant="both", rule=redescending
    ),
    AttackCase(
        "optimized_alie",
        optimized_alie,
        {**HYPER, "knowledge": "partial"},
        variant="partial",
        rule=redescending,
    ),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: optimized_alie(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "optimized_alie": {
        "of one sign": _with(signs="positive"),
        "of both signs": _with(signs="both"),
        "the grid alone": _with(refine=False),
        "the published factor": lambda rows, malicious, **hyper: alie(rows, malicious, knowledge="full"),
        "deviation of the sample": _with(ddof=1),
        "of their own rows": _with(knowledge="partial"),
        "of the honest rows": _with(knowledge="full"),
        "around zero": _with(base=0.0),
        "a smaller end": _with(largest=2.0),
    }
}
