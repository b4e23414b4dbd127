"""The strongest of several attacks: rows, reference and wrong versions."""

import numpy as np

from fljax.attacks import attack_from_registry
from tests.attacks.case import TASK, AttackCase
from tests.attacks.scale import scale
from tests.attacks.sign_flip import sign_flip

CANDIDATES = (
    lambda rows, malicious: scale(rows, malicious, -1.5),
    lambda rows, malicious: sign_flip(rows, malicious, "mean", 4.0),
    lambda rows, malicious: scale(rows, malicious, 9.0),
)
ATTACKS = [
    attack_from_registry("scale", TASK, factor=-1.5),
    attack_from_registry("sign_flip", TASK, of="mean", factor=4.0),
    attack_from_registry("scale", TASK, factor=9.0),
]


def damages(rows, malicious, objective):
    """What each candidate does to the median."""
    before, found = np.median(rows, axis=0), []
    for candidate in CANDIDATES:
        stack = rows.copy()
        stack[malicious] = candidate(rows, malicious)
        change = before - np.median(stack, axis=0)
        found.append(np.sign(before) @ change if objective == "direction" else np.linalg.norm(change))
    return found


def worst_case(rows, malicious, attacks, objective="direction", choose=np.argmax):
    return CANDIDATES[choose(damages(rows, malicious, objective))](rows, malicious)


CASES = [
    AttackCase("worst_case", worst_case, {"attacks": ATTACKS}),
    AttackCase("worst_case", worst_case, {"attacks": ATTACKS, "objective": "distance"}, variant="distance"),
]

MUTANTS = {
    "worst_case": {
        "the weakest": lambda rows, malicious, **hyper: worst_case(
            rows, malicious, **hyper, choose=np.argmin
        ),
        **{
            f"number {i} always": lambda rows, malicious, i=i, **hyper: CANDIDATES[i](rows, malicious)
            for i in range(len(CANDIDATES))
        },
        "the mean of all": lambda rows, malicious, **hyper: np.mean(
            [rows[malicious] * 0 + candidate(rows, malicious) for candidate in CANDIDATES], axis=0
        ),
    }
}
