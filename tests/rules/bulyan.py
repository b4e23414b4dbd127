"""Bulyan: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, around_hull
from tests.rules.krum import could_be_first, distances_of, krum_order, krum_scores_and_noise, sums_to_nearest
from tests.rules.mean_around_median import averages_values_near, nearest_mean, nearest_values_mean
from tests.rules.median import median
from tests.rules.rounding import ROUNDING, far_out, wide
from tests.rules.trimmed_mean import trimmed


def bulyan_picks(updates, num_malicious):
    """El Mhamdi et al. 2018, first stage: θ = n − 2f times the Krum winner among the rows that remain."""
    rows = np.asarray(updates, np.float64)
    remaining, picked = list(range(len(rows))), []
    for _ in range(len(rows) - 2 * num_malicious):
        neighbors = max(1, len(remaining) - num_malicious - 2)
        picked.append(remaining.pop(krum_order(rows[remaining], num_malicious, num_neighbors=neighbors)[0]))
    return picked


def bulyan(updates, num_malicious):
    rows = np.asarray(updates, np.float64)[bulyan_picks(updates, num_malicious)]
    count = len(rows) - 2 * num_malicious
    return np.array([nearest_values_mean(c, m, count) for c, m in zip(rows.T, median(rows), strict=True)])


def picks_of_bulyan(rows, num_malicious):
    """Every selection that rounding may make, one of each set of equal rows."""
    reached = {tuple(range(len(rows)))}
    for _ in range(len(rows) - 2 * num_malicious):
        following = {}
        for remaining in reached:
            index = np.array(remaining)
            neighbors = max(1, len(remaining) - num_malicious - 2)
            scores, noise = krum_scores_and_noise(rows[index], num_malicious, num_neighbors=neighbors)
            for winner in could_be_first(scores, noise):
                left = tuple(np.delete(index, winner))
                following.setdefault(rows[list(left)].tobytes(), left)
        reached = set(following.values())
    for left in reached:
        yield np.setdiff1d(np.arange(len(rows)), left)


def averages_values_near_median_of_picks(case, updates, others, result):
    """For Bulyan."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    if far_out(rows).sum() > f:
        # Picks among more rows far out than it tolerates are left open.
        return bool(np.isfinite(result).all())
    for picked in picks_of_bulyan(rows, f):
        chosen = rows[picked]
        middle = median(chosen)
        off = ROUNDING * np.abs(middle)
        if averages_values_near(chosen, middle, off, len(chosen) - 2 * f, result):
            return True
    return False


def first_by_krum(rows, neighbors, next_breaks_ties=True):
    ordered = np.sort(distances_of(rows) ** 2, axis=1)
    following = ordered[:, neighbors + 1 : neighbors + 2].sum(1) if next_breaks_ties else np.zeros(len(rows))
    return int(np.lexsort((following, sums_to_nearest(rows, neighbors)))[0])


def bulyan_with(rescore=True, fewer_picks=0, neighbors=None, second=None, **ties):
    def mutant(updates, num_malicious):
        rows, f = wide(updates), num_malicious
        n = len(rows)
        picks = n - 2 * f - fewer_picks
        if rescore:
            left, picked = list(range(n)), []
            for _ in range(picks):
                count = (neighbors or (lambda n, m, f: max(1, m - f - 2)))(n, len(left), f)
                picked.append(left.pop(first_by_krum(rows[left], count, **ties)))
        else:
            picked = np.argsort(sums_to_nearest(rows, n - f - 2), kind="stable")[:picks]
        chosen = rows[picked]
        if second is not None:
            return second(chosen, f)
        return nearest_mean(chosen, np.median(chosen, axis=0), picks - 2 * f)

    return mutant


CASES = [
    # The last picks have one neighbour each: for f = 2 one of them, for f = 1 two.
    *(
        RuleCase(
            "bulyan",
            bulyan,
            {"num_malicious": f},
            ("num_malicious",),
            largest=300,
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=averages_values_near_median_of_picks,
        )
        for f in (2, 1)
    ),
]


MUTANTS = {
    "bulyan": {
        "no re-scoring": bulyan_with(rescore=False),
        "n - f - 2 neighbours throughout": bulyan_with(neighbors=lambda n, m, f: min(n - f - 2, m - 1)),
        "one neighbour more": bulyan_with(neighbors=lambda n, m, f: max(0, m - f - 1)),
        "no neighbour in the last pick": bulyan_with(neighbors=lambda n, m, f: max(0, m - f - 2)),
        "ties to the lowest row": bulyan_with(next_breaks_ties=False),
        "two picks fewer": bulyan_with(fewer_picks=2),
        "mean of the picks": bulyan_with(second=lambda chosen, f: chosen.mean(0)),
        "trimmed mean of the picks": bulyan_with(second=lambda chosen, f: trimmed(chosen, f, f)),
        "values around the mean": bulyan_with(
            second=lambda chosen, f: nearest_mean(chosen, chosen.mean(0), len(chosen) - 2 * f)
        ),
        "θ - f values": bulyan_with(
            second=lambda chosen, f: nearest_mean(chosen, np.median(chosen, axis=0), len(chosen) - f)
        ),
        "second stage on all rows": lambda updates, num_malicious: nearest_mean(
            wide(updates), np.median(updates, axis=0), len(updates) - 4 * num_malicious
        ),
    },
}
