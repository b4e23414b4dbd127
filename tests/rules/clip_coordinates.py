"""Clipping of coordinates: rows, references and wrong versions."""

import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import RuleCase
from tests.rules.clip import rows_stay
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import equals_reference, of_column, wide


def clip_coordinates(updates, bound, center="zero"):
    rows = np.asarray(updates, np.float64)
    finite = finite_rows(rows)
    result = np.empty_like(rows)
    for j in range(rows.shape[1]):
        middle = np.median(rows[finite, j]) if center == "median" else 0.0
        away = [rows[i, j] - middle if i in finite else 0.0 for i in range(len(rows))]
        limit = np.median([abs(away[i]) for i in finite]) if bound == "median" else bound
        result[:, j] = [middle + min(limit, max(-limit, value)) for value in away]
    return result


def clamped_with(limits, centers=lambda rows: 0.0):
    def mutant(updates, bound, center="zero"):
        rows = wide(updates)
        middle = np.median(rows, axis=0) if center == "median" else 0.0
        middle = middle + centers(rows)
        limit = limits(rows - middle, bound)
        return middle + np.clip(rows - middle, -limit, limit)

    return mutant


def asked(away, bound):
    return np.median(np.abs(away), axis=0) if bound == "median" else bound


CASES = [
    RuleCase(
        "clip_coordinates",
        clip_coordinates,
        {"bound": 0.75},
        ("bound",),
        tolerated=11,
        hostile=rows_stay,
        accepts=equals_reference(of_column),
        translation=False,
        units=("bound",),
        identical=False,
        registry=PRE_AGGREGATORS,
    ),
    RuleCase(
        "clip_coordinates",
        clip_coordinates,
        {"bound": "median", "center": "median"},
        accepts=equals_reference(of_column),
        registry=PRE_AGGREGATORS,
    ),
]


MUTANTS = {
    "clip_coordinates": {
        "half the bound": clamped_with(lambda away, bound: asked(away, bound) / 2),
        "mean magnitude": clamped_with(lambda away, bound: np.abs(away).mean(0)),
        "one bound for all coordinates": clamped_with(lambda away, bound: np.median(np.abs(away))),
        "always the magnitudes": clamped_with(lambda away, bound: np.median(np.abs(away), axis=0)),
        "around the mean": clamped_with(asked, lambda rows: rows.mean(0) - np.median(rows, axis=0)),
    },
}
