"""FLDetector: rows, references and wrong versions."""

from functools import lru_cache

import jax
import numpy as np

from tests.rules.case import N, RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import equals_reference, follows, of_column, wide


def best_sums(values, most):
    """The smallest sums of squares of 1 to `most` clusters of numbers, by dynamic programming."""
    values = np.sort(np.asarray(values, np.float64))
    n = len(values)

    costs = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(i + 1, n + 1):
            costs[i, j] = np.square(values[i:j] - values[i:j].mean()).sum()
    best = costs[0]
    found = [best[n]]
    for _ in range(1, most):
        best = np.array([np.min(best[: j + 1] + costs[: j + 1, j]) for j in range(n + 1)])
        found.append(best[n])
    return found


@lru_cache
def of_draws(draws, count, most):
    return np.array([log_sums(draw[:count], most) for draw in draws])


def log_sums(values, most):
    values = np.asarray(values, np.float64)
    spread = values.max() - values.min()
    return np.log(np.maximum(best_sums((values - values.min()) / (spread or 1.0), most), 1e-12))


def num_clusters(values, draws, most=7):
    """The gap statistic in FLDetector's form."""
    drawn = of_draws(tuple(map(tuple, draws)), len(values), most + 1)
    gaps = np.log(np.exp(drawn).mean(0)) - log_sums(values, most + 1)
    slack = np.sqrt(1 + 1 / len(draws)) * drawn.std(0)
    return next((k for k in range(1, most + 1) if gaps[k - 1] >= gaps[k] - slack[k]), most)


def upper(values):
    """The indices of the upper of the two clusters of numbers with the smallest sum of squares."""
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, np.float64)[order]
    costs = [
        np.square(ordered[:cut] - ordered[:cut].mean()).sum()
        + np.square(ordered[cut:] - ordered[cut:].mean()).sum()
        for cut in range(1, len(ordered))
    ]
    return order[1 + int(np.argmin(costs)) :]


def suspects(scores, draws):
    known = np.flatnonzero(np.isfinite(scores))
    values = np.asarray(scores, np.float64)[known]
    return known[upper(values)] if num_clusters(values, draws) > 1 else known[:0]


def fldetector(updates, scores, draws):
    rows = np.asarray(updates, np.float64)
    kept = [i for i in finite_rows(rows) if i not in suspects(scores, draws)]
    return sum((rows[i] for i in kept), np.zeros(rows.shape[1])) / max(1, len(kept))


def drawn(updates, scores):
    return scores, uniform(len(updates))


def uniform(n):
    return np.asarray(jax.random.uniform(jax.random.key(0), (10, n), np.float32))


def averages_the_others(seen):
    """For FLDetector, which looks at scores only."""
    rows = np.asarray(seen.updates, np.float64)
    expected = fldetector(rows, *drawn(rows, seen.others["scores"]))
    return follows(seen.result, expected, np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(0))


def fldetector_with(excluded, total=False):
    def mutant(updates, scores, draws):
        rows = np.delete(wide(updates), excluded(wide(scores), draws), axis=0)
        return rows.sum(0) if total else rows.mean(0)

    return mutant


CASES = [
    RuleCase(
        "fldetector",
        fldetector,
        {},
        arrays=("scores",),
        draws=drawn,
        tolerated=3,
        hostile=averages_the_others,
        accepts=equals_reference(of_column),
        largest=N,
    ),
]


MUTANTS = {
    "fldetector": {
        "everybody": fldetector_with(lambda scores, draws: []),
        "always two clusters": fldetector_with(lambda scores, draws: upper(scores)),
        "the lower cluster left out": fldetector_with(
            lambda scores, draws: (
                np.setdiff1d(np.arange(len(scores)), upper(scores)) if num_clusters(scores, draws) > 1 else []
            )
        ),
        "the largest score left out": fldetector_with(
            lambda scores, draws: [np.argmax(scores)] if num_clusters(scores, draws) > 1 else []
        ),
        "one cluster more": fldetector_with(
            lambda scores, draws: upper(scores) if num_clusters(scores, draws) > 0 else []
        ),
        "sum": fldetector_with(suspects, total=True),
    },
}
