"""Auror: rows, reference and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.lfighter import averages_some_rows, two_means
from tests.rules.rounding import wide


def gaps_of(rows, squared=True):
    """Every coordinate's distance of the centres of the division with the smallest sum of squares."""
    gaps = []
    for values in np.sort(rows, axis=0).T:
        parts = [(values[:k], values[k:]) for k in range(1, len(values))]
        sums = [sum(np.sum(np.abs(p - p.mean()) ** (1 + squared)) for p in pair) for pair in parts]
        gaps.append(np.subtract(*(p.mean() for p in parts[int(np.argmin(sums))][::-1])) if parts else 0.0)
    return np.array(gaps)


def auror(updates, threshold, num_rounds=10, squared=True, all_columns=False, larger=True, mean_of_all=False):
    everything = wide(updates)
    present = finite_rows(everything)
    rows = everything[present]
    chosen = (gaps_of(rows, squared) >= threshold) | all_columns
    labels = two_means(rows * chosen)
    mine = labels == labels[0]
    kept = mine if (2 * mine.sum() >= len(rows)) == larger or mine.all() else ~mine
    return rows.mean(0) if mean_of_all else rows[kept].mean(0)


def auror_with(**changed):
    return lambda updates, **options: auror(updates, **{**options, **changed})


CASES = [
    RuleCase(
        "auror",
        auror,
        {"threshold": 1.7},
        ("threshold",),
        translation=False,
        units=("threshold",),
        accepts=averages_some_rows,
        largest=300,
    )
]


MUTANTS = {
    "auror": {
        "all coordinates": auror_with(all_columns=True),
        "the smaller cluster": auror_with(larger=False),
        "absolute differences": auror_with(squared=False),
        "all rows": auror_with(mean_of_all=True),
        "another threshold": auror_with(threshold=2.2),
    }
}
