"""Alternating minimisation: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.quadratic import BACKDOOR


def alternating_minimisation(
    attacker,
    factor=None,
    strength=1e-4,
    benign_steps=10,
    loops=5,
    backdoor=None,
    first=False,
    together=False,
    centre=None,
):
    """Bhagoji et al. 2019."""
    cycle = benign_steps + 1
    times = len(attacker.counts) if factor is None else factor
    reference = attacker.honest if centre is None else centre

    def poisons(step):
        return step % cycle == (0 if first else benign_steps)

    return attacker.descend(
        steps=loops * cycle,
        gradient=lambda own, delta, step: own + (not poisons(step)) * strength * (delta - reference),
        change=lambda change, step: (times if poisons(step) else 1) * change,
        counted=lambda is_copy, step: together or is_copy == poisons(step),
    )


def _case(variant="", **hyper):
    return AttackCase(
        "alternating_minimisation",
        trained=alternating_minimisation,
        hyper={"backdoor": BACKDOOR, "strength": 0.5, **hyper},
        variant=variant,
    )


CASES = [
    _case(benign_steps=2, loops=3, factor=2.0),
    _case("one each", benign_steps=1, loops=2),
]


def _with(**changes):
    return lambda attacker, **hyper: alternating_minimisation(attacker, **{**hyper, **changes})


TRAINING_MUTANTS = {
    "alternating_minimisation": {
        "not boosted": _with(factor=1.0),
        "boosted by all clients": _with(factor=None),
        "without the distance": _with(strength=0.0),
        "the distance from the model": _with(centre=np.zeros(4)),
        "the malicious step first": _with(first=True),
        "all examples in every step": _with(together=True),
        "one loop fewer": lambda attacker, loops, **hyper: alternating_minimisation(
            attacker, loops=loops - 1, **hyper
        ),
    }
}
