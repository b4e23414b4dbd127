"""What must hold of the rules by signs, norms, similarity and a trusted pivot; see properties.py."""

from itertools import product

import jax
import numpy as np

from tests.rules import reference_similarity as reference
from tests.rules.properties import ROUNDING, follows, means_of_smallest, some_follow, wide

# --- on any finite input ------------------------------------------------------------------------------


def averages_shortest_rows(case, updates, others, result):
    """For CGE: ties and nearly equal norms may go either way."""
    rows = wide(updates)
    norms = np.linalg.norm(rows, axis=1)
    count = len(rows) - case.hyper["num_malicious"]
    return some_follow(result, means_of_smallest(rows, norms, ROUNDING * norms, count))


def averages_rows_near_pivot(case, updates, others, result):
    """For MoNNA."""
    rows, pivot = wide(updates), case.hyper.get("pivot", 0)
    distances = np.linalg.norm(rows - rows[pivot], axis=1)
    distances[pivot] = -1.0
    count = len(rows) - case.hyper["num_malicious"]
    return some_follow(result, means_of_smallest(rows, distances, ROUNDING * np.abs(distances), count))


def averages_a_largest_cluster(case, updates, others, result):
    """For SignGuard: a norm at the threshold may be in or out, and equally large clusters may win."""
    rows = wide(updates)
    start, size = drawn(updates, others["key"], **case.hyper)[0], window_size(updates, **case.hyper)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    features = reference.sign_features(rows, start, size, case.hyper.get("similarity", "none"))
    labels = np.array(reference.mean_shift(features, reference.bandwidth_of(features, 0.5)))
    sizes = [np.sum(labels == k) for k in range(labels.max() + 1)]
    lower, upper = case.hyper.get("lower", 0.1), case.hyper.get("upper", 3.0)
    surely = (norms > lower * middle * (1 + ROUNDING)) & (norms < upper * middle * (1 - ROUNDING))
    maybe = (norms > lower * middle * (1 - ROUNDING)) & (norms < upper * middle * (1 + ROUNDING))
    for largest in np.flatnonzero(np.array(sizes) == max(sizes)):
        sure = np.flatnonzero(surely & (labels == largest))
        unsure = np.flatnonzero(maybe & ~surely & (labels == largest))
        for taken in product((False, True), repeat=len(unsure)):
            chosen = np.r_[sure, unsure[np.array(taken, bool)]].astype(int)
            expected = reference.clipped_mean(rows, chosen, middle)
            scale = np.abs(rows[chosen]).max(0) if len(chosen) else 0.0
            if follows(result, expected, scale):
                return True
    return False


def of_weights(case, rows, others, expected):
    """For FoolsGold: 1 − cos of nearly parallel histories has lost digits."""
    return 100 * np.abs(rows).max(0)


# --- what SignGuard drew ------------------------------------------------------------------------------


def window_size(updates, coordinate_fraction=0.1, **others):
    return max(1, int(coordinate_fraction * np.shape(updates)[1]))


def drawn(updates, key, **hyper):
    """The first column of the window, and the rows that the bandwidth is estimated on."""
    n, d = np.shape(updates)
    columns, rows = jax.random.split(key)
    start = jax.random.randint(columns, (), 0, d - window_size(updates, **hyper) + 1, np.int32)
    if n <= 50:
        return int(start), slice(None)
    return int(start), np.argsort(jax.random.uniform(rows, (n,), np.float32), stable=True)[:50]


# --- with hostile rows --------------------------------------------------------------------------------


def no_longer_than_honest(seen):
    """For CGE."""
    return np.linalg.norm(seen.result) <= np.linalg.norm(seen.honest, axis=1).max() * (1 + 1e-5)


def no_farther_from_pivot(pivot):
    """For MoNNA: no farther from the pivot than the farthest honest row."""

    def criterion(seen):
        trusted = seen.updates[pivot]
        reach = np.linalg.norm(seen.honest - trusted, axis=1).max()
        return np.linalg.norm(seen.result - trusted) <= reach * (1 + 1e-5)

    return criterion


def clear_votes_stand(seen):
    """For the majority vote: where the honest votes differ by more than there are hostile ones."""
    votes = np.sign(seen.honest).sum(0)
    clear = np.abs(votes) > len(seen.updates) - len(seen.honest)
    same = seen.result[clear] == np.sign(votes[clear])
    return clear.sum() > 5 and same.all() and np.isin(seen.result, [-1, 0, 1]).all()


def honest_length_and_place(seen):
    """For SignGuard: no longer than the longest honest row; near the honest rows unless hostile ones pass."""
    mean = seen.honest.mean(0)
    radius = np.linalg.norm(seen.honest - mean, axis=1).max()
    return no_longer_than_honest(seen) and np.linalg.norm(seen.result - mean) <= 2.0 * radius


def weighs_finite_rows(seen):
    """For FoolsGold, which bounds no row: non-finite rows are absent, finite ones have their weight."""
    rows = np.asarray(seen.updates, np.float64)
    expected = reference.foolsgold_mean(rows, seen.others["history"])
    scale = np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(0)
    # What a cosine is rounded by is a larger share of how far it is from 1, which the weights are made of.
    history = np.asarray(seen.others["history"], np.float64)
    unit = history / np.linalg.norm(history, axis=1, keepdims=True)
    apart = 1 - np.max(unit @ unit.T, where=~np.eye(len(unit), dtype=bool), initial=-1.0)
    return follows(seen.result, expected, scale * (1 + 16 * np.finfo(np.float32).eps / (apart * ROUNDING)))
