"""Zeno: rows, reference and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import follows, wide


def zeno(updates, params, root_loss, num_malicious, penalty=5e-4, keeps_worst=False, moved=True, few=False):
    rows, center = wide(updates), wide(params)
    costs = {}
    for i in finite_rows(rows):
        cost = root_loss(center + rows[i] if moved else rows[i]) + penalty * rows[i] @ rows[i]
        if np.isfinite(cost):
            costs[i] = -cost if keeps_worst else cost
    order = sorted(costs, key=lambda i: (costs[i], i))
    return rows[order[: num_malicious if few else len(rows) - num_malicious]].mean(0)


def averages_best_rows(case, updates, others, result):
    """The mean of n − f rows; of nearly equal scores any may count."""
    rows = wide(updates)
    if follows(result, case.expected(updates, others), np.abs(rows).max(0)):
        return True
    costs = [others["root_loss"](wide(others["params"]) + row) for row in rows]
    close = 1e-5 * np.max(np.abs(costs))
    order = np.argsort(costs, kind="stable")
    f = case.hyper["num_malicious"]
    limit = costs[order[len(rows) - f - 1]]
    sure = [i for i in order if costs[i] < limit - close]
    maybe = [i for i in order if abs(costs[i] - limit) <= close]
    low = np.sum(rows[sure], axis=0) + (len(rows) - f - len(sure)) * rows[maybe].min(0)
    high = np.sum(rows[sure], axis=0) + (len(rows) - f - len(sure)) * rows[maybe].max(0)
    slack = 1e-4 * np.abs(rows).max(0) + 1e-35
    mean = wide(result) * (len(rows) - f)
    return bool(((low - 10 * slack <= mean) & (mean <= high + 10 * slack)).all())


def zeno_with(**changed):
    return lambda *arrays, **options: zeno(*arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "zeno",
        zeno,
        {"num_malicious": 3, "penalty": 0.2},
        ("num_malicious", "penalty"),
        arrays=("params", "root_loss"),
        tolerated=3,
        hostile=near(2.0),
        translation=False,
        scaling=(),
        accepts=averages_best_rows,
    )
]


MUTANTS = {
    "zeno": {
        "keeps the worst": zeno_with(keeps_worst=True),
        "keeps f": zeno_with(few=True),
        "no penalty": zeno_with(penalty=0.0),
        "the usual penalty": zeno_with(penalty=5e-4),
        "loss of the update": zeno_with(moved=False),
        "drops one more": lambda *arrays, num_malicious, **options: zeno(
            *arrays, num_malicious=num_malicious + 1, **options
        ),
    }
}
