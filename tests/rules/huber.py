"""The Huber-loss aggregator: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.geometric_median import no_better_point
from tests.rules.median import median
from tests.rules.rounding import wide


def radius_of(rows, radius):
    if radius != "median":
        return radius
    return float(np.median(np.linalg.norm(rows - median(rows), axis=1)))


def huber(updates, weights=None, *, radius, max_iterations=2000):
    """Weiszfeld steps from the mean, rows beyond T counted as if they were at T."""
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    radius = radius_of(rows, radius)
    point = weights @ rows / weights.sum()
    for _ in range(2000):
        lengths = np.linalg.norm(rows - point, axis=1)
        share = weights * np.minimum(1.0, radius / np.maximum(lengths, 1e-300))
        point = share @ rows / share.sum()
    return point


def nearly_minimizes_the_loss(case, updates, others, result):
    rows = wide(updates)
    weights = wide(others["weights"]) if "weights" in case.arrays else np.ones(len(rows))
    radius = radius_of(rows, case.hyper["radius"]) or 1.0
    return no_better_point(rows, wide(result), weights, radius, slack=1e-3 * radius)


def huber_with(weigh, steps=500):
    def mutant(updates, weights=None, *, radius, max_iterations=2000):
        rows = wide(updates)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        radius = radius_of(rows, radius)
        point = weights @ rows / weights.sum()
        for _ in range(steps):
            share = weigh(weights, np.linalg.norm(rows - point, axis=1), radius)
            point = share @ rows / share.sum()
        return point

    return mutant


def at_most(w, r, t):
    return w * np.minimum(1.0, t / r)


CASES = [
    RuleCase(
        "huber",
        huber,
        {"radius": 5.0, "max_iterations": 1000},
        ("radius",),
        tolerated=5,
        hostile=near(5.0),
        rtol=(1e-4, 1e-4),
        units=("radius",),
        duplicates=True,
        accepts=nearly_minimizes_the_loss,
    ),
    RuleCase(
        "huber",
        huber,
        {"radius": "median", "max_iterations": 1000},
        arrays=("weights",),
        tolerated=3,
        hostile=near(5.0),
        rtol=(1e-4, 1e-4),
        accepts=nearly_minimizes_the_loss,
    ),
]


MUTANTS = {
    "huber": {
        "one step": huber_with(at_most, steps=1),
        "mean": huber_with(at_most, steps=0),
        "geometric median": huber_with(lambda w, r, t: w / np.maximum(r, 1e-9)),
        "squared distances": huber_with(lambda w, r, t: w * np.minimum(1.0, (t / r) ** 2)),
        "rows beyond the radius left out": huber_with(lambda w, r, t: w * (r <= max(t, r.min()))),
        "twice the radius": huber_with(lambda w, r, t: at_most(w, r, 2 * t)),
        "radius added": huber_with(lambda w, r, t: w * t / (t + r)),
        "weights ignored": huber_with(lambda w, r, t: np.minimum(1.0, t / r)),
    },
}
