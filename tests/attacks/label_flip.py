"""Label flipping: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import TASK, AttackCase


def label_flip(x, y, is_copy, member, source=None, target=None, kind="opposite"):
    """Fang et al. 2020; Tolpegin et al. 2020 with a source and a target."""
    if target is not None:
        return x, np.array([target if source in (None, label) else label for label in y])
    others = {label: TASK.num_classes - 1 - label for label in range(TASK.num_classes)}
    if kind == "next":
        others = dict(zip(others, [*list(others)[1:], 0], strict=True))
    return x, np.array([others[label] for label in y])


CASES = [
    AttackCase("label_flip", data=label_flip),
    AttackCase("label_flip", data=label_flip, hyper={"source": 2, "target": 7}, variant="one pair"),
    AttackCase("label_flip", data=label_flip, hyper={"target": 4}, variant="all to one"),
    AttackCase("label_flip", data=label_flip, hyper={"kind": "next"}, variant="next"),
]


def _with(change):
    """Other labels, given those of the reference."""

    def version(x, y, is_copy, member, **hyper):
        return x, change(y, label_flip(x, y, is_copy, member, **hyper)[1], is_copy, **hyper)

    return version


DATA_MUTANTS = {
    "label_flip": {
        "the next label": _with(lambda y, flipped, is_copy, **hyper: (y + 1) % TASK.num_classes),
        "the label before": _with(lambda y, flipped, is_copy, **hyper: (y - 1) % TASK.num_classes),
        "one too far": _with(lambda y, flipped, is_copy, **hyper: (TASK.num_classes - y) % TASK.num_classes),
        "copies alone": _with(lambda y, flipped, is_copy, **hyper: np.where(is_copy, flipped, y)),
        "both ways": _with(
            lambda y, flipped, is_copy, source=None, target=None, **_: (
                flipped if source is None else np.where(y == target, source, flipped)
            )
        ),
        "everything to the target": _with(
            lambda y, flipped, is_copy, target=None, **_: np.full_like(y, target or 0)
        ),
        "the source alone": _with(
            lambda y, flipped, is_copy, source=0, **_: np.where(y == source, flipped, y)
        ),
    }
}
