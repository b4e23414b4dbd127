"""LFighter: rows, reference and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.rounding import wide


def two_means(points):
    """From the point farthest from the mean, and the one farthest from that, by Lloyd's steps."""
    first = np.argmax(np.linalg.norm(points - points.mean(0), axis=1))
    second = np.argmax(np.linalg.norm(points - points[first], axis=1))
    centers = [points[first], points[second]]
    for _ in range(50):
        labels = np.argmin([np.linalg.norm(points - center, axis=1) for center in centers], axis=0)
        centers = [points[labels == k].mean(0) if (labels == k).any() else centers[k] for k in (0, 1)]
    return labels


def lfighter(updates, head, classes=2, with_bias=True, own=0.0, lowest=np.min, by_size=True, larger=True):
    everything = wide(updates)
    present = finite_rows(everything)
    rows = everything[present]
    size = head.num_features * head.num_classes
    kernels = rows[:, head.kernel : head.kernel + size].reshape(len(rows), head.num_features, -1)
    disputed = np.linalg.norm(kernels, axis=1).sum(0)
    if with_bias and head.bias is not None:
        disputed = disputed + np.abs(rows[:, head.bias : head.bias + head.num_classes]).sum(0)
    chosen = np.argsort(-disputed, kind="stable")[:classes]
    points = kernels[:, :, chosen].reshape(len(rows), -1)
    labels = two_means(points)
    worths = []
    for label in (labels[0], 1 - labels[0]):
        inside = points[labels == label]
        cosines = [
            [own if i == j else cosine(a, b) for j, b in enumerate(inside)] for i, a in enumerate(inside)
        ]
        apart = 1 - np.mean([lowest(row) for row in cosines]) if len(inside) else 0.0
        worths.append((len(inside) if by_size else 1) * apart)
    best = labels[0] if (worths[0] >= worths[1]) == larger else 1 - labels[0]
    return rows[labels == best].mean(0)


def averages_some_rows(case, updates, others, result):
    """Near ties may divide the rows in another way: the mean of some."""
    rows = wide(updates)
    slack = 1e-5 * np.abs(rows).max(0) + 1e-30
    return bool(((rows.min(0) - slack <= result) & (result <= rows.max(0) + slack)).all())


def lfighter_with(**changed):
    return lambda *arrays: lfighter(*arrays, **changed)


CASES = [RuleCase("lfighter", lfighter, arrays=("head",), translation=False, accepts=averages_some_rows)]


MUTANTS = {
    "lfighter": {
        "one class": lfighter_with(classes=1),
        "all classes": lfighter_with(classes=3),
        "no biases": lfighter_with(with_bias=False),
        "an own cosine of 1": lfighter_with(own=1.0),
        "the highest cosine": lfighter_with(lowest=np.max),
        "sizes do not count": lfighter_with(by_size=False),
        "the other cluster": lfighter_with(larger=False),
    }
}
