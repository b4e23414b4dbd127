"""Scaling: rows, reference and wrong versions."""

from tests.attacks.case import AttackCase


def scale(updates, malicious, factor=None):
    return updates[malicious] * (len(updates) if factor is None else factor)


CASES = [
    AttackCase("scale", scale, twins=("scaling_attack",)),
    AttackCase("scale", scale, {"factor": -2.5}, variant="negative"),
]

MUTANTS = {
    "scale": {
        "by the number of attackers": lambda u, m, factor=None: scale(u, m, factor or m.sum()),
        "by the number of honest clients": lambda u, m, factor=None: scale(u, m, factor or (~m).sum()),
        "without its sign": lambda u, m, factor=None: scale(u, m, factor and abs(factor)),
        "not at all": lambda u, m, factor=None: u[m],
    }
}
