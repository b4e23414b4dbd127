"""Clipping: rows, references and wrong versions."""

import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import Poisoned, RuleCase
from tests.rules.rounding import equals_reference, of_result_rows, wide


def clip(updates, radius):
    rows = np.asarray(updates, np.float64)
    return np.stack([row * min(1.0, radius / max(np.linalg.norm(row), 1e-300)) for row in rows])


def rows_stay(seen: Poisoned) -> bool:
    """For pre-aggregators: what became of an honest row does not depend on the hostile ones."""
    return np.allclose(seen.result[seen.kept], seen.clean[seen.kept], rtol=1e-5, atol=1e-6)


def to_length(rows, length):
    return rows * np.minimum(1, length / np.linalg.norm(rows, axis=1, keepdims=True))


CASES = [
    RuleCase(
        "clip",
        clip,
        {"radius": 2.0},
        ("radius",),
        tolerated=11,
        hostile=rows_stay,
        accepts=equals_reference(of_result_rows),
        translation=False,
        units=("radius",),
        identical=False,
        registry=PRE_AGGREGATORS,
    ),
]


MUTANTS = {
    "clip": {
        "every row to the radius": lambda updates, radius: (
            radius * wide(updates) / np.linalg.norm(updates, axis=1, keepdims=True)
        ),
        "clips coordinates": lambda updates, radius: np.clip(wide(updates), -radius, radius),
        "squared norm": lambda updates, radius: to_length(wide(updates), radius**2),
        "norm of the stack": lambda updates, radius: wide(updates) * min(1, radius / np.linalg.norm(updates)),
    },
}
