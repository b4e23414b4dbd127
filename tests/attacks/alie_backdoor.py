"""ALIE for a backdoor: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.quadratic import BACKDOOR, COUNTS, POINTS, RATE


def clipped(update, mean, deviation, z):
    return np.clip(update, mean - z * deviation, mean + z * deviation)


def alie_backdoor(
    attacker,
    z=1.5,
    alpha=0.2,
    knowledge="partial",
    backdoor=None,
    from_mean=True,
    proximal=True,
    clips=True,
    copies_alone=True,
    twice=False,
):
    """Baruch et al. 2019, section 4, with a proximal step for the distance."""

    def of(row):
        return attacker._replace(points=POINTS[row, : COUNTS[row]])

    bad = np.flatnonzero(attacker.malicious)
    seen = bad if knowledge == "partial" else np.flatnonzero(~attacker.malicious)
    honest = np.array([of(row).descend(copies=False) for row in seen])
    mean, deviation = honest.mean(0), honest.std(0)
    start = mean if from_mean else np.zeros_like(mean)
    width = np.maximum(z * deviation, 1e-5)
    factor = 1 / (1 + 2 * RATE * (1 - alpha) / width**2) if proximal else 1.0

    def made(row):
        update = start + of(row)._replace(params=attacker.params + start).descend(
            gradient=lambda gradient, delta, step: alpha * gradient,
            project=lambda delta, step: factor * delta,
            counted=lambda is_copy, step: is_copy or not copies_alone,
        )
        update = update - 2 * mean if twice else update
        return clipped(update, mean, deviation, z) if clips else update

    return np.mean([made(row) for row in bad], axis=0)


def _case(variant="", **hyper):
    hyper = {"backdoor": BACKDOOR, **hyper}
    return AttackCase("alie_backdoor", trained=alie_backdoor, hyper=hyper, variant=variant)


CASES = [
    _case(alpha=0.9),
    _case("full", knowledge="full", z=1.0, alpha=0.8),
]


def _with(**changes):
    return lambda attacker, **hyper: alie_backdoor(attacker, **{**hyper, **changes})


TRAINING_MUTANTS = {
    "alie_backdoor": {
        "from the model": _with(from_mean=False),
        "no distance": _with(alpha=1.0),
        "no proximal step": _with(proximal=False),
        "not clipped": _with(clips=False),
        "honest examples too": _with(copies_alone=False),
        "the mean subtracted twice": _with(twice=True),
        "of the others": _with(knowledge="full"),
        "a wider spread": _with(z=3.0),
    }
}
