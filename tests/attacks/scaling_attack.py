"""The Scaling attack: rows, references and wrong versions."""

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase
from tests.attacks.scale import MUTANTS as SCALE_MUTANTS
from tests.attacks.scale import scale


def scaled(updates, malicious, factor=None, **backdoor):
    return scale(updates, malicious, factor)


def marked(x, y, is_copy, member, target=0, pixels=PIXELS, value=1.0, **scaling):
    """Bagdasaryan et al. 2020."""
    return in_copies(x, y, is_copy, with_pixels(x, pixels, value), target)


CASES = [
    AttackCase("scaling_attack", scaled, data=marked, twins=("scale",)),
    AttackCase(
        "scaling_attack",
        scaled,
        {"factor": 3.0, "target": 7, "pixels": ((0, 1), (2, 2)), "value": 0.95, "poison_fraction": 2.0},
        data=marked,
        variant="elsewhere",
    ),
]

MUTANTS = {
    "scaling_attack": {
        wrong: lambda u, m, factor=None, version=version, **backdoor: version(u, m, factor)
        for wrong, version in SCALE_MUTANTS["scale"].items()
        if wrong != "without its sign"
    }
}
DATA_MUTANTS = {"scaling_attack": versions(marked)}
