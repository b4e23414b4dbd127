"""Minimum-diameter averaging (MDA): rows, references and wrong versions."""

from itertools import combinations

import numpy as np

from tests.rules.case import N, RuleCase, near
from tests.rules.rounding import follows, hopeless, pair_noise, wide


def minimum_diameter(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    # The largest distance in a subset, from a table: a loop over pairs for each would take minutes.
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))
    costs = apart[subsets[:, :, None], subsets[:, None, :]].max((1, 2))
    return rows[subsets[np.argmax(costs <= costs.min() * (1 + 1e-9))]].mean(0)


def subsets_of(rows, num_malicious):
    return np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))


def averages_one_of(rows, subsets, costs, noise, result):
    """Whether the result is the mean of a subset whose cost rounding may call the smallest."""
    allowed = costs - noise <= (costs + noise).min()
    return any(follows(result, rows[s].mean(0), np.abs(rows[s]).max(0)) for s in subsets[allowed])


def averages_a_closest_subset(case, updates, others, result):
    """For MDA."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    subsets = subsets_of(rows, f)
    squares, off = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    if hopeless(rows).sum() > f:
        squares[:], off[:] = 0.0, 1.0
    low, high = (
        (squares + sign * off)[subsets[:, :, None], subsets[:, None]].max((1, 2)) for sign in (-1, 1)
    )
    return averages_one_of(rows, subsets, (low + high) / 2, (high - low) / 2, result)


def subset_with(cost, more=0, last=False):
    """Averages the subset of smallest cost; `cost` of (m, n − f, d) rows."""

    def mutant(updates, num_malicious):
        rows = wide(updates)
        subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious + more)))
        costs = cost(rows[subsets])
        first = np.flatnonzero(costs <= costs.min() * (1 + 1e-9))[-1 if last else 0]
        return rows[subsets[first]].mean(0)

    return mutant


def pair_distances(picked, order=2):
    return np.linalg.norm(picked[:, :, None] - picked[:, None], ord=order, axis=-1)


def largest_distance(picked):
    return pair_distances(picked).max((1, 2))


CASES = [
    # Of equally good subsets the first is taken, so the order of the rows matters.
    *(
        RuleCase(
            "minimum_diameter",
            minimum_diameter,
            {"num_malicious": f},
            ("num_malicious",),
            largest=N,
            tolerated=f,
            hostile=near(3.0),
            permutation=False,
            accepts=averages_a_closest_subset,
        )
        for f in (3, 5)
    ),
]


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
}
