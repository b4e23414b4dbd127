"""Random label flipping: rows, reference and wrong versions."""

import jax
import numpy as np

from tests.attacks.case import KEY, TASK, AttackCase


def random_label_flip(x, y, is_copy, member, smallest=1, largest=TASK.num_classes):
    """Shejwalkar et al. 2022, by the numbers that a batch's key gives."""
    steps = np.asarray(jax.random.randint(KEY, y.shape, smallest, largest, y.dtype))
    return x, np.array([(label + step) % TASK.num_classes for label, step in zip(y, steps, strict=True)])


CASES = [AttackCase("random_label_flip", data=random_label_flip)]

DATA_MUTANTS = {
    "random_label_flip": {
        "the true label, too": lambda x, y, is_copy, member: random_label_flip(x, y, is_copy, member, 0),
        "never the label before": lambda x, y, is_copy, member: random_label_flip(
            x, y, is_copy, member, 1, TASK.num_classes - 1
        ),
        "one for all": lambda x, y, is_copy, member: (
            x,
            np.full_like(y, random_label_flip(x, y, is_copy, member)[1][0]),
        ),
        "copies alone": lambda x, y, is_copy, member: (
            x,
            np.where(is_copy, random_label_flip(x, y, is_copy, member)[1], y),
        ),
    }
}
