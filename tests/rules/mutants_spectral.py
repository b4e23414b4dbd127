"""Plausible wrong versions of the spectral and subset rules; see mutants.py."""

from itertools import combinations

import numpy as np

from tests.rules import reference_spectral as reference


def rows_of(updates):
    return np.asarray(updates, np.float64)


def subset_with(cost, more=0, last=False):
    """Averages the subset of smallest cost; `cost` of (m, n − f, d) rows."""

    def mutant(updates, num_malicious):
        rows = rows_of(updates)
        subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious + more)))
        costs = cost(rows[subsets])
        first = np.flatnonzero(costs <= costs.min() * (1 + 1e-9))[-1 if last else 0]
        return rows[subsets[first]].mean(0)

    return mutant


def pair_distances(picked, order=2):
    return np.linalg.norm(picked[:, :, None] - picked[:, None], ord=order, axis=-1)


def largest_distance(picked):
    return pair_distances(picked).max((1, 2))


def singular_values(picked, centred=True):
    return np.linalg.svd(picked - picked.mean(1, keepdims=True) * centred, compute_uv=False)


def filter_with(power=2, over_removed=False, last=False, kept=lambda n, f: n - 2 * f, which=-1, hard=False):
    def mutant(updates, num_malicious):
        rows = rows_of(updates)
        n = len(rows)
        weights, best, smallest = np.ones(n), rows.mean(0), np.inf
        for _ in range(1000):
            if weights.sum() <= kept(n, num_malicious) * (1 + 1e-9):
                break
            spread, center = reference.covariance(rows, weights)
            values, vectors = np.linalg.eigh(spread)
            if last or values[-1] < smallest:
                best, smallest = center, values[-1]
            deviations = np.abs((rows - center) @ vectors[:, which]) ** power
            largest = (deviations if over_removed else deviations[weights > 0]).max()
            factors = np.clip(1 - deviations / largest, 0, 1)
            weights = weights * (factors > 1e-9 if hard else factors)
        return best

    return mutant


def conquer_with(
    more=0, axis=0, center=np.mean, combine=np.all, whole=False, only_first=False, biggest=False
):
    def mutant(updates, drawn, num_malicious, filter_fraction=1.0, **sizes):
        rows = rows_of(updates)
        count = len(rows) - int(filter_fraction * num_malicious + 1e-9) + more
        votes = []
        for those in drawn[:1] if only_first else drawn:
            part = rows if whole else rows[:, those]
            centred = part - center(part, axis=0)
            scores = (centred @ np.linalg.svd(centred, full_matrices=False)[2][axis]) ** 2
            ranks = np.argsort(np.argsort(-scores if biggest else scores, kind="stable"))
            votes.append(ranks < count)
        return rows[combine(votes, axis=0)].mean(0)

    return mutant


MUTANTS = {
    "minimum_diameter": {
        "one row more": subset_with(largest_distance, more=1),
        "one row fewer": subset_with(largest_distance, more=-1),
        "sum of the distances": subset_with(lambda picked: pair_distances(picked).sum((1, 2))),
        "city block distance": subset_with(lambda picked: pair_distances(picked, 1).max((1, 2))),
        "distance from the mean": subset_with(
            lambda picked: np.linalg.norm(picked - picked.mean(1, keepdims=True), axis=2).max(1)
        ),
        "last of equals": subset_with(largest_distance, last=True),
    },
    "smallest_spectrum": {
        "one row more": subset_with(lambda picked: singular_values(picked)[:, 0], more=1),
        "one row fewer": subset_with(lambda picked: singular_values(picked)[:, 0], more=-1),
        "trace": subset_with(lambda picked: (singular_values(picked) ** 2).sum(1)),
        "second eigenvalue": subset_with(lambda picked: singular_values(picked)[:, 1]),
        "not centred": subset_with(lambda picked: singular_values(picked, centred=False)[:, 0]),
        "diameter": subset_with(largest_distance),
    },
    "covariance_filter": {
        "maximum over removed rows": filter_with(over_removed=True),
        "last mean": filter_with(last=True),
        "unsquared": filter_with(power=1),
        "down to n - f": filter_with(kept=lambda n, f: n - f),
        "one row less": filter_with(kept=lambda n, f: n - 2 * f - 1),
        "second eigenvector": filter_with(which=-2),
        "whole rows only": filter_with(hard=True),
    },
    "divide_and_conquer": {
        "one row more": conquer_with(more=1),
        "one row fewer": conquer_with(more=-1),
        "second singular vector": conquer_with(axis=1),
        "around the median": conquer_with(center=np.median),
        "not centred": conquer_with(center=lambda part, axis: 0.0),
        "union of the iterations": conquer_with(combine=np.any),
        "all coordinates": conquer_with(whole=True),
        "first iteration only": conquer_with(only_first=True),
        "outliers": conquer_with(biggest=True),
    },
}
