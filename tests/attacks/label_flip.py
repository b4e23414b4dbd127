"""Label flipping: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import TASK, AttackCase


def label_flip(x, y, is_copy, member, source=None, target=None):
    """Fang et al. 2020; Tolpegin et al. 2020 with a source and a target."""
    if source is None:
        return x, np.array([TASK.num_classes - 1 - label for label in y])
    return x, np.array([target if label == source else label for label in y])


CASES = [
    AttackCase("label_flip", data=label_flip),
    AttackCase("label_flip", data=label_flip, hyper={"source": 2, "target": 7}, variant="one pair"),
]

DATA_MUTANTS = {
    "label_flip": {
        "the next label": lambda x, y, is_copy, member, **hyper: (x, (y + 1) % TASK.num_classes),
        "one too far": lambda x, y, is_copy, member, **hyper: (x, (TASK.num_classes - y) % TASK.num_classes),
        "copies alone": lambda x, y, is_copy, member, **hyper: (
            x,
            np.where(is_copy, label_flip(x, y, is_copy, member, **hyper)[1], y),
        ),
        "both ways": lambda x, y, is_copy, member, source=None, target=None: (
            x,
            np.where(y == target, source, label_flip(x, y, is_copy, member, source, target)[1])
            if target
            else label_flip(x, y, is_copy, member)[1],
        ),
        "everything to the target": lambda x, y, is_copy, member, source=None, target=None: (
            x,
            np.full_like(y, target or 0),
        ),
    }
}
