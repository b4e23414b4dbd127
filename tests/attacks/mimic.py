"""Mimic: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase


def mimic(rows, malicious, target=0):
    """Karimireddy et al. 2022, client i being row i."""
    honest = [i for i in range(len(rows)) if not malicious[i]]
    return rows[min(honest, key=lambda i: (i < target, i))]


CASES = [
    AttackCase("mimic", mimic, {"target": 2}),
    AttackCase("mimic", mimic, variant="first"),
    AttackCase("mimic", mimic, {"target": 7}, variant="late"),
]

MUTANTS = {
    "mimic": {
        "whoever it is": lambda rows, malicious, target=0: rows[target],
        "counted among the honest": lambda rows, malicious, target=0: rows[~malicious][
            target % (~malicious).sum()
        ],
        "the first honest one": lambda rows, malicious, target=0: mimic(rows, malicious),
        "the last honest one before": lambda rows, malicious, target=0: rows[
            max(np.flatnonzero(~malicious), key=lambda i: (i <= target, i))
        ],
        "the mean": lambda rows, malicious, target=0: rows[~malicious].mean(0),
    }
}
