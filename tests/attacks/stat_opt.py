"""STAT-OPT: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase, signs_of_run
from tests.attacks.line_search import redescending


def median(stack):
    return np.median(stack, axis=0)


def stat_opt(rows, malicious, start=10.0, evaluations=20, direction="rule", rule=median, side=1, largest=max):
    """Fang et al. 2020, equation 1, with equal rows −λs and λ halved."""
    before = rule(rows)
    s = side * (np.sign(before) if direction == "rule" else signs_of_run(rows.shape[1]))
    size = start * largest(np.linalg.norm(row) for row in rows[~malicious]) / np.sqrt(rows.shape[1])
    best, sent = 0.0, rows[malicious]
    for _ in range(evaluations):
        attacked = np.where(malicious[:, None], -size * s, rows)
        damage = s @ (before - rule(attacked))
        if damage > best:
            best, sent = damage, np.tile(-size * s, (int(malicious.sum()), 1))
        size /= 2
    return sent


def persistent(rows, malicious, **hyper):
    """Along other signs, and through a rule that long rows have little weight in."""
    return stat_opt(rows, malicious, **{"rule": redescending, **hyper})


CASES = [
    AttackCase("stat_opt", stat_opt),
    AttackCase(
        "stat_opt",
        persistent,
        {"direction": "persistent", "start": 4.0, "evaluations": 6},
        variant="persistent",
        rule=redescending,
    ),
]


def _with(**changes):
    def version(rows, malicious, **hyper):
        attack = persistent if "direction" in hyper else stat_opt
        return attack(rows, malicious, **{**hyper, **changes})

    return version


MUTANTS = {
    "stat_opt": {
        "with the direction": _with(side=-1),
        "the rule's sign": _with(direction="rule"),
        "a sign of its own": _with(direction="persistent"),
        "the first one": _with(evaluations=1),
        "another start": _with(start=7.0),
        "the shortest row": _with(largest=min),
        "through the median": _with(rule=median),
    }
}
