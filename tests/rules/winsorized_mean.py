"""The winsorised mean: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, wide
from tests.rules.trimmed_mean import of_kept_values


def winsorized_mean(updates, trim):
    result = []
    for column in np.asarray(updates, np.float64).T:
        ordered = sorted(column)
        low, high = ordered[trim], ordered[len(column) - 1 - trim]
        result.append(sum(min(high, max(low, value)) for value in column) / len(column))
    return np.array(result)


def clamped(rows, low, high):
    ordered = np.sort(wide(rows), axis=0)
    return np.clip(wide(rows), ordered[low], ordered[len(ordered) - 1 - high]).mean(0)


CASES = [
    RuleCase(
        "winsorized_mean",
        winsorized_mean,
        {"trim": 3},
        ("trim",),
        tolerated=3,
        accepts=equals_reference(of_kept_values),
    ),
]


MUTANTS = {
    "winsorized_mean": {
        "trimmed": lambda updates, trim: np.sort(wide(updates), axis=0)[trim:-trim].mean(0),
        "only the largest": lambda updates, trim: clamped(updates, 0, trim),
        "only the smallest": lambda updates, trim: clamped(updates, trim, 0),
        "one more": lambda updates, trim: clamped(updates, trim + 1, trim + 1),
        "one fewer": lambda updates, trim: clamped(updates, trim - 1, trim - 1),
        "replaced by the median": lambda updates, trim: (
            (2 * trim * np.median(wide(updates), axis=0) + np.sort(wide(updates), axis=0)[trim:-trim].sum(0))
            / len(updates)
        ),
    },
}
