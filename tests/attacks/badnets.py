"""BadNets: rows, reference and wrong versions."""

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase


def badnets(x, y, is_copy, member, target=0, pixels=PIXELS, value=1.0, **counts):
    """Gu et al. 2017."""
    return in_copies(x, y, is_copy, with_pixels(x, pixels, value), target)


CASES = [
    AttackCase("badnets", data=badnets),
    AttackCase(
        "badnets",
        data=badnets,
        hyper={"target": 4, "pixels": ((0, 7), (3, 1)), "value": 0.95, "poison_fraction": 0.2},
        variant="elsewhere",
    ),
]

DATA_MUTANTS = {"badnets": versions(badnets)}
