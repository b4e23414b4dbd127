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
    n = len(rows)
    count = n - num_malicious - 2 if num_neighbors is None else num_neighbors
    scores = []
    for i in range(n):
        distances = sorted(np.linalg.norm(rows[i] - rows[j]) ** power for j in range(n) if j != i)
        scores.append(sum(distances[:count]))
    return np.array(scores)


def krum(updates, num_malicious, **options):
    return np.asarray(updates, np.float64)[np.argmin(krum_scores(updates, num_malicious, **options))]


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
