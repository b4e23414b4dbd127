"""Nearest-neighbour mixing: rows, references and wrong versions."""

import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import Poisoned, RuleCase
from tests.rules.krum import distances_of
from tests.rules.mean import mean
from tests.rules.rounding import far_out, means_of_smallest, pair_noise, some_follow, wide


def nnm(updates, num_malicious):
    """Allouah et al. 2023: every row becomes the mean of the n − f rows nearest to it, itself included."""
    rows = np.asarray(updates, np.float64)
    mixed = []
    for row in rows:
        order = np.argsort(np.linalg.norm(rows - row, axis=1), kind="stable")
        mixed.append(mean(rows[order[: len(rows) - num_malicious]]))
    return np.stack(mixed)


def averages_neighbors(case, updates, others, result):
    """For NNM, row by row; rows far out are all as far from each other, so what they become is left open."""
    rows = wide(updates)
    squares, noise = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    noise[np.diag_indices(len(rows))] = 0.0
    count, near = len(rows) - case.hyper["num_malicious"], np.flatnonzero(~far_out(rows))
    if len(near) < count:
        return bool(np.isfinite(result).all())
    return all(some_follow(result[i], means_of_smallest(rows, squares[i], noise[i], count)) for i in near)


def mixed_with_neighbors(seen: Poisoned) -> bool:
    """For NNM: an honest row moves no farther than to the honest row farthest from it."""
    reach = [np.linalg.norm(seen.honest - row, axis=1).max() for row in seen.honest]
    moved = np.linalg.norm(seen.result[seen.kept] - seen.honest, axis=1)
    return bool((moved <= np.array(reach) * (1 + 1e-5)).all())


def nnm_with(more=0, skip=0, combine=np.mean):
    def mutant(updates, num_malicious):
        rows = wide(updates)
        order = np.argsort(distances_of(rows), axis=1, kind="stable")
        count = len(rows) - num_malicious + more
        return np.stack([combine(rows[chosen[skip : skip + count]], axis=0) for chosen in order])

    return mutant


CASES = [
    RuleCase(
        "nnm",
        nnm,
        {"num_malicious": 3},
        ("num_malicious",),
        tolerated=3,
        hostile=mixed_with_neighbors,
        accepts=averages_neighbors,
        registry=PRE_AGGREGATORS,
    ),
]


MUTANTS = {
    "nnm": {
        "without itself": nnm_with(skip=1),
        "itself and n - f others": nnm_with(more=1),
        "n - f others, one fewer": nnm_with(more=-1),
        "median of the neighbours": nnm_with(combine=np.median),
        "f neighbours": lambda updates, num_malicious: nnm_with()(updates, len(updates) - num_malicious),
    },
}
