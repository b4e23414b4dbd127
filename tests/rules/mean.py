"""The mean: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, of_column, wide


def mean(updates, weights=None):
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    total = np.zeros(rows.shape[1])
    for weight, row in zip(weights, rows, strict=True):
        total += weight * row
    return total / weights.sum()


CASES = [
    RuleCase("mean", mean, duplicates=True, accepts=equals_reference(of_column)),
    RuleCase("mean", mean, arrays=("weights",), duplicates=True, accepts=equals_reference(of_column)),
]


MUTANTS = {
    "mean": {
        "weights ignored": lambda updates, weights=None: wide(updates).mean(0),
        "weights not normalised": lambda updates, weights=None: (
            (np.ones(len(updates)) if weights is None else weights) @ wide(updates)
        ),
        "weights per coordinate median": lambda updates, weights=None: np.median(wide(updates), axis=0),
    },
}
