"""Projected gradient ascent: rows, reference and wrong versions; its training is in test_training.py."""

import numpy as np

from tests.attacks.case import AttackCase


def pga(updates, malicious, largest=64.0, evaluations=7, grid=None, length=np.mean, common=False):
    """Shejwalkar et al. 2022, against the median."""
    honest = updates[~malicious]
    size = length(np.linalg.norm(honest, axis=1))
    own = updates[malicious]
    own = np.tile(own.mean(0), (len(own), 1)) if common else own
    rows = np.array([size * row / np.linalg.norm(row) for row in own])
    best, found = -1.0, rows
    for factor in np.geomspace(1, largest, evaluations) if grid is None else grid:
        stack = updates.copy()
        stack[malicious] = factor * rows
        away = np.linalg.norm(np.median(stack, 0) - honest.mean(0))
        if away > best * (1 + 1e-6):
            best, found = away, factor * rows
    return found


CASES = [
    AttackCase("pga", pga, {"largest": 3.0, "evaluations": 3}),
    AttackCase("pga", pga, {"largest": 1.0}, variant="under a norm bound"),
]

MUTANTS = {
    "pga": {
        "their own length": lambda updates, malicious, **hyper: (
            pga(updates, malicious, **hyper) / pga(updates, malicious, largest=1.0) * updates[malicious]
        ),
        "the median length": lambda updates, malicious, **hyper: pga(
            updates, malicious, **hyper, length=np.median
        ),
        "the largest factor": lambda updates, malicious, largest=64.0, evaluations=7: pga(
            updates, malicious, grid=[largest + 1]
        ),
        "the honest length": lambda updates, malicious, **hyper: pga(updates, malicious, grid=[1.0]),
        "one row for all": lambda updates, malicious, **hyper: pga(updates, malicious, **hyper, common=True),
    }
}
