"""Edge-case backdoors: rows, reference and wrong versions; those with a file are in test_backdoor.py."""

import numpy as np

from tests.attacks.case import AttackCase


def edge_case(x, y, is_copy, member, source=1, target=0, poison_fraction=0.25, turned=(1, 2), others=False):
    """A stand-in for the rare inputs of Wang et al. 2020: a class's images upside down."""
    marked, labels = np.array(x), np.array(y)
    for i in range(len(x)):
        # The trigger that is measured goes on whatever it is given.
        if is_copy[i] and (y[i] == source or member is None or others):
            marked[i], labels[i] = np.flip(x[i], [axis - 1 for axis in turned]), target
    return marked, labels


CASES = [
    AttackCase("edge_case", data=edge_case, hyper={"source": 7, "target": 1}),
    AttackCase("edge_case", data=edge_case, variant="by default"),
    AttackCase("edge_case", data=edge_case, hyper={"source": 2, "poison_fraction": 1.0}, variant="many"),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: edge_case(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "edge_case": {
        "every class": _with(others=True),
        "another class": _with(source=3),
        "another label": _with(target=4),
        "mirrored": _with(turned=(2,)),
        "originals, too": lambda x, y, is_copy, member, **hyper: edge_case(
            x, y, is_copy | True, member, **hyper
        ),
        "the label alone": lambda x, y, is_copy, member, **hyper: (
            x,
            edge_case(x, y, is_copy, member, **hyper)[1],
        ),
    }
}
