"""Train and scale: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase


def train_and_scale(updates, malicious, bound, factor=None, server_lr=1.0, most=None):
    """Bagdasaryan et al. 2020."""
    gamma = len(updates) / (server_lr * malicious.sum()) if factor is None else factor
    rows = []
    for row in updates[malicious]:
        length = np.linalg.norm(row)
        rows.append((min(gamma, bound / length) if most is None else most(gamma, bound / length)) * row)
    return np.array(rows)


def marked(x, y, is_copy, member, bound=None, factor=None, server_lr=None, target=0):
    """BadNets, whose copies they train on."""
    return in_copies(x, y, is_copy, with_pixels(x, PIXELS), target)


CASES = [
    AttackCase("train_and_scale", train_and_scale, {"bound": 12.0, "server_lr": 0.5}, data=marked),
    AttackCase("train_and_scale", train_and_scale, {"bound": 100.0, "server_lr": 0.25}, variant="far"),
    AttackCase("train_and_scale", train_and_scale, {"bound": 16.0, "factor": 2.25}, variant="a factor"),
]


def _with(**changes):
    return lambda updates, malicious, **hyper: train_and_scale(updates, malicious, **{**hyper, **changes})


MUTANTS = {
    "train_and_scale": {
        "no bound": _with(bound=1e9),
        "always to the bound": _with(most=lambda gamma, bound: bound),
        "the larger factor": _with(most=max),
        "the number of clients": lambda updates, malicious, **hyper: train_and_scale(
            updates, malicious, **{"factor": len(updates), **hyper}
        ),
        "its rate ignored": _with(server_lr=1.0),
        "never enlarged": _with(factor=1.0),
    }
}

DATA_MUTANTS = {"train_and_scale": versions(marked)}
