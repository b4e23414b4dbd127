"""RFLBAT: rows, reference and wrong versions."""

from functools import lru_cache

import jax
import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.lfighter import averages_some_rows
from tests.rules.rounding import wide


def away(points, centers):
    return np.linalg.norm(points[:, None] - centers[None], axis=2)


def lloyd(points, k):
    """Labels and the sum of squares, from the points that are farthest from each other."""
    chosen = [np.argmax(away(points, points.mean(0, keepdims=True)))]
    for _ in range(k - 1):
        chosen.append(np.argmax(away(points, points[chosen]).min(1)))
    centers, labels, last = points[chosen], None, None
    for _ in range(50):
        labels = np.argmin(away(points, centers), axis=1)
        if last is not None and (labels == last).all():
            break
        last = labels
        centers = np.array(
            [points[labels == j].mean(0) if (labels == j).any() else centers[j] for j in range(k)]
        )
    return labels, np.sum((points - centers[labels]) ** 2)


def log_sums(points, most):
    return np.log(np.maximum([lloyd(points, k)[1] for k in range(1, most + 1)], 1e-12))


@lru_cache
def of_draws(count, n, width, most, num_draws=5):
    drawn = wide(jax.random.uniform(jax.random.key(0), (num_draws, n, width), np.float32))
    return np.array([log_sums(stack, most) for stack in drawn[:, :count]])


def gap_statistic(points, n, most=9):
    width = points.max(0) - points.min(0)
    scaled = (points - points.min(0)) / np.where(width > 0, width, 1.0)
    drawn = of_draws(*points.shape[:1], n, points.shape[1], most)
    gaps = drawn.mean(0) - log_sums(scaled, most)
    slack = np.sqrt(1 + 1 / len(drawn)) * drawn.std(0)
    return next((k for k in range(1, most) if gaps[k - 1] >= gaps[k] - slack[k]), most)


def rflbat(
    updates,
    first_limit=10.0,
    last_limit=4.0,
    num_clusters=None,
    most_clusters=9,
    components=2,
    chosen=min,
    itself=True,
    middle=np.median,
    own_cluster=True,
):
    everything = wide(updates)
    present = finite_rows(everything)
    rows = everything[present]
    if not present:
        return np.zeros(everything.shape[1])
    vectors, values, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    points = vectors[:, :components] * values[:components]
    extent = np.abs(points).max()
    points = points / (extent if extent > 0 else 1.0)

    def inside(members, limit, among=None):
        among = members if among is None else among
        sums = away(points[members], points[among]).sum(1)
        return [
            i for i, e in zip(members, sums, strict=True) if e < limit * np.median(sums) or not sums.any()
        ]

    passed = inside(list(range(len(rows))), first_limit)
    k = (
        gap_statistic(points[passed], len(everything), most_clusters)
        if num_clusters is None
        else num_clusters
    )
    labels = lloyd(points[passed], k)[0]
    clusters = [[i for i, label in zip(passed, labels, strict=True) if label == j] for j in range(k)]
    similar = {}
    for j, members in enumerate(clusters):
        if len(members) > 1:
            means = [
                np.mean([cosine(rows[a], rows[b]) for b in members if itself or a != b]) for a in members
            ]
            similar[j] = middle(means)
    if not similar:
        return rows[passed].mean(0)
    best = chosen(similar, key=similar.get)
    return rows[inside(clusters[best], last_limit, None if own_cluster else passed)].mean(0)


def rflbat_with(**changed):
    return lambda updates, **options: rflbat(updates, **{**options, **changed})


CASES = [
    RuleCase(
        "rflbat",
        rflbat,
        {"first_limit": 1.6, "last_limit": 1.2, **how},
        ("first_limit", "last_limit"),
        translation=False,
        accepts=averages_some_rows,
        largest=129,
    )
    for how in ({}, {"num_clusters": 3})
]


MUTANTS = {
    "rflbat": {
        "one component": rflbat_with(components=1),
        "three components": rflbat_with(components=3),
        "the most similar cluster": rflbat_with(chosen=max),
        "without itself": rflbat_with(itself=False),
        "the mean similarity": rflbat_with(middle=np.mean),
        "nothing is dropped first": rflbat_with(first_limit=100.0),
        "nothing is dropped last": rflbat_with(last_limit=100.0),
        "distances from all": rflbat_with(own_cluster=False),
        "one cluster": rflbat_with(num_clusters=1),
        "two clusters": rflbat_with(num_clusters=2),
    }
}
