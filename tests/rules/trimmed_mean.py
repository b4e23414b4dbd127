"""The trimmed mean: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, wide


def trimmed_mean(updates, trim):
    rows = np.asarray(updates, np.float64)
    return np.array([sum(sorted(c)[trim : len(c) - trim]) / (len(c) - 2 * trim) for c in rows.T])


def of_kept_values(case, rows, others, expected):
    trim = case.hyper["trim"]
    return np.abs(np.sort(rows, axis=0)[trim : len(rows) - trim]).max(0)


def trimmed(rows, low, high, divisor=None):
    kept = np.sort(wide(rows), axis=0)[low : len(rows) - high]
    return kept.sum(0) / (divisor or len(kept))


CASES = [
    RuleCase(
        "trimmed_mean",
        trimmed_mean,
        {"trim": 3},
        ("trim",),
        tolerated=3,
        accepts=equals_reference(of_kept_values),
    ),
    RuleCase(
        "trimmed_mean",
        trimmed_mean,
        {"trim": 0},
        ("trim",),
        twins=("mean",),
        accepts=equals_reference(of_kept_values),
    ),
]


MUTANTS = {
    "trimmed_mean": {
        "only the largest": lambda updates, trim: trimmed(updates, 0, trim or 1),
        "only the smallest": lambda updates, trim: trimmed(updates, trim or 1, 0),
        "trim in all": lambda updates, trim: trimmed(updates, trim // 2, trim - trim // 2),
        "one more": lambda updates, trim: trimmed(updates, trim + 1, trim + 1),
        "divides by n": lambda updates, trim: trimmed(updates, trim, trim, len(updates)),
        "median": lambda updates, trim: np.median(wide(updates), axis=0),
    },
}
