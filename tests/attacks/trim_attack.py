"""The Trim attack: rows, references and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase, signs_of_run, uniform_draws
from tests.attacks.pools import deviation, mean


def trim_extreme(pool, s):
    """What the attack goes beyond, per coordinate: w_max for s = −1, w_min for s = +1, 0 for s = 0."""
    result = []
    for values, sign in zip(pool.T, s, strict=True):
        result.append(max(values) if sign < 0 else min(values) if sign > 0 else 0.0)
    return np.array(result)


def trim_beyond(extreme, s, ratio):
    """The extreme moved by a ratio above 1 against s, in the paper's four cases."""
    result = []
    for x, sign, r in zip(extreme, s, np.broadcast_to(ratio, s.shape), strict=True):
        if sign == -1:
            result.append(r * x if x > 0 else x / r)
        elif sign == 1:
            result.append(x / r if x > 0 else r * x)
        else:
            result.append(0.0)
    return np.array(result)


def trim_interval(honest, everyone, stretch=2.0):
    """Per coordinate the interval of the full-knowledge Trim attack: Fang et al. 2020, the four cases."""
    low, high = [], []
    for j in range(honest.shape[1]):
        sign = np.sign(everyone[:, j].sum())
        largest, smallest = honest[:, j].max(), honest[:, j].min()
        if sign == 0:
            interval = (0.0, 0.0)
        elif sign < 0 and largest > 0:
            interval = (largest, stretch * largest)
        elif sign < 0:
            interval = (largest, largest / stretch)
        elif smallest > 0:
            interval = (smallest / stretch, smallest)
        else:
            interval = (stretch * smallest, smallest)
        low.append(interval[0])
        high.append(interval[1])
    return np.array(low), np.array(high)


def trim_rows(updates, malicious, uniforms, stretch=2.0):
    """The Trim attack with full knowledge; `uniforms[i]` are client i's draws in [0, 1)."""
    rows = np.asarray(updates, np.float64)
    crafted = {}
    for i in np.flatnonzero(malicious):
        row = np.zeros(rows.shape[1])
        for j in range(rows.shape[1]):
            direction = np.sign(sum(rows[k, j] for k in range(len(rows))))
            pool = [rows[k, j] for k in range(len(rows)) if not malicious[k]] or list(rows[:, j])
            if direction > 0:
                near = min(pool)
                far = near / stretch if near > 0 else near * stretch
            else:
                near = max(pool)
                far = near * stretch if near > 0 else near / stretch
            if direction != 0:
                row[j] = near + (far - near) * uniforms[i][j]
        crafted[i] = row
    return crafted


def trim_attack(
    rows,
    malicious,
    uniforms,
    stretch=2.0,
    knowledge="full",
    direction="sum",
    pool="honest",
    law="uniform",
    side=1,
):
    """Fang et al. 2020; `uniforms` (m, d) are the draws in [0, 1)."""
    if knowledge == "partial":
        center, spread = mean(rows[malicious]), deviation(rows[malicious], 0)
        steps = 3 + (0.5 if law == "fixed" else uniforms)
        s = signs_of_run(len(center)) if direction == "persistent" else np.sign(center)
        return center - side * s * steps * spread
    if direction == "persistent":
        s = side * signs_of_run(rows.shape[1])
    else:
        s = side * np.sign(np.median(rows, axis=0) if direction == "rule" else sum(rows))
    extreme = trim_extreme(rows if pool == "all" else rows[~malicious], s)
    if law == "divide":
        return np.array([trim_beyond(extreme, s, 1 + (stretch - 1) * draw) for draw in uniforms])
    return extreme + (1.0 if law == "fixed" else uniforms) * (trim_beyond(extreme, s, stretch) - extreme)


def _case(variant="", **hyper):
    return AttackCase("trim_attack", trim_attack, hyper, variant=variant, draws=uniform_draws)


CASES = [
    _case(),
    _case("demo", pool="all", law="divide"),
    _case("fixed", law="fixed", stretch=3.0),
    _case("through the rule", direction="rule"),
    _case("persistent", direction="persistent"),
    _case("partial", knowledge="partial"),
]


def _with(**changes):
    return lambda rows, malicious, uniforms, **hyper: trim_attack(
        rows, malicious, uniforms, **{**hyper, **changes}
    )


MUTANTS = {
    "trim_attack": {
        "with the direction": _with(side=-1),
        "the sign of the sum": _with(direction="sum"),
        "the sign of the median": _with(direction="rule"),
        "a sign of its own": _with(direction="persistent"),
        "beyond the honest values": _with(pool="honest"),
        "beyond all values": _with(pool="all"),
        "another stretch": _with(stretch=2.5),
        "as far as it goes": _with(law="fixed"),
        "uniform": _with(law="uniform"),
        "by a drawn ratio": _with(law="divide"),
        "one draw for all": lambda rows, malicious, uniforms, **hyper: trim_attack(
            rows, malicious, uniforms[:1].repeat(len(uniforms), 0), **hyper
        ),
        "of their own rows": _with(knowledge="partial"),
    }
}
