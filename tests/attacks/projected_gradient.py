"""The PGD backdoor: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.quadratic import BACKDOOR


def projected_gradient(
    attacker,
    norm,
    ball="l2",
    every=1,
    replacement=False,
    server_lr=1.0,
    backdoor=None,
    steps=None,
    learning_rate=None,
    at_the_end=True,
):
    """Wang et al. 2020."""

    def inside(delta):
        if ball == "linf":
            return np.array([min(max(value, -norm), norm) for value in delta])
        return delta * min(1.0, norm / max(np.linalg.norm(delta), 1e-9))

    def project(delta, step):
        return inside(delta) if (step + 1) % every == 0 else delta

    delta = attacker.descend(steps=steps, rate=learning_rate, project=project)
    delta = inside(delta) if at_the_end else delta
    if not replacement:
        return delta
    m = attacker.malicious.sum()
    return sum(attacker.counts) / (server_lr * m * attacker.counts[attacker.number]) * delta


def _case(variant="", **hyper):
    return AttackCase(
        "projected_gradient",
        trained=projected_gradient,
        hyper={"backdoor": BACKDOOR, **hyper},
        variant=variant,
    )


CASES = [
    _case(norm=0.4),
    _case("every second step", norm=1.0, every=2, learning_rate=0.5, steps=5),
    _case("largest entry", norm=0.2, ball="linf", steps=5),
    _case("replacement", norm=0.4, replacement=True, server_lr=0.5, learning_rate=0.05),
]


def _with(**changes):
    return lambda attacker, **hyper: projected_gradient(attacker, **{**hyper, **changes})


def _once(attacker, **hyper):
    """A projection of the whole, none on the way."""
    return projected_gradient(attacker, **{**hyper, "every": 10**6})


TRAINING_MUTANTS = {
    "projected_gradient": {
        "no ball": _with(norm=1e9),
        "at the end alone": _once,
        "at every step": _with(every=1),
        "not at the end": lambda attacker, **hyper: projected_gradient(attacker, **hyper, at_the_end=False),
        "the other ball": lambda attacker, ball="l2", **hyper: projected_gradient(
            attacker, ball="l2" if ball == "linf" else "linf", **hyper
        ),
        "without replacement": _with(replacement=False),
        "replaced by the number of clients": lambda attacker, replacement=False, server_lr=1.0, **hyper: (
            projected_gradient(attacker, **hyper)
            * (len(attacker.counts) / server_lr / 2 if replacement else 1)
        ),
        "the clients' rate": _with(learning_rate=None),
        "the clients' steps": _with(steps=None),
    }
}
