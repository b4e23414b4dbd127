"""The median: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, of_result, wide
from tests.rules.trimmed_mean import trimmed


def median(updates):
    rows = np.asarray(updates, np.float64)
    result = []
    for column in rows.T:
        ordered = sorted(column)
        n = len(ordered)
        result.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return np.array(result)


CASES = [
    RuleCase("median", median, tolerated=5, duplicates=True, accepts=equals_reference(of_result)),
]


MUTANTS = {
    "median": {
        "lower of the middle two": lambda updates: np.sort(wide(updates), axis=0)[len(updates) // 2 - 1],
        "upper of the middle two": lambda updates: np.sort(wide(updates), axis=0)[len(updates) // 2],
        "middle four": lambda updates: trimmed(updates, len(updates) // 2 - 2, len(updates) // 2 - 2),
    },
}
