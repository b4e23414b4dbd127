"""Clustering, clipped and not: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import N, RuleCase
from tests.rules.flame import cosine_distances, jittered, usable
from tests.rules.foolsgold import finite_rows
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, follows, wide

JOIN = {"average": np.mean, "complete": np.max, "single": np.min}


def two_clusters(distances, linkage, slack=0.0):
    """The nearest two clusters become one, ties to the lowest rows, until two are left."""
    clusters = [[i] for i in range(len(distances))]
    while len(clusters) > 2:
        apart = {
            (a, b): JOIN[linkage](distances[np.ix_(clusters[a], clusters[b])])
            for b in range(len(clusters))
            for a in range(b)
        }
        least = min(apart.values())
        a, b = min(pair for pair, distance in apart.items() if distance <= least * (1 + slack))
        clusters[a] += clusters.pop(b)
    return clusters


def larger(distances, linkage, slack=0.0):
    clusters = two_clusters(distances, linkage, slack)
    # The first of equally large ones is that of the lowest row.
    return sorted(max(clusters, key=len))


def clustering(updates, linkage="complete", select=larger):
    everything = np.asarray(updates, np.float64)
    rows = everything[finite_rows(everything)]
    if len(rows) == 0:
        return np.zeros(everything.shape[1])
    chosen = select(cosine_distances(rows), linkage)
    return sum(rows[i] for i in chosen) / len(chosen)


def clipped_clustering(updates, past_norms=(), linkage="average", select=larger):
    everything = np.asarray(updates, np.float64)
    kept, norms = usable(everything)
    if not kept:
        return np.zeros(everything.shape[1])
    rows, norms = everything[kept], norms[kept]
    middle = np.median([*norms, *past_norms])
    chosen = select(cosine_distances(rows), linkage)
    return sum(rows[i] * (min(1.0, middle / norms[i]) if norms[i] > 0 else 1.0) for i in chosen) / len(chosen)


def averages_a_cluster(case, updates, others, result):
    """Distances that tie but for rounding may go either way."""
    rows = wide(updates)
    linkage = case.hyper.get("linkage", "complete" if case.name == "clustering" else "average")
    for distances in jittered(cosine_distances(rows), 2 * ROUNDING):
        for slack in (1e-5, 1e-4):
            chosen = larger(distances, linkage, slack)
            expected = case.reference(updates, **case.hyper, select=lambda *_, chosen=chosen: chosen)
            if follows(result, expected, np.abs(rows[chosen]).max(0)):
                return True
    return False


def is_the_larger_cluster(seen):
    """For clustering, which bounds no row."""
    rows = np.asarray(seen.updates, np.float64)
    finite = np.abs(np.where(np.isfinite(rows), rows, 0.0))
    return follows(seen.result, clustering(rows), finite.max(0))


def clustering_with(linkage=None, measure=cosine_distances, select=larger, clip=None):
    def mutant(updates, **options):
        rows = wide(updates)
        chosen = select(measure(rows), linkage or options["linkage"])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if clip is not None:
            rows = rows * np.minimum(1, clip(norms) / norms)
        return rows[chosen].mean(0)

    return lambda updates, **options: mutant(updates, **{"linkage": "average", **options})


def euclidean(rows):
    return np.linalg.norm(rows[:, None] - rows[None], axis=-1)


def similarities(rows):
    return 2 - cosine_distances(rows) - 2 * np.eye(len(rows))


def smaller(distances, linkage):
    return min(two_clusters(distances, linkage), key=len)


CASES = [
    RuleCase(
        "clustering",
        clustering,
        {},
        tolerated=5,
        hostile=is_the_larger_cluster,
        translation=False,
        duplicates=True,
        accepts=averages_a_cluster,
        largest=N,
    ),
    RuleCase(
        "clustering",
        clustering,
        {"linkage": "single"},
        translation=False,
        accepts=averages_a_cluster,
        largest=N,
    ),
    RuleCase(
        "clipped_clustering",
        clipped_clustering,
        {},
        tolerated=5,
        hostile=no_longer_than_honest,
        translation=False,
        duplicates=True,
        accepts=averages_a_cluster,
        largest=N,
    ),
]


MUTANTS = {
    "clustering": {
        "average linkage": clustering_with("average"),
        "complete linkage throughout": clustering_with("complete"),
        "the smaller cluster": clustering_with("complete", select=smaller),
        "Euclidean distances": clustering_with("complete", measure=euclidean),
        "similarities for distances": clustering_with("complete", measure=similarities),
        "clipped to the median norm": clustering_with("complete", clip=np.median),
    },
    "clipped_clustering": {
        "not clipped": clustering_with(),
        "single linkage": clustering_with("single", clip=np.median),
        "complete linkage": clustering_with("complete", clip=np.median),
        "the smaller cluster": clustering_with(select=smaller, clip=np.median),
        "Euclidean distances": clustering_with(measure=euclidean, clip=np.median),
        "similarities for distances": clustering_with(measure=similarities, clip=np.median),
        "mean norm": clustering_with(clip=np.mean),
        "lower median": clustering_with(clip=lambda norms: np.sort(norms.ravel())[(len(norms) - 1) // 2]),
    },
}
