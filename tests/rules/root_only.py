"""The root update alone: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, norm
from tests.rules.rounding import equals_reference, of_result, wide


def root_only(updates, root_update):
    return np.asarray(root_update, np.float64)


CASES = [
    RuleCase(
        "root_only",
        root_only,
        arrays=("root_update",),
        tolerated=12,
        hostile=norm(1.0, of="root_update"),
        duplicates=True,
        identical=False,
        accepts=equals_reference(of_result),
    ),
]


MUTANTS = {
    "root_only": {
        "unit length": lambda updates, root: wide(root) / np.linalg.norm(root),
        "mean": lambda updates, root: wide(updates).mean(0),
    },
}
