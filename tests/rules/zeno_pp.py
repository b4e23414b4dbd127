"""Zeno++: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, norm
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import follows, wide


def scores_of(rows, root, rate=0.1, rho=0.001, epsilon=0.0, penalty="rescaled"):
    """What must not be negative, and the rows at the root's length; a row without a direction scores −inf."""
    scores, rescaled = [], []
    for i, row in enumerate(rows):
        length = np.linalg.norm(row) if i in finite_rows(rows) else 0.0
        if length == 0 or not root.any():
            scores.append(-np.inf)
            rescaled.append(np.zeros_like(root))
            continue
        hat = row / length * np.linalg.norm(root)
        penalized = np.dot(hat, hat) if penalty == "rescaled" else length**2
        scores.append(rate * np.dot(root, hat) - rho * penalized + rate * epsilon)
        rescaled.append(hat)
    return np.array(scores), np.array(rescaled)


def zeno_pp(updates, root_update, **options):
    rows, root = np.asarray(updates, np.float64), np.asarray(root_update, np.float64)
    scores, rescaled = scores_of(rows, root, **options)
    kept = [rescaled[i] for i in range(len(rows)) if scores[i] >= 0]
    return sum(kept) / len(kept) if kept else np.zeros_like(root)


def averages_accepted_rows(case, updates, others, result):
    """The mean of the rows that are surely accepted and of some that rounding may accept."""
    rows, root = wide(updates), wide(others["root_update"])
    rate, rho = case.hyper.get("rate", 0.1), case.hyper.get("rho", 0.001)
    scores, rescaled = scores_of(rows, root, **case.hyper)
    received = np.linalg.norm(rows, axis=1) ** 2 if case.hyper.get("penalty") == "received" else 0.0
    noise = 1e-5 * (rate + rho) * np.dot(root, root) + 1e-5 * rho * received
    noise = noise + 1e-5 * rate * case.hyper.get("epsilon", 0.0)
    sure, maybe = scores > noise, np.abs(scores) <= noise
    for extra in range(2 ** int(maybe.sum())):
        chosen = sure.copy()
        chosen[np.flatnonzero(maybe)] = [bool(extra >> k & 1) for k in range(int(maybe.sum()))]
        mean = rescaled[chosen].mean(0) if chosen.any() else np.zeros_like(root)
        if follows(result, mean, np.linalg.norm(root)):
            return True
    return False


def zeno_with(rescale=True, sign=1.0, more=0.0, by=None, square=True):
    def mutant(updates, root_update, rate=0.1, rho=0.001, epsilon=0.0, penalty="rescaled"):
        rows, root = wide(updates), wide(root_update)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        hat = rows / lengths * np.linalg.norm(root)
        penalized = lengths[:, 0] ** 2 if (by or penalty) == "received" else np.square(hat).sum(1)
        if not square:
            penalized = np.sqrt(penalized)
        kept = sign * rate * hat @ root - rho * penalized + rate * (epsilon + more) >= 0
        return (hat if rescale else rows)[kept].mean(0) if kept.any() else np.zeros_like(root)

    return mutant


CASES = [
    RuleCase(
        "zeno_pp",
        zeno_pp,
        {"rho": 0.05},
        ("rho",),
        arrays=("root_update",),
        tolerated=11,
        hostile=norm(1.0, "root_update"),
        translation=False,
        scaling=(-1.0, 1e-8, 2.0**40),
        identical=False,
        accepts=averages_accepted_rows,
    ),
    RuleCase(
        "zeno_pp",
        zeno_pp,
        {"rate": 0.2, "rho": 0.01, "epsilon": 6.0, "penalty": "received"},
        ("rate", "rho", "epsilon"),
        arrays=("root_update",),
        translation=False,
        scaling=(),
        identical=False,
        accepts=averages_accepted_rows,
    ),
]


MUTANTS = {
    "zeno_pp": {
        "lengths as received": zeno_with(rescale=False),
        "the other way": zeno_with(sign=-1.0),
        "everything accepted": zeno_with(more=1e9),
        "no slack": zeno_with(more=-6.0),
        "penalty of what is received": zeno_with(by="received"),
        "penalty of what is rescaled": zeno_with(by="rescaled"),
        "length not squared": zeno_with(square=False),
    },
}
