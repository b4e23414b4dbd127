"""Divide and conquer (DnC): rows, references and wrong versions."""

import jax
import numpy as np

from fljax.numerics.subsets import random_coordinates
from tests.rules.case import RuleCase, near
from tests.rules.rounding import hopeless, means_of_smallest, some_follow, wide


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


def drawn_coordinates(updates, key, num_iterations=1, subspace_size=10_000, **others):
    """What `divide_and_conquer` drew."""
    d = np.shape(updates)[1]
    if subspace_size >= d:
        return ([np.arange(d)],)
    with jax.enable_x64(False):
        return ([np.asarray(those) for those in random_coordinates(key, d, subspace_size, num_iterations)],)


def averages_rows_off_the_axis(case, updates, others, result):
    """For DnC, where every iteration sees all coordinates."""
    rows = wide(updates)
    (drawn,) = drawn_coordinates(updates, others["key"], **case.hyper)
    assert len(drawn) == 1
    far = hopeless(rows)
    count = len(rows) - int(case.hyper.get("filter_fraction", 1.0) * case.hyper["num_malicious"] + 1e-9)
    if far.sum() >= len(rows) - count:
        return some_follow(result, [(rows[~far].mean(0), np.abs(rows[~far]).max(0))]) or far.sum() > 5
    # Removing far rows beforehand changes the axis.
    return any(
        some_follow(result, means_of_smallest(rows, *scores, count))
        for scores in (scores_and_noise(rows, np.zeros_like(far)), scores_and_noise(rows, far))
    )


def scores_and_noise(rows, far):
    scores = np.full(len(rows), np.inf)
    scores[~far] = outlier_scores(rows[~far])
    singular = np.linalg.svd(rows[~far] - rows[~far].mean(0), compute_uv=False)
    largest = scores[~far].max()
    # An axis that another one nearly equals may point anywhere between them.
    clear = len(singular) < 2 or singular[1] < 0.99 * singular[0]
    scores[far] = 10 * largest + 1
    noise = np.full(len(rows), 1e-4 * largest if clear and largest > 0 else 10.0 * largest + 1)
    # Both deviation and axis are known to rounding at the scale of the farthest row.
    return scores, np.where(far, 0, noise + 1e-2 * np.sqrt(scores * largest) * clear)


def conquer_with(
    more=0, axis=0, center=np.mean, combine=np.all, whole=False, only_first=False, biggest=False
):
    def mutant(updates, drawn, num_malicious, filter_fraction=1.0, **sizes):
        rows = wide(updates)
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


CASES = [
    *(
        RuleCase(
            "divide_and_conquer",
            divide_and_conquer,
            {"num_malicious": 3, **hyper},
            ("num_malicious", *(name for name in hyper if name == "filter_fraction")),
            arrays=("key",),
            draws=drawn_coordinates,
            tolerated=3,
            hostile=near(3.0),
            accepts=averages_rows_off_the_axis,
        )
        for hyper in ({}, {"filter_fraction": 1.5}, {"num_iterations": 3, "subspace_size": 20})
    ),
]


MUTANTS = {
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
