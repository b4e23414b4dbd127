"""FLOD: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.robust_learning_rate import TINY
from tests.rules.rounding import follows, wide


def flod(updates, root_update, step, threshold=0.5):
    rows, root = np.asarray(updates, np.float64), np.asarray(root_update, np.float64)
    total, weight = np.zeros(rows.shape[1]), 0.0
    for i in finite_rows(rows):
        # float32 on a CPU takes what is below its smallest normal number for 0.
        row = np.where(np.abs(rows[i]) < TINY, 0.0, rows[i])
        apart = sum(1 for x, y in zip(row, root, strict=True) if (x > 0) != (y > 0))
        own = max(0.0, threshold * len(root) - apart)
        total += own * np.sign(row)
        weight += own
    return step * total / (weight or 1.0)


def weighs_finite_rows(seen):
    """A row counts by its signs, hostile or not; a non-finite one is absent."""
    return follows(seen.result, flod(seen.updates, seen.others["root_update"], 2.0), 2.0)


def of_the_step(case, updates, others, result):
    # A sum of weights that cancel is known to their rounding.
    return follows(result, case.expected(updates, others), 10 * case.hyper["step"])


def flod_with(share=None, weigh=lambda own: own, sign=np.sign, divisor=None):
    def mutant(updates, root_update, step, threshold=0.5):
        rows, root = wide(updates), wide(root_update)
        d = len(root)
        apart = ((rows > 0) != (root > 0)).sum(1)
        own = weigh(np.maximum(0.0, (threshold if share is None else share) * d - apart))
        return step * own @ sign(rows) / (divisor or own.sum() or 1.0)

    return mutant


CASES = [
    RuleCase(
        "flod",
        flod,
        {"step": 2.0},
        ("step",),
        arrays=("root_update",),
        tolerated=11,
        hostile=weighs_finite_rows,
        translation=False,
        degree=0,
        # Zero entries turn with no factor.
        scaling=(1e-30, 1e-8, 2.0**40, 1e30),
        duplicates=True,
        identical=False,
        differentiable=False,
        accepts=of_the_step,
    ),
    RuleCase(
        "flod",
        flod,
        {"step": 0.5, "threshold": 0.8},
        ("step", "threshold"),
        arrays=("root_update",),
        translation=False,
        degree=0,
        scaling=(1e-30, 1e30),
        identical=False,
        accepts=of_the_step,
    ),
]


MUTANTS = {
    "flod": {
        "values for signs": flod_with(sign=lambda rows: rows),
        "equal weights": flod_with(weigh=lambda own: np.ones_like(own)),
        "equal weights of the near": flod_with(weigh=lambda own: (own > 0) * 1.0),
        "squared weights": flod_with(weigh=np.square),
        "always half": flod_with(share=0.5),
        "sum": flod_with(divisor=1.0),
    },
}
