"""Residual-based reweighting: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import wide


def fitted(column, repeated=True):
    """The ranks of a coordinate's values, and the repeated-median line at them."""
    n = len(column)
    order = sorted(range(n), key=lambda i: (column[i], i))
    ranks = np.array([order.index(i) for i in range(n)], float)
    slopes = [
        np.median([(column[j] - column[i]) / (ranks[j] - ranks[i]) for j in range(n) if j != i])
        for i in range(n)
    ]
    slope = np.median(slopes) if repeated else 0.0
    return ranks, np.median(column) + slope * (ranks - (n - 1) / 2)


def residual_reweighting(
    updates, bound=2.0, threshold=0.1, leverage=True, spread=True, repeated=True, square=True, repair=True
):
    rows = np.asarray(updates, np.float64)
    rows = rows[finite_rows(rows)]
    n = len(rows)
    repaired, totals = rows.copy(), np.zeros(n)
    for k, column in enumerate(rows.T):
        ranks, line = fitted(column, repeated)
        residuals = column - line
        middle = np.median(np.sort(np.abs(residuals))[1:])
        tau = 1.4826 * (1 + 5 / (n - 1)) * middle + 1e-7
        design = np.stack([np.ones(n), ranks], axis=1)
        hat = np.diag(design @ np.linalg.inv(design.T @ design) @ design.T)
        h = np.sqrt(1 - hat) if leverage else np.ones(n)
        limit = bound * np.sqrt(2 / n)
        e = residuals / tau
        weights = np.array(
            [1.0 if x == 0 else y / x * np.clip(x / y, -limit, limit) for x, y in zip(e, h, strict=True)]
        )
        totals += weights * (weights.std(ddof=1) if spread else 1.0)
        if repair:
            repaired[:, k] = np.where(weights < threshold, line, column)
    shares = totals / totals.max() if totals.max() > 0 else np.ones(n)
    shares = shares**2 if square else shares
    return shares @ repaired / shares.sum()


def among_the_values(case, updates, others, result):
    """Where values tie, residuals are rounding: any weights may come out, but no value beyond the line."""
    rows = wide(updates)
    lines = np.stack([fitted(column)[1] for column in rows.T], axis=1)
    both = np.concatenate([rows, lines])
    slack = 1e-4 * np.abs(both).max(0) + 1e-30
    return bool(((both.min(0) - slack <= result) & (result <= both.max(0) + slack)).all())


def reweighting(**changed):
    return lambda updates, **options: residual_reweighting(updates, **{**options, **changed})


CASES = [
    RuleCase(
        "residual_reweighting",
        residual_reweighting,
        {"bound": 1.0, "threshold": 0.3},
        ("bound", "threshold"),
        tolerated=5,
        hostile=near(4.0),
        rtol=(1e-3, 1e-6),
        # Its 1e-7 is in the unit of the updates.
        scaling=(-1.0, 2.0**40),
        largest=150,
        differentiable=False,
        accepts=among_the_values,
    ),
]


MUTANTS = {
    "residual_reweighting": {
        "without leverage": reweighting(leverage=False),
        "not weighted by the spread": reweighting(spread=False),
        "from the median": reweighting(repeated=False),
        "weights not squared": reweighting(square=False),
        "nothing repaired": reweighting(repair=False),
        "another bound": reweighting(bound=2.0),
        "another threshold": reweighting(threshold=0.1),
        "plain mean": lambda updates, **options: wide(updates).mean(0),
    },
}
