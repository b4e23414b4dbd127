"""MPAF: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import KEY, AttackCase, fresh_model, random_walk

ROUNDS = 3


def mpaf(rows, malicious, factor=1e6, base="fresh", t=ROUNDS - 1, first=0, side=1):
    """Cao & Gong 2022: towards a model that was chosen in the first round."""
    d = rows.shape[1]
    chosen = random_walk(first, d) if base == "initial" else np.asarray(fresh_model(KEY, d), np.float64)
    return side * factor * (chosen - random_walk(t, d))


def _case(variant="", **hyper):
    # A million times the model would break what is not robust.
    return AttackCase(
        "mpaf", mpaf, {"factor": 5.0, **hyper}, variant=variant, rounds=ROUNDS, model=random_walk
    )


CASES = [_case(), _case("initial", base="initial")]


def _with(**changes):
    return lambda rows, malicious, **hyper: mpaf(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "mpaf": {
        "away from it": _with(side=-1),
        "another factor": _with(factor=6.0),
        "one round late": _with(t=ROUNDS - 2),
        "towards the first model": _with(base="initial"),
        "towards a fresh model": _with(base="fresh"),
        "towards the last model": _with(first=ROUNDS - 2),
    }
}
