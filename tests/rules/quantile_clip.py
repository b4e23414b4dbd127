"""Clipping to a radius that tracks a quantile: rows, references and wrong versions."""

import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import RuleCase
from tests.rules.clip import MUTANTS as OF_CLIP
from tests.rules.clip import clip, rows_stay
from tests.rules.rounding import equals_reference, of_result_rows


def quantile_clip(updates, start=0.1, **tracking):
    return clip(updates, start)


def next_radius(norms, radius, quantile=0.5, rate=0.2):
    inside = sum(1 for norm in norms if norm <= radius) / len(norms)
    return radius * np.exp(-rate * (inside - quantile))


CASES = [
    RuleCase(
        "quantile_clip",
        quantile_clip,
        {"start": 3.0},
        ("start",),
        tolerated=11,
        hostile=rows_stay,
        accepts=equals_reference(of_result_rows),
        translation=False,
        units=("start",),
        identical=False,
        registry=PRE_AGGREGATORS,
    ),
]


MUTANTS = {
    "quantile_clip": {
        wrong: lambda updates, start, mutant=mutant: mutant(updates, radius=start)
        for wrong, mutant in OF_CLIP["clip"].items()
    },
}
