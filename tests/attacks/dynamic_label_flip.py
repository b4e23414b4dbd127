"""Dynamic label flipping: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase, logits_of


def dynamic_label_flip(x, y, is_copy, member, kind="least_likely", rank=None):
    """Shejwalkar et al. 2022, by the logits of the global model."""
    flipped = []
    for logits, label in zip(logits_of(x), y, strict=True):
        order = [int(c) for c in np.argsort(-logits, kind="stable")]
        if rank is not None:
            flipped.append(order[rank])
        elif kind == "least_likely":
            flipped.append(order[-1])
        else:
            flipped.append(next(c for c in order if c != label))
    return x, np.array(flipped)


CASES = [
    AttackCase("dynamic_label_flip", data=dynamic_label_flip),
    AttackCase(
        "dynamic_label_flip", data=dynamic_label_flip, hyper={"kind": "second_best"}, variant="second"
    ),
]

DATA_MUTANTS = {
    "dynamic_label_flip": {
        "the most likely": lambda x, y, is_copy, member, **hyper: dynamic_label_flip(
            x, y, is_copy, member, rank=0
        ),
        "the second, whatever y": lambda x, y, is_copy, member, **hyper: dynamic_label_flip(
            x, y, is_copy, member, rank=1
        ),
        "the last but one": lambda x, y, is_copy, member, **hyper: dynamic_label_flip(
            x, y, is_copy, member, rank=-2
        ),
        "copies alone": lambda x, y, is_copy, member, **hyper: (
            x,
            np.where(is_copy, dynamic_label_flip(x, y, is_copy, member, **hyper)[1], y),
        ),
    }
}
