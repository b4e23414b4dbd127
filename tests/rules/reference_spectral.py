"""Slow float64 NumPy versions of the spectral and subset rules; see reference.py."""

from itertools import combinations

import numpy as np


def covariance(rows, weights=None):
    """Σ c_i (x_i − μ)(x_i − μ)ᵀ / Σ c_i, d × d, and μ."""
    weights = np.ones(len(rows)) if weights is None else weights
    center = sum(c * row for c, row in zip(weights, rows, strict=True)) / weights.sum()
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for c, row in zip(weights, rows, strict=True):
        total += c * np.outer(row - center, row - center)
    return total / weights.sum(), center


def minimum_diameter(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    # The largest distance in a subset, from a table: a loop over pairs for each would take minutes.
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))
    costs = apart[subsets[:, :, None], subsets[:, None, :]].max((1, 2))
    return rows[subsets[np.argmax(costs <= costs.min() * (1 + 1e-9))]].mean(0)


def smallest_spectrum(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))
    centred = rows[subsets] - rows[subsets].mean(1, keepdims=True)
    # The squared largest singular value is |S| times the eigenvalue.
    costs = np.linalg.norm(centred, ord=2, axis=(1, 2)) ** 2
    return rows[subsets[np.argmax(costs <= costs.min() * (1 + 1e-9))]].mean(0)


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


def outlier_scores(part):
    centred = part - part.mean(0)
    return (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2


def divide_and_conquer(updates, drawn, num_malicious, filter_fraction=1.0, **sizes):
    """`drawn`: the coordinates of every iteration."""
    rows = np.asarray(updates, np.float64)
    kept = set(range(len(rows)))
    for those in drawn:
        order = np.argsort(outlier_scores(rows[:, those]), kind="stable")
        kept &= set(order[: len(rows) - int(filter_fraction * num_malicious + 1e-9)].tolist())
    return rows[sorted(kept)].mean(0)
