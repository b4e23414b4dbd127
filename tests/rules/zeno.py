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
    every = np.array([others["root_loss"](wide(others["params"]) + row) for row in rows])
    every = every + case.hyper["penalty"] * np.square(rows).sum(1)
    # What overflows in float32 is left out.
    present = np.flatnonzero(every < 3e38)
    count = min(len(rows) - case.hyper["num_malicious"], len(present))
    if count == 0:
        return not np.any(result)
    rows, costs = rows[present], every[present]
    close = 1e-5 * np.max(np.abs(costs))
    limit = np.sort(costs)[count - 1]
    sure, maybe = rows[costs < limit - close], rows[np.abs(costs - limit) <= close]
    low, high = (
        (sure.sum(0) + (count - len(sure)) * bound) / count for bound in (maybe.min(0), maybe.max(0))
    )
    slack = 1e-4 * np.abs(rows).max(0) + 1e-35
    return bool(((low - slack <= result) & (result <= high + slack)).all())


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
