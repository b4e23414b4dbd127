"""Slow float64 NumPy versions, written from the papers: loops, no shared code with the library."""

import numpy as np


def mean(updates, weights=None):
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    total = np.zeros(rows.shape[1])
    for weight, row in zip(weights, rows, strict=True):
        total += weight * row
    return total / weights.sum()


def median(updates):
    rows = np.asarray(updates, np.float64)
    result = []
    for column in rows.T:
        ordered = sorted(column)
        n = len(ordered)
        result.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return np.array(result)


def trimmed_mean(updates, trim):
    rows = np.asarray(updates, np.float64)
    return np.array([sum(sorted(c)[trim : len(c) - trim]) / (len(c) - 2 * trim) for c in rows.T])


def krum_scores(updates, num_malicious, power=2, num_neighbors=None):
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    # The first of the sorted distances is the row's own.
    return np.array([sum(sorted(np.linalg.norm(rows - row, axis=1) ** power)[1 : count + 1]) for row in rows])


def krum_order(updates, num_malicious, power=2, num_neighbors=None):
    """Row numbers by Krum score; of equal scores the smaller next distance first, then the lower row."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    keys = []
    for i, score in enumerate(krum_scores(rows, num_malicious, power, num_neighbors)):
        others = sorted(np.linalg.norm(rows - rows[i], axis=1))[1:]
        keys.append((score, others[count] if count < len(others) else np.inf, i))
    return [i for _, _, i in sorted(keys)]


def krum(updates, num_malicious, **options):
    return np.asarray(updates, np.float64)[krum_order(updates, num_malicious, **options)[0]]


def multi_krum(updates, num_malicious, num_selected=None, **options):
    """Blanchard et al. 2017: the mean of the rows with the smallest Krum scores."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious if num_selected is None else num_selected
    return sum(rows[i] for i in krum_order(rows, num_malicious, **options)[:count]) / count


def nearest_values_mean(values, target, count):
    """Mean of the `count` values nearest to `target`; of two as near the smaller one first."""
    return sum(sorted(values, key=lambda value: (abs(value - target), value))[:count]) / count


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


def mean_around_median(updates, num_malicious):
    """Xie et al. 2018: per coordinate the mean of the n − f values nearest the median."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious
    return np.array([nearest_values_mean(c, m, count) for c, m in zip(rows.T, median(rows), strict=True)])


def phocas(updates, trim):
    """Xie et al. 2018: per coordinate the mean of the n − trim values nearest the trimmed mean."""
    rows = np.asarray(updates, np.float64)
    count, targets = len(rows) - trim, trimmed_mean(rows, trim)
    return np.array([nearest_values_mean(c, t, count) for c, t in zip(rows.T, targets, strict=True)])


def weighted_median(values, weights):
    """The smallest value that half of the weight does not exceed."""
    passed = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        passed += weight
        if passed >= sum(weights) / 2:
            return value


def weiszfeld_weights(updates, point, weights=None, smoothing=1e-6, smoothing_unit=None):
    """w_i / max(ν, ‖x_i − z‖): the steps of the smoothed Weiszfeld iteration weigh the rows with these."""
    rows = np.asarray(updates, np.float64)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    lengths = np.linalg.norm(rows - point, axis=1)
    nu = smoothing * (weighted_median(lengths, weights) if smoothing_unit is None else smoothing_unit)
    return weights / np.maximum(max(nu, 1e-150), lengths)


def geometric_median(
    updates,
    weights=None,
    smoothing=1e-6,
    smoothing_unit=None,
    max_iterations=2000,
    start="mean",
    tolerance=0,
):
    """Smoothed Weiszfeld, all `max_iterations` steps."""
    rows = np.asarray(updates, np.float64)
    point = mean(rows, weights) if start == "mean" else np.zeros(rows.shape[1])
    for _ in range(max_iterations):
        share = weiszfeld_weights(rows, point, weights, smoothing, smoothing_unit)
        point = share @ rows / share.sum()
    return point


def centered_clipping(updates, center, radius, num_iterations=1):
    """Karimireddy et al. 2021: v ← v + (1/n) Σ (x_i − v) min(1, τ / ‖x_i − v‖)."""
    rows, point = np.asarray(updates, np.float64), np.asarray(center, np.float64)
    for _ in range(num_iterations):
        point = point + clip(rows - point, radius).sum(0) / len(rows)
    return point


def trust_scores(updates, root_update):
    root = np.asarray(root_update, np.float64)
    scores = []
    for row in np.asarray(updates, np.float64):
        lengths = np.linalg.norm(row) * np.linalg.norm(root)
        scores.append(max(0.0, row @ root / lengths) if lengths > 0 else 0.0)
    return np.array(scores)


def fltrust(updates, root_update, clip_negative=True, normalize="full", include_root=False):
    root = np.asarray(root_update, np.float64)
    root_norm = np.linalg.norm(root)
    total, update = 0.0, np.zeros(len(root))
    for row in np.asarray(updates, np.float64):
        norm = np.linalg.norm(row)
        if norm == 0 or root_norm == 0:
            continue
        score = row @ root / (norm * root_norm)
        if clip_negative and score < 0:
            score = 0.0
        factor = {"full": root_norm / norm, "shrink": min(1.0, root_norm / norm), "none": 1.0}[normalize]
        total += score
        update += score * factor * row
    if include_root:
        total += 1.0
        update += root
    return update / total if total != 0 else np.zeros(len(root))


def root_only(updates, root_update):
    return np.asarray(root_update, np.float64)


def clip(updates, radius):
    rows = np.asarray(updates, np.float64)
    return np.stack([row * min(1.0, radius / max(np.linalg.norm(row), 1e-300)) for row in rows])


def adaptive_clip(updates, num_malicious):
    """ARC, Allouah et al. 2024: the ⌊2 (f/n) (n − f)⌋ longest rows are cut to the length of the next one."""
    rows = np.asarray(updates, np.float64)
    n = len(rows)
    count = 2 * num_malicious * (n - num_malicious) // n
    return clip(rows, sorted((np.linalg.norm(row) for row in rows), reverse=True)[count])


def nnm(updates, num_malicious):
    """Allouah et al. 2023: every row becomes the mean of the n − f rows nearest to it, itself included."""
    rows = np.asarray(updates, np.float64)
    mixed = []
    for row in rows:
        order = np.argsort(np.linalg.norm(rows - row, axis=1), kind="stable")
        mixed.append(mean(rows[order[: len(rows) - num_malicious]]))
    return np.stack(mixed)


def bucketing(updates, members, bucket_size):
    """Karimireddy et al. 2022: the mean of every bucket; `members[b, i]`: is row i in bucket b?"""
    rows = np.asarray(updates, np.float64)
    sizes = [bucket_size] * (len(rows) // bucket_size)
    if len(rows) % bucket_size:
        sizes.append(len(rows) % bucket_size)
    assert members.sum(1).tolist() == sizes
    assert (members.sum(0) == 1).all()
    return np.stack([mean(rows[np.flatnonzero(inside)]) for inside in members])


def trim_interval(honest, everyone, stretch=2.0):
    """Per coordinate the interval of the full-knowledge Trim attack: Fang et al. 2020, the four cases."""
    low, high = [], []
    for j in range(honest.shape[1]):
        sign = np.sign(everyone[:, j].sum())
        largest, smallest = honest[:, j].max(), honest[:, j].min()
        if sign == 0:
            interval = (0.0, 0.0)
        elif sign < 0 and largest > 0:
            interval = (largest, stretch * largest)
        elif sign < 0:
            interval = (largest, largest / stretch)
        elif smallest > 0:
            interval = (smallest / stretch, smallest)
        else:
            interval = (stretch * smallest, smallest)
        low.append(interval[0])
        high.append(interval[1])
    return np.array(low), np.array(high)


def softmax_gradient(weights, bias, x, y):
    """Gradient of the mean cross-entropy of softmax regression, one example at a time."""
    grad_w, grad_b = np.zeros_like(weights), np.zeros_like(bias)
    for features, label in zip(x, y, strict=True):
        logits = features @ weights + bias
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        probabilities[label] -= 1.0
        grad_w += np.outer(features, probabilities)
        grad_b += probabilities
    return grad_w / len(y), grad_b / len(y)
