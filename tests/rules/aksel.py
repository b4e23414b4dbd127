"""Aksel: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.median import median
from tests.rules.rounding import ROUNDING, means_of_smallest, some_follow, wide


def number(n, num_malicious, count):
    return (n + 1) // 2 if count == "half" else n - num_malicious


def aksel(updates, num_malicious=0, count="half"):
    rows = np.asarray(updates, np.float64)
    finite = finite_rows(rows)
    middle = median(rows[finite])
    nearest = sorted(finite, key=lambda i: (np.linalg.norm(rows[i] - middle), i))
    nearest = nearest[: number(len(rows), num_malicious, count)]
    return sum(rows[i] for i in nearest) / len(nearest)


def averages_rows_near_the_median(case, updates, others, result):
    rows = wide(updates)
    middle = np.median(rows, axis=0)
    distances = np.linalg.norm(rows - middle, axis=1)
    noise = ROUNDING * (distances + np.linalg.norm(middle))
    count = number(len(rows), case.hyper.get("num_malicious", 0), case.hyper.get("count", "half"))
    return some_follow(result, means_of_smallest(rows, distances, noise, count))


def aksel_with(more=0, order=2, center=np.median, farthest=False):
    def mutant(updates, num_malicious=0, count="half"):
        rows = wide(updates)
        distances = np.linalg.norm(rows - center(rows, axis=0), ord=order, axis=1)
        ordered = np.argsort(-distances if farthest else distances, kind="stable")
        return rows[ordered[: number(len(rows), num_malicious, count) + more]].mean(0)

    return mutant


CASES = [
    RuleCase(
        "aksel",
        aksel,
        tolerated=5,
        hostile=near(3.0),
        duplicates=True,
        accepts=averages_rows_near_the_median,
    ),
    RuleCase(
        "aksel",
        aksel,
        {"num_malicious": 3, "count": "n-f"},
        ("num_malicious",),
        tolerated=3,
        hostile=near(3.0),
        accepts=averages_rows_near_the_median,
    ),
]


MUTANTS = {
    "aksel": {
        "one row more": aksel_with(more=1),
        "one row fewer": aksel_with(more=-1),
        "around the mean": aksel_with(center=np.mean),
        "around the lower median": aksel_with(
            center=lambda rows, axis: np.sort(rows, axis)[len(rows) // 2 - 1]
        ),
        "farthest rows": aksel_with(farthest=True),
        "sum of absolute differences": aksel_with(order=1),
    },
}
