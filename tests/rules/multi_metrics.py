"""Multi-metrics: rows, references and wrong versions."""

from itertools import combinations

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.flame import cosine_distances, usable
from tests.rules.rounding import follows, wide


def sums(rows, origin=None):
    """The three metrics of every row, summed over all rows."""
    lengths = np.linalg.norm(rows if origin is None else rows + origin, axis=1)
    angles = cosine_distances(rows, 0.0 if origin is None else origin)
    return np.array(
        [
            [
                np.square(angles[i]).sum(),
                sum(np.abs(rows[i] - row).sum() for row in rows),
                np.abs(lengths[i] - lengths).sum(),
            ]
            for i in range(len(rows))
        ]
    )


def whitened(values, centred=False):
    """vᵀ Σ⁻¹ v, of the directions in which the rows differ."""
    values = values / np.where(values.max(0) > 0, values.max(0), 1.0)
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(3)
    varies = spread > 2e-6
    scaled = values * np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    apart = scaled - scaled.mean(0)
    directions = np.linalg.eigh(apart.T @ apart / max(len(values) - 1, 1))
    kept = directions[0] > 2e-6 * directions[0].max()
    along = np.square((apart if centred else scaled) @ directions[1])
    return (along[:, kept] / directions[0][kept]).sum(1)


def multi_metrics(updates, weights=None, params=None, share=0.3, on="updates"):
    everything = np.asarray(updates, np.float64)
    kept, _ = usable(everything)
    if not kept:
        return np.zeros(everything.shape[1])
    rows = everything[kept]
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)[kept]
    scores = whitened(sums(rows, np.asarray(params, np.float64) if on == "models" else None))
    count = max(1, int(share * len(rows) + 1e-4))
    chosen = sorted(range(len(rows)), key=lambda i: (scores[i], i))[:count]
    return sum(weights[i] * rows[i] for i in chosen) / sum(weights[i] for i in chosen)


def averages_some_rows(rows, weights, count, result, scores=None):
    """Whether it is the mean of so many rows, of those of smallest score as far as rounding can tell."""
    for chosen in combinations(range(len(rows)), count):
        taken = list(chosen)
        if scores is not None:
            left = np.delete(scores, taken)
            if left.size and scores[taken].max() > left.min() + 0.01 * scores.max():
                continue
        expected = weights[taken] @ rows[taken] / weights[taken].sum()
        if follows(result, expected, np.abs(rows[taken]).max(0)):
            return True
    return False


def averages_rows_of_small_score(case, updates, others, result):
    """For multi-metrics: where metrics hardly vary, their whitening is rounding."""
    rows = wide(updates)
    weights = wide(others["weights"]) if "weights" in case.arrays else np.ones(len(rows))
    origin = wide(others["params"]) if case.hyper.get("on") == "models" else None
    values = sums(rows, origin)
    spread = values.std(0, ddof=1)
    scores = None
    if (spread > 1e-2 * values.max(0)).all():
        scaled = values / spread
        if np.linalg.cond(np.cov(scaled.T)) < 1e3:
            scores = whitened(values)
    return averages_some_rows(rows, weights, int(case.hyper.get("share", 0.3) * len(rows)), result, scores)


def averages_usual_rows(seen):
    """For multi-metrics, without a guarantee: none of the huge rows, which are unlike all others."""
    rows = np.asarray(seen.updates, np.float64)
    finite = rows[np.isfinite(rows).all(1)]
    usual = finite[np.abs(finite).max(1) < 1e30]
    count = max(1, int(0.3 * len(usable(rows)[0]) + 1e-4))
    return averages_some_rows(usual, np.ones(len(usual)), count, seen.result)


def multi_metrics_with(score=whitened, columns=(0, 1, 2), square=True, more=0, ignored=(), measure=sums):
    def mutant(updates, weights=None, params=None, share=0.3, on="updates"):
        rows = wide(updates)
        origin = wide(params) if on == "models" and "origin" not in ignored else None
        values = measure(rows, origin)
        if not square:
            angles = cosine_distances(rows, 0.0 if origin is None else origin)
            values[:, 0] = angles.sum(1)
        chosen = np.argsort(score(values[:, columns]), kind="stable")[: int(share * len(rows)) + more]
        weights = np.ones(len(rows)) if weights is None or "weights" in ignored else wide(weights)
        return weights[chosen] @ rows[chosen] / weights[chosen].sum()

    return mutant


def euclidean_sums(rows, origin=None):
    values = sums(rows, origin)
    values[:, 1] = np.linalg.norm(rows[:, None] - rows[None], axis=-1).sum(1)
    return values


CASES = [
    RuleCase(
        "multi_metrics",
        multi_metrics,
        {},
        tolerated=3,
        hostile=averages_usual_rows,
        translation=False,
        accepts=averages_rows_of_small_score,
        largest=129,
    ),
    RuleCase(
        "multi_metrics",
        multi_metrics,
        {"share": 0.5, "on": "models"},
        ("share",),
        arrays=("weights", "params"),
        translation=False,
        accepts=averages_rows_of_small_score,
        largest=129,
    ),
]


MUTANTS = {
    "multi_metrics": {
        "centred": multi_metrics_with(lambda values: whitened(values, centred=True)),
        "not whitened": multi_metrics_with(lambda values: (values / values.std(0)).sum(1)),
        "Euclidean distances": multi_metrics_with(measure=euclidean_sums),
        "angles not squared": multi_metrics_with(square=False),
        "without angles": multi_metrics_with(
            lambda values: whitened(np.c_[values, values[:, :1]]), columns=(1, 2)
        ),
        "one row more": multi_metrics_with(more=1),
        "one row fewer": multi_metrics_with(more=-1),
        "of updates": multi_metrics_with(ignored=("origin",)),
        "weights ignored": multi_metrics_with(ignored=("weights",)),
    },
}
