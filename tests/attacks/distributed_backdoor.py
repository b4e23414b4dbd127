"""The distributed backdoor: rows, references and wrong versions."""

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase
from tests.attacks.scale import scale


def scaled(updates, malicious, factor=1.0, **backdoor):
    return scale(updates, malicious, factor)


def marked(x, y, is_copy, member, target=0, parts=None, num_parts=4, value=1.0, **scaling):
    """Xie et al. 2020: attacker k has part k of the trigger, and the whole trigger is measured."""
    parts = [PIXELS[k::num_parts] for k in range(num_parts)] if parts is None else parts
    pixels = [pixel for part in parts for pixel in part] if member is None else parts[member % len(parts)]
    return in_copies(x, y, is_copy, with_pixels(x, pixels, value), target)


CASES = [
    AttackCase("distributed_backdoor", scaled, {"factor": 2.0}, data=marked),
    AttackCase(
        "distributed_backdoor",
        scaled,
        {"num_parts": 2, "target": 5, "factor": 1.5},
        data=marked,
        variant="two parts",
    ),
    AttackCase(
        "distributed_backdoor",
        scaled,
        {"parts": (((0, 0),), ((1, 1), (2, 2)), ((7, 7),)), "factor": -1.25},
        data=marked,
        variant="its own parts",
    ),
]

MUTANTS = {
    "distributed_backdoor": {
        "not enlarged": lambda u, m, factor=1.0, **_: u[m],
        "enlarged by all clients": lambda u, m, factor=1.0, **_: len(u) * u[m],
        "enlarged twice": lambda u, m, factor=1.0, **_: factor**2 * u[m],
    }
}
DATA_MUTANTS = {
    "distributed_backdoor": {
        **versions(marked),
        "the whole trigger": lambda x, y, is_copy, member, **hyper: marked(x, y, is_copy, None, **hyper),
        "one part for all": lambda x, y, is_copy, member, **hyper: marked(
            x, y, is_copy, None if member is None else 0, **hyper
        ),
        "one part measured": lambda x, y, is_copy, member, **hyper: marked(
            x, y, is_copy, member or 0, **hyper
        ),
    }
}
