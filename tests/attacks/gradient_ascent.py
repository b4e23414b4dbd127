"""Sign flipping in every local step: rows, reference and wrong versions."""

from tests.attacks.case import AttackCase


def gradient_ascent(attacker, factor=1.0, steps=None, learning_rate=None):
    """Karimireddy et al. 2021, their code."""
    return attacker.descend(
        copies=False,
        steps=steps,
        rate=learning_rate,
        gradient=lambda own, delta, step: -factor * own,
    )


CASES = [
    AttackCase("gradient_ascent", trained=gradient_ascent),
    AttackCase(
        "gradient_ascent",
        trained=gradient_ascent,
        hyper={"factor": 0.5, "steps": 5, "learning_rate": 0.2},
        variant="longer",
    ),
]


def _with(**changes):
    return lambda attacker, **hyper: gradient_ascent(attacker, **{**hyper, **changes})


TRAINING_MUTANTS = {
    "gradient_ascent": {
        "the update's sign": lambda attacker, **hyper: (
            -gradient_ascent(attacker, **{**hyper, "factor": -1.0})
        ),
        "without the factor": _with(factor=1.0),
        "down": lambda attacker, factor=1.0, **hyper: gradient_ascent(attacker, factor=-factor, **hyper),
        "the clients' steps": _with(steps=None),
        "the clients' rate": _with(learning_rate=None),
        "in the first step alone": lambda attacker, **hyper: attacker.descend(
            copies=False, gradient=lambda own, delta, step: own if step else -own
        ),
    }
}
