"""The covariance filter (CAF): rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.minimum_diameter import subsets_of
from tests.rules.rounding import follows, hopeless, wide


def covariance(rows, weights=None):
    """Σ c_i (x_i − μ)(x_i − μ)ᵀ / Σ c_i, d × d, and μ."""
    weights = np.ones(len(rows)) if weights is None else weights
    center = sum(c * row for c, row in zip(weights, rows, strict=True)) / weights.sum()
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for c, row in zip(weights, rows, strict=True):
        total += c * np.outer(row - center, row - center)
    return total / weights.sum(), center


def covariance_filter(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    n = len(rows)
    weights, best, smallest = np.ones(n), rows.mean(0), np.inf
    while weights.sum() > (n - 2 * num_malicious) * (1 + 1e-9):
        spread, center = covariance(rows, weights)
        values, vectors = np.linalg.eigh(spread)
        if values[-1] < smallest:
            best, smallest = center, values[-1]
        deviations = np.array([(row - center) @ vectors[:, -1] for row in rows]) ** 2
        largest = deviations[weights > 0].max()
        if largest == 0:
            break
        weights = np.where(
            (weights > 0) & (deviations < largest * (1 - 1e-9)), weights * (1 - deviations / largest), 0
        )
    return best


def within_its_guarantee(case, updates, others, result):
    """For CAF: ‖g − mean of S‖² ≤ κ λ_max(S) for every n − f rows S, whichever of them are honest.

    With one eigenvalue several times over, as ties make it, the rule itself is not unique. The factor κ has
    the form that Allouah et al. give for SMEA and CAF, 6f/(n−2f) · (1 + f/(n−2f))².
    """
    rows, f = wide(updates), case.hyper["num_malicious"]
    n = len(rows)
    if f == 0:
        return follows(result, rows.mean(0), np.abs(rows).max(0)) or hopeless(rows).any()
    subsets = subsets_of(rows, f)
    means = rows[subsets].mean(1)
    values = np.linalg.norm(rows[subsets] - means[:, None], ord=2, axis=(1, 2)) ** 2 / (n - f)
    factor = 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)) ** 2
    # Scores that rounding hides must be those of rows that differ little from the rest.
    off = 1e-3 * np.abs(rows[subsets]).max((1, 2)) + 1e-30
    return bool((np.linalg.norm(wide(result) - means, axis=1) <= np.sqrt(factor * values) + off).all())


def filter_with(power=2, over_removed=False, last=False, kept=lambda n, f: n - 2 * f, which=-1, hard=False):
    def mutant(updates, num_malicious):
        rows = wide(updates)
        n = len(rows)
        weights, best, smallest = np.ones(n), rows.mean(0), np.inf
        for _ in range(1000):
            if weights.sum() <= kept(n, num_malicious) * (1 + 1e-9):
                break
            spread, center = covariance(rows, weights)
            values, vectors = np.linalg.eigh(spread)
            if last or values[-1] < smallest:
                best, smallest = center, values[-1]
            deviations = np.abs((rows - center) @ vectors[:, which]) ** power
            largest = (deviations if over_removed else deviations[weights > 0]).max()
            factors = np.clip(1 - deviations / largest, 0, 1)
            weights = weights * (factors > 1e-9 if hard else factors)
        return best

    return mutant


CASES = [
    *(
        RuleCase(
            "covariance_filter",
            covariance_filter,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=near(3.0),
            differentiable=False,  # its loop has no reverse mode
            accepts=within_its_guarantee,
        )
        for f in (3, 5)
    ),
]


MUTANTS = {
    "covariance_filter": {
        "maximum over removed rows": filter_with(over_removed=True),
        "last mean": filter_with(last=True),
        "unsquared": filter_with(power=1),
        "down to n - f": filter_with(kept=lambda n, f: n - f),
        "one row less": filter_with(kept=lambda n, f: n - 2 * f - 1),
        "second eigenvector": filter_with(which=-2),
        "whole rows only": filter_with(hard=True),
    },
}
