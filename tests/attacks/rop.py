"""ROP: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.alie import alie_factor
from tests.attacks.case import AttackCase, random_walk
from tests.attacks.pools import mean, pool_of

ROUNDS = 2


def rop(
    rows,
    malicious,
    location=1.0,
    reference=0.9,
    angle=270.0,
    length=None,
    server_lr=1.0,
    knowledge="full",
    rounds=ROUNDS,
    across=True,
):
    """Özfatura et al. 2024, of updates."""
    d = rows.shape[1]
    mu = mean(pool_of(rows, malicious, knowledge))
    last = (random_walk(1, d) - random_walk(0, d)) / server_lr if rounds > 1 else np.zeros(d)
    ref = reference * last + (1 - reference) * mu if rounds > 1 else mu
    o = np.ones(d)
    if across:
        o -= ref * (ref @ o) / (ref @ ref)
    theta = np.deg2rad(angle)
    step = np.cos(theta) * ref / np.linalg.norm(ref) - np.sin(theta) * o / np.linalg.norm(o)
    size = alie_factor(len(rows), int(malicious.sum())) if length is None else length
    return location * last + (1 - location) * mu + size * step


def _case(variant="", rounds=ROUNDS, **hyper):
    return AttackCase("rop", rop, hyper, variant=variant, rounds=rounds, model=random_walk)


CASES = [
    _case(),
    _case("turned", location=0.3, angle=200.0, length=2.0, server_lr=0.5, knowledge="partial"),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: rop(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "rop": {
        "at the mean": _with(location=0.0),
        "at the last aggregate": _with(location=1.0),
        "across the last aggregate alone": _with(reference=1.0),
        "across the mean": _with(reference=0.0),
        "the mirror image": _with(angle=90.0),
        "of length 1": _with(length=1.0),
        "the model's change": _with(server_lr=1.0),
        "of the honest rows": _with(knowledge="full"),
        "the ones as they are": _with(across=False),
        "as in the first round": _with(rounds=1),
    }
}
