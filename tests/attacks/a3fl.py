"""A3FL: rows, reference of its data and of its search, and wrong versions of both."""

import numpy as np

from tests.attacks.backdoors import in_copies, versions
from tests.attacks.case import AttackCase


def a3fl(x, y, is_copy, member, target=0, size=5, corner=2, mix="replace", value=0.5):
    """Zhang et al. 2023, before the first search."""
    marked = np.array(x)
    for row in range(corner, corner + size):
        for column in range(corner, corner + size):
            marked[:, row, column] = value
    return in_copies(x, y, is_copy, marked, target, member)


CASES = [
    AttackCase("a3fl", data=a3fl),
    AttackCase(
        "a3fl", data=a3fl, hyper={"target": 3, "size": 2, "corner": 0, "mix": "copies"}, variant="small"
    ),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: a3fl(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "a3fl": {
        **versions(a3fl),
        "another corner": _with(corner=1),
        "another size": _with(size=4),
        "white": _with(value=1.0),
    }
}


def slopes(weights, x, wanted):
    """Of the mean cross-entropy of softmax regression in the weights (p + 1, M) and in the inputs (b, p)."""
    padded = np.hstack([x, np.ones((len(x), 1))])
    scores = padded @ weights
    shares = np.exp(scores - scores.max(1, keepdims=True))
    away = shares / shares.sum(1, keepdims=True) - np.eye(weights.shape[1])[wanted]
    return padded.T @ away / len(x), (away @ weights.T)[:, :-1] / len(x)


def search(
    weights,
    batches,
    place,
    patch,
    target,
    passes,
    step,
    every,
    epochs,
    strength,
    rate,
    true_labels=True,
    momentum=0.9,
    decay=5e-4,
    from_model=True,
    cosine=True,
    signed=True,
):
    """The patch that attackers find, by loops; inputs are flat, `place` are the patch's entries."""

    def marked(x):
        x = np.array(x)
        x[:, place] = patch
        return x

    patch, other, weight = np.array(patch, float), np.array(weights, float), 0.0
    for number in range(passes):
        if number % every == 0:
            other = np.array(weights, float) if from_model else other
            memory = np.zeros_like(other)
            for _ in range(epochs):
                for x, y in batches:
                    wanted = y if true_labels else np.full_like(y, target)
                    memory = momentum * memory + slopes(other, marked(x), wanted)[0] + decay * other
                    other = other - rate * memory
            likeness = (other * weights).sum() / np.linalg.norm(other) / np.linalg.norm(weights)
            weight = strength * (likeness if cosine else 1.0)
        for x, y in batches:
            wanted = np.full_like(y, target)
            slope = slopes(weights, marked(x), wanted)[1] + weight * slopes(other, marked(x), wanted)[1]
            total = slope.sum(0)[place]
            patch = np.clip(patch - step * (np.sign(total) if signed else total), 0, 1)
    return patch
