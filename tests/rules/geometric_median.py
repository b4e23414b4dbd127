"""The geometric median: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.mean import mean
from tests.rules.rounding import equals_reference, wide


def weighted_median(values, weights):
    """The smallest value that half of the weight does not exceed."""
    passed = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        passed += weight
        if passed >= sum(weights) / 2:
            return value


def weiszfeld_weights(updates, point, weights=None, smoothing=1e-6, smoothing_unit=None):
    """w_i / max(ν, ‖x_i − z‖): the steps of the smoothed Weiszfeld iteration weigh the rows with these."""
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    lengths = np.linalg.norm(rows - point, axis=1)
    nu = smoothing * (weighted_median(lengths, weights) if smoothing_unit is None else smoothing_unit)
    return weights / np.maximum(max(nu, 1e-150), lengths)


def geometric_median(
    updates,
    weights=None,
    smoothing=1e-6,
    smoothing_unit=None,
    max_iterations=2000,
    start="mean",
    tolerance=0,
):
    """Smoothed Weiszfeld, all `max_iterations` steps."""
    rows = np.asarray(updates, np.float64)
    point = mean(rows, weights) if start == "mean" else np.zeros(rows.shape[1])
    for _ in range(max_iterations):
        share = weiszfeld_weights(rows, point, weights, smoothing, smoothing_unit)
        point = share @ rows / share.sum()
    return point


def of_column_beside_usual_rows(case, rows, others, expected):
    """For three Weiszfeld steps: their weights are distances, known to rounding of the usual row."""
    usual = np.sort(np.abs(rows).max(1))[(len(rows) - 1) // 2]
    return np.abs(rows).max(0) + 0.1 * usual


def nearly_minimizes_distances(case, updates, others, result):
    """For the geometric median: neither more Weiszfeld steps nor any row have a smaller sum of distances.

    Rows far away hide in that sum, so differences are taken row by row, and what counts is the distance of
    the nearer half of the rows.
    """
    rows, point = wide(updates), wide(result)
    weights = wide(others["weights"]) if "weights" in case.arrays else np.ones(len(rows))
    unit = case.hyper.get("smoothing_unit")
    if unit is None:
        unit = weighted_median(np.linalg.norm(rows - point, axis=1), weights)
    smoothing = max(case.hyper.get("smoothing", 1e-6) * unit, 1e-150)
    return no_better_point(rows, point, weights, smoothing, slack=2 * smoothing)


def no_better_point(rows, point, weights, smoothing, slack):
    """Neither more Weiszfeld steps nor any row have a smaller sum of distances, up to the slack of one."""

    def excess(other):
        """Sum of distances at `point` less that at `other`."""
        here, there = np.linalg.norm(rows - point, axis=1), np.linalg.norm(rows - other, axis=1)
        total = np.where(here + there > 0, here + there, 1.0)
        plain = ((other - point) @ (2 * rows - point - other).T) / total
        inside = np.maximum(here, there) < 2 * smoothing
        huber = [np.where(r < smoothing, (r * r / smoothing + smoothing) / 2, r) for r in (here, there)]
        return weights @ np.where(inside, huber[0] - huber[1], plain)

    better = point
    for _ in range(300):
        share = weights / np.maximum(smoothing, np.linalg.norm(rows - better, axis=1))
        better = share @ rows / share.sum()
    near = np.sort(np.linalg.norm(rows - point, axis=1))[: 2 * len(rows) // 3].mean()
    allowed = weights.sum() * (1e-3 * near + 1e-5 * np.linalg.norm(point) + slack)
    return max(excess(other) for other in (better, *rows)) <= allowed


def weiszfeld(steps=300, weigh=None, begin=None, absolute=False):
    def mutant(
        updates,
        weights=None,
        smoothing=1e-6,
        smoothing_unit=None,
        max_iterations=None,
        start="mean",
        tolerance=0,
    ):
        rows = wide(updates)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        point = weights @ rows / weights.sum() if (begin or start) == "mean" else np.zeros(rows.shape[1])
        for _ in range(steps if max_iterations is None or steps < 10 else max_iterations):
            lengths = np.linalg.norm(rows - point, axis=1)
            unit = np.median(lengths) if smoothing_unit is None else smoothing_unit
            if absolute:
                unit = 1.0
            nu = smoothing * unit
            share = weigh(weights, lengths, nu) if weigh else weights / np.maximum(nu, lengths)
            point = share @ rows / share.sum()
        return point

    return mutant


CASES = [
    # Converged: the optimum to the iteration's tolerance. With W_h of the weight honest and W_m not, it lies
    # within 2 W_h / (W_h − W_m) of the honest rows (Pillutla et al. 2022).
    RuleCase(
        "geometric_median",
        geometric_median,
        {"max_iterations": 1000},
        ("max_iterations",),
        tolerated=5,
        largest=300,
        hostile=near(7.0),
        rtol=(1e-4, 1e-4),
        accepts=nearly_minimizes_distances,
        duplicates=True,
    ),
    RuleCase(
        "geometric_median",
        geometric_median,
        {"max_iterations": 1000},
        arrays=("weights",),
        tolerated=3,
        hostile=near(5.0),
        rtol=(1e-4, 1e-4),
        accepts=nearly_minimizes_distances,
        duplicates=True,
    ),
    RuleCase(
        "geometric_median",
        geometric_median,
        {"start": "zero", "smoothing": 0.1, "smoothing_unit": 1.0, "max_iterations": 3, "tolerance": 0.0},
        ("smoothing", "smoothing_unit"),
        translation=False,
        units=("smoothing_unit",),
        duplicates=True,
        differentiable=False,  # its gradient is that of the exact minimum
        accepts=equals_reference(of_column_beside_usual_rows),
    ),
    # Smoothing as large as the distances, so that it matters. 100 steps need not get to the minimum.
    RuleCase(
        "geometric_median",
        geometric_median,
        {"smoothing": 1.1, "max_iterations": 1000},
        ("smoothing",),
        rtol=(1e-4, 1e-4),
        duplicates=True,
        accepts=nearly_minimizes_distances,
    ),
]


MUTANTS = {
    "geometric_median": {
        "one step": weiszfeld(steps=1),
        "two steps": weiszfeld(steps=2),
        "from the other start": weiszfeld(begin="mean", steps=3),
        "weights ignored": weiszfeld(weigh=lambda w, r, v: 1 / np.maximum(v, r)),
        "squared distances": weiszfeld(weigh=lambda w, r, v: w / np.maximum(v, r) ** 2),
        "smoothing always absolute": weiszfeld(absolute=True),
        "smoothing added": weiszfeld(weigh=lambda w, r, v: w / (v + r)),
        "smoothing left out": weiszfeld(weigh=lambda w, r, v: w / np.maximum(r, 1e-9)),
        "per coordinate": lambda updates, *arrays, **options: np.median(wide(updates), axis=0),
    },
}
