"""BadNets: rows, reference and wrong versions."""

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase


def badnets(x, y, is_copy, member, target=0, pixels=PIXELS, value=1.0, poison_fraction=0.5, **labels):
    """Gu et al. 2017."""
    return in_copies(x, y, is_copy, with_pixels(x, pixels, value), target, member, **labels)


CASES = [
    AttackCase("badnets", data=badnets),
    AttackCase(
        "badnets",
        data=badnets,
        hyper={"target": 4, "pixels": ((0, 7), (3, 1)), "value": 0.95, "poison_fraction": 0.2},
        variant="elsewhere",
    ),
    AttackCase("badnets", data=badnets, hyper={"labels": "all_to_all"}, variant="all to all"),
    AttackCase("badnets", data=badnets, hyper={"target": 3, "source": 5}, variant="one to one"),
    AttackCase("badnets", data=badnets, hyper={"target": 3, "clean_label": True}, variant="clean label"),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: badnets(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "badnets": {
        **versions(badnets),
        "every class for one": _with(source=None),
        "every label": _with(clean_label=False),
        "all to one": _with(labels="all_to_one"),
        "two labels on": lambda x, y, is_copy, member, labels="all_to_one", **hyper: badnets(
            x, y, is_copy, member, labels=labels, step=2, **hyper
        ),
    }
}
