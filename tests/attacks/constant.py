"""A constant: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase


def constant(updates, malicious, value):
    return np.full(updates.shape[1], value)


CASES = [
    AttackCase("constant", constant, {"value": 3.0}),
    # Rows that are meant to break what is not robust.
    *(
        AttackCase("constant", constant, {"value": value}, variant=str(value), breaking=True)
        for value in (float("nan"), float("inf"), float("-inf"), 1e38)
    ),
]

MUTANTS = {
    "constant": {
        "its negative": lambda u, m, value: -constant(u, m, value),
        "added": lambda u, m, value: u[m] + value,
        "zero": lambda u, m, value: constant(u, m, 0.0),
    }
}
