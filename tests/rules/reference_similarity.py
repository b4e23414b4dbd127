"""Slow float64 NumPy versions of the rules by signs, norms, similarity and a trusted pivot."""

from itertools import product

import numpy as np


def finite_rows(updates):
    return [i for i, row in enumerate(np.asarray(updates, np.float64)) if np.isfinite(row).all()]


def norm_filter(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    norms = [np.sqrt(sum(x * x for x in row)) if np.isfinite(row).all() else np.inf for row in rows]
    shortest = sorted(range(len(rows)), key=lambda i: (norms[i], i))[: len(rows) - num_malicious]
    return sum(rows[i] for i in shortest) / len(shortest)


def nearest_to_pivot(updates, num_malicious, pivot=0):
    rows = np.asarray(updates, np.float64)

    def farness(i):
        if i == pivot:
            return (-1.0, i)
        distance = np.sqrt(sum((a - b) ** 2 for a, b in zip(rows[i], rows[pivot], strict=True)))
        return (distance if np.isfinite(distance) else np.inf, i)

    nearest = sorted(range(len(rows)), key=farness)[: len(rows) - num_malicious]
    return sum(rows[i] for i in nearest) / len(nearest)


def sign_majority(updates):
    result = []
    for column in np.asarray(updates, np.float64).T:
        ups = sum(1 for x in column if x > 0)
        downs = sum(1 for x in column if x < 0)
        result.append(1.0 if ups > downs else -1.0 if downs > ups else 0.0)
    return np.array(result)


def cosine(a, b):
    lengths = [np.sqrt(np.dot(row, row)) for row in (a, b)]
    if 0 in lengths:
        return 0.0
    return float(np.dot(a / lengths[0], b / lengths[1]))


def foolsgold(history, confidence=1.0, present=None):
    """Weights; rows not in `present`, and non-finite ones, get 0 and do not set the scale."""
    rows = np.asarray(history, np.float64)
    n = len(rows)
    finite = finite_rows(rows)
    present = [i for i in finite if present is None or i in present]
    similar = np.zeros((n, n))
    for i, j in product(finite, finite):
        if i != j:
            similar[i, j] = cosine(rows[i], rows[j])
    # The largest over all j, itself among them with 0.
    highest = [max(similar[i]) for i in range(n)]
    rates = {}
    for i in present:
        pardoned = [
            similar[i, j] * (highest[i] / highest[j] if highest[i] < highest[j] else 1.0) for j in range(n)
        ]
        rates[i] = min(1.0, 1.0 - max(pardoned))
        if rates[i] < 1e-12:
            rates[i] = 0.0
    weights = np.zeros(n)
    largest = max(rates.values(), default=0.0)
    for i, rate in rates.items():
        share = rate / largest if largest > 0 else 0.0
        if share == 1:
            weights[i] = 1.0
        elif share > 0:
            weights[i] = min(1.0, max(0.0, confidence * (np.log(share / (1 - share)) + 0.5)))
    return weights


def foolsgold_mean(updates, history, confidence=1.0, normalize="clients"):
    rows = np.asarray(updates, np.float64)
    finite = finite_rows(rows)
    weights = foolsgold(history, confidence, present=finite)
    total = sum((weights[i] * rows[i] for i in finite), np.zeros(rows.shape[1]))
    divisor = {"clients": len(rows), "weights": weights.sum() or 1.0, "none": 1.0}[normalize]
    return total / divisor


def foolsgold_rounds(rounds, num_clients, **options):
    """`(cohort, updates)` of every round to the list of results and the history at the end."""
    history = np.zeros((num_clients, len(rounds[0][1][0])))
    results = []
    for cohort, updates in rounds:
        for i in finite_rows(updates):
            history[cohort[i]] += np.asarray(updates[i], np.float64)
        results.append(foolsgold_mean(updates, history[list(cohort)], **options))
    return results, history


# --- SignGuard ----------------------------------------------------------------------------------------


# A distance that exceeds the bandwidth by less counts as equal.
SLACK = 1e-5


def bandwidth_of(points, quantile):
    neighbors = min(len(points), max(2, int(len(points) * quantile)))
    reach = [sorted(np.linalg.norm(points - point, axis=1))[neighbors - 1] for point in points]
    return max((1 + SLACK) * float(np.mean(reach)), SLACK * np.abs(points).max())


def mean_shift(points, bandwidth):
    """Labels (−1 for an orphan) in the order of decreasing density, with a flat kernel and binned seeds."""
    seeds = {tuple(np.round(point / bandwidth)) for point in points} if bandwidth > 0 else points
    if len(seeds) == len(points):
        seeds = [tuple(point) for point in points]
    else:
        seeds = [tuple(bandwidth * np.array(seed)) for seed in seeds]
    centers = []
    for seed in seeds:
        center = np.array(seed)
        for _ in range(301):
            inside = [point for point in points if np.linalg.norm(point - center) <= bandwidth]
            if not inside:
                break
            previous, center = center, np.mean(inside, axis=0)
            if np.linalg.norm(center - previous) <= 1e-3 * bandwidth:
                break
        if inside:
            centers.append((len(inside), tuple(center)))
    kept = []
    for _, center in sorted(centers, reverse=True):
        if all(np.linalg.norm(np.subtract(center, other)) > bandwidth for other in kept):
            kept.append(center)
    labels = []
    for point in points:
        distances = np.array([np.linalg.norm(point - center) for center in kept])
        nearest = int(np.argmax(distances <= (1 + SLACK) * distances.min()))
        labels.append(nearest if distances[nearest] <= bandwidth else -1)
    return labels


def sign_features(rows, start, size, similarity="none"):
    shares = np.array(
        [
            [sum(1 for x in row[start : start + size] if np.sign(x) == s) / size for s in (1, 0, -1)]
            for row in rows
        ]
    )
    features = shares / (shares.max(0) + 1e-8)
    if similarity == "cosine":
        everyone = range(len(rows))
        cosines = np.array(
            [[cosine(rows[i], rows[j]) if i != j else 0.0 for j in everyone] for i in everyone]
        )
        typical = np.median(cosines, axis=1)
        middle = np.median(typical)
        extra = np.clip(typical, 0, middle) / (5 * middle + 1e-8) if middle > 0 else np.zeros(len(rows))
    elif similarity == "distance":
        spread = np.array([sum(sorted(np.linalg.norm(rows - row, axis=1))[: len(rows) // 2]) for row in rows])
        extra = np.where(spread >= 1.1 * np.median(spread), 0.2, 0.0)
    else:
        return features
    return np.column_stack([features, extra])


def clipped_mean(rows, chosen, length):
    """The mean of the chosen rows, each shortened to `length`; 0 if there is none."""
    total = np.zeros(rows.shape[1])
    for i in chosen:
        norm = np.linalg.norm(rows[i])
        total += rows[i] * (min(1.0, length / norm) if norm > 0 else 1.0)
    return total / max(1, len(chosen))


def sign_guard(
    updates,
    start,
    drawn=slice(None),
    lower=0.1,
    upper=3.0,
    coordinate_fraction=0.1,
    quantile=0.5,
    similarity="none",
):
    """`start` is the first column of the window, `drawn` the rows that the bandwidth is estimated on."""
    everything = np.asarray(updates, np.float64)
    rows = everything[finite_rows(everything)]
    if len(rows) == 0:
        return np.zeros(everything.shape[1])
    size = max(1, int(coordinate_fraction * everything.shape[1]))
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    features = sign_features(rows, start, size, similarity)
    labels = mean_shift(features, bandwidth_of(features[drawn], quantile))
    sizes = [labels.count(k) for k in range(max(labels) + 1)]
    largest = sizes.index(max(sizes))
    chosen = [
        i for i in range(len(rows)) if lower * middle < norms[i] < upper * middle and labels[i] == largest
    ]
    return clipped_mean(rows, chosen, middle)
