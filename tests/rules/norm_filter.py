"""The mean of the shortest rows (CGE): rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import ROUNDING, means_of_smallest, some_follow, wide


def norm_filter(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    norms = [np.sqrt(sum(x * x for x in row)) if np.isfinite(row).all() else np.inf for row in rows]
    shortest = sorted(range(len(rows)), key=lambda i: (norms[i], i))[: len(rows) - num_malicious]
    return sum(rows[i] for i in shortest) / len(shortest)


def averages_shortest_rows(case, updates, others, result):
    """For CGE: ties and nearly equal norms may go either way."""
    rows = wide(updates)
    norms = np.linalg.norm(rows, axis=1)
    count = len(rows) - case.hyper["num_malicious"]
    return some_follow(result, means_of_smallest(rows, norms, ROUNDING * norms, count))


def no_longer_than_honest(seen):
    """For CGE."""
    return np.linalg.norm(seen.result) <= np.linalg.norm(seen.honest, axis=1).max() * (1 + 1e-5)


def norm_filter_with(more=0, order=2, longest=False, total=False):
    def mutant(updates, num_malicious):
        rows = wide(updates)
        norms = np.linalg.norm(rows, ord=order, axis=1) * (-1 if longest else 1)
        kept = rows[np.argsort(norms, kind="stable")[: len(rows) - num_malicious + more]]
        return kept.sum(0) if total else kept.mean(0)

    return mutant


CASES = [
    *(
        RuleCase(
            "norm_filter",
            norm_filter,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=no_longer_than_honest,
            translation=False,
            accepts=averages_shortest_rows,
        )
        for f in (3, 5)
    ),
]


MUTANTS = {
    "norm_filter": {
        "sum": norm_filter_with(total=True),
        "one row more": norm_filter_with(more=1),
        "one row fewer": norm_filter_with(more=-1),
        "longest rows": norm_filter_with(longest=True),
        "sum of absolute values": norm_filter_with(order=1),
        "largest entry": norm_filter_with(order=np.inf),
    },
}
