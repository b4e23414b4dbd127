"""Optimisation through a rule: rows, reference and wrong versions."""

import numpy as np

from fljax.aggregators import mean as mean_rule
from tests.attacks.case import AttackCase, signs_of_run


def optimize_attack(
    rows,
    malicious,
    start,
    steps,
    learning_rate,
    direction="rule",
    size=np.median,
    falling=True,
    side=1,
):
    """Fang et al. 2020, equation 1, on the mean: there each row moves straight along −s."""
    sign = side * (np.sign(rows.mean(0)) if direction == "rule" else signs_of_run(rows.shape[1]))
    lengths = sorted(np.linalg.norm(rows[~malicious], axis=1))
    length = lengths[(len(lengths) - 1) // 2] if size is np.median else size(lengths)
    moved = sum(learning_rate * length * (1 - t / steps if falling else 1) for t in range(steps))
    return rows[malicious] - moved * sign / np.linalg.norm(sign)


CASES = [
    AttackCase(
        "optimize_attack",
        optimize_attack,
        {"start": "honest", "steps": 8, "learning_rate": 0.2},
        rule=mean_rule,
    ),
    AttackCase(
        "optimize_attack",
        optimize_attack,
        {"start": "honest", "steps": 8, "learning_rate": 0.2, "direction": "persistent"},
        variant="persistent",
        rule=mean_rule,
    ),
    # The best of several starts, through another rule.
    AttackCase("optimize_attack", hyper={"steps": 2}, variant="median"),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: optimize_attack(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "optimize_attack": {
        "with the direction": _with(side=-1),
        "the rule's sign": _with(direction="rule"),
        "a sign of its own": _with(direction="persistent"),
        "steps that do not fall": _with(falling=False),
        "in units of the longest row": _with(size=np.max),
        "one step fewer": _with(steps=7),
        "half the rate": _with(learning_rate=0.1),
    }
}
