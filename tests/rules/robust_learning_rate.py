"""The robust learning rate: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import equals_reference, follows, of_column, wide

TINY = float(np.finfo(np.float32).tiny)


def votes_of(rows):
    """The sum of signs; float32 on a CPU takes what is below its smallest normal number for 0."""
    return sum(np.where(np.abs(row) < TINY, 0.0, np.sign(row)) for row in rows)


def robust_learning_rate(updates, weights=None, *, threshold):
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    finite = finite_rows(rows)
    mean = sum(weights[i] * rows[i] for i in finite) / sum(weights[i] for i in finite)
    votes = votes_of(rows[finite])
    return np.array([x if abs(v) >= threshold else -x for x, v in zip(mean, votes, strict=True)])


def averages_finite_rows(seen):
    """It bounds no row: non-finite ones are absent, finite ones count."""
    rows = np.asarray(seen.updates, np.float64)
    scale = np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(0)
    return follows(seen.result, robust_learning_rate(rows, threshold=8), scale)


def learning_with(vote=votes_of, more=0.0, otherwise=-1.0, unweighted=False):
    def mutant(updates, weights=None, *, threshold):
        rows = wide(updates)
        weights = np.ones(len(rows)) if weights is None or unweighted else np.asarray(weights, np.float64)
        mean = weights @ rows / weights.sum()
        return np.where(np.abs(vote(rows)) >= threshold + more, mean, otherwise * mean)

    return mutant


CASES = [
    RuleCase(
        "robust_learning_rate",
        robust_learning_rate,
        {"threshold": 8},
        ("threshold",),
        tolerated=3,
        hostile=averages_finite_rows,
        translation=False,
        identical=False,
        accepts=equals_reference(of_column),
    ),
    RuleCase(
        "robust_learning_rate",
        robust_learning_rate,
        {"threshold": 4},
        ("threshold",),
        arrays=("weights",),
        translation=False,
        identical=False,
        accepts=equals_reference(of_column),
    ),
]


MUTANTS = {
    "robust_learning_rate": {
        "nothing flipped": learning_with(otherwise=1.0),
        "disputed coordinates zero": learning_with(otherwise=0.0),
        "more than the threshold": learning_with(more=1.0),
        "one vote less": learning_with(more=-2.0),
        "votes with a sign": learning_with(vote=lambda rows: np.maximum(votes_of(rows), 0.0)),
        "majority share": learning_with(vote=lambda rows: np.sign(rows.mean(0)) * len(rows)),
        "unweighted": learning_with(unweighted=True),
    },
}
