"""The mean of the rows nearest a trusted one (MoNNA): rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import ROUNDING, means_of_smallest, some_follow, wide


def nearest_to_pivot(updates, num_malicious, pivot=0):
    rows = np.asarray(updates, np.float64)

    def farness(i):
        if i == pivot:
            return (-1.0, i)
        distance = np.sqrt(sum((a - b) ** 2 for a, b in zip(rows[i], rows[pivot], strict=True)))
        return (distance if np.isfinite(distance) else np.inf, i)

    nearest = sorted(range(len(rows)), key=farness)[: len(rows) - num_malicious]
    return sum(rows[i] for i in nearest) / len(nearest)


def averages_rows_near_pivot(case, updates, others, result):
    """For MoNNA."""
    rows, pivot = wide(updates), case.hyper.get("pivot", 0)
    distances = np.linalg.norm(rows - rows[pivot], axis=1)
    distances[pivot] = -1.0
    count = len(rows) - case.hyper["num_malicious"]
    return some_follow(result, means_of_smallest(rows, distances, ROUNDING * np.abs(distances), count))


def no_farther_from_pivot(pivot):
    """For MoNNA: no farther from the pivot than the farthest honest row."""

    def criterion(seen):
        trusted = seen.updates[pivot]
        reach = np.linalg.norm(seen.honest - trusted, axis=1).max()
        return np.linalg.norm(seen.result - trusted) <= reach * (1 + 1e-5)

    return criterion


def nearest_with(more=0, order=2, skip=0, only=None):
    def mutant(updates, num_malicious, pivot=0):
        rows = wide(updates)
        pivot = pivot if only is None else only
        distances = np.linalg.norm(rows - rows[pivot], ord=order, axis=1)
        count = len(rows) - num_malicious + more
        return rows[np.argsort(distances, kind="stable")[skip : skip + count]].mean(0)

    return mutant


CASES = [
    *(
        RuleCase(
            "nearest_to_pivot",
            nearest_to_pivot,
            {"num_malicious": f, "pivot": pivot},
            ("num_malicious", "pivot"),
            tolerated=f,
            honest=(pivot,),
            hostile=no_farther_from_pivot(pivot),
            permutation=False,
            accepts=averages_rows_near_pivot,
        )
        for f, pivot in ((3, 0), (5, 7))
    ),
]


MUTANTS = {
    "nearest_to_pivot": {
        "without the pivot": nearest_with(skip=1),
        "one row more": nearest_with(more=1),
        "one row fewer": nearest_with(more=-1),
        "sum of absolute differences": nearest_with(order=1),
        "always the first row": nearest_with(only=0),
        "always the last row": nearest_with(only=-1),
    },
}
