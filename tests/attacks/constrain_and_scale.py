"""Constrain and scale: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.quadratic import BACKDOOR


def _unit(vector):
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.zeros_like(vector)


def slope_of(function, at, width=1e-6):
    """The gradient of a function by central differences."""
    shifts = width * np.eye(len(at))
    return np.array([(function(at + shift) - function(at - shift)) / (2 * width) for shift in shifts])


def anomaly_slope(kind, w, delta, honest):
    """∇ L_ano, at 0 the subgradient 0."""
    if kind == "cosine":
        return slope_of(lambda here: 1 - _unit(w + here) @ _unit(w), delta)
    return _unit(delta - honest if kind == "benign" else delta)


def constrain_and_scale(
    attacker,
    alpha=0.5,
    anomaly="l2",
    factor=None,
    bound=None,
    server_lr=1.0,
    backdoor=None,
    slope=anomaly_slope,
    steps=None,
):
    """Bagdasaryan et al. 2020."""

    def gradient(own, delta, step):
        return alpha * own + (1 - alpha) * slope(anomaly, attacker.params, delta, attacker.honest)

    delta = attacker.descend(gradient=gradient, steps=steps)
    n, m = len(attacker.counts), attacker.malicious.sum()
    gamma = n / (server_lr * m) if factor is None else factor
    if bound is not None:
        gamma = np.sign(gamma) * min(abs(gamma), bound / max(np.linalg.norm(delta), 1e-9))
    return gamma * delta


def _case(variant="", **hyper):
    return AttackCase(
        "constrain_and_scale",
        trained=constrain_and_scale,
        hyper={"backdoor": BACKDOOR, **hyper},
        variant=variant,
    )


CASES = [
    _case(),
    _case("cosine", anomaly="cosine", alpha=0.3, server_lr=0.5),
    _case("benign", anomaly="benign", factor=3.0),
    _case("train and scale", alpha=1.0, bound=0.7),
]


def _with(**changes):
    return lambda attacker, **hyper: constrain_and_scale(attacker, **{**hyper, **changes})


TRAINING_MUTANTS = {
    "constrain_and_scale": {
        "no anomaly term": _with(alpha=1.0),
        "the other weight": lambda attacker, alpha=0.5, **hyper: constrain_and_scale(
            attacker, alpha=1 - alpha, **hyper
        ),
        "the class's weight alone": _with(slope=lambda kind, w, delta, honest: 0.0),
        "the square": _with(slope=lambda kind, w, delta, honest: 2 * delta),
        "from the model": _with(anomaly="l2"),
        "from the honest update": _with(anomaly="benign"),
        "by the angle": _with(anomaly="cosine"),
        "away from it": _with(slope=lambda *arguments: -anomaly_slope(*arguments)),
        "not scaled": _with(factor=1.0),
        "scaled by n over m": lambda attacker, factor=None, **hyper: constrain_and_scale(
            attacker, factor=5 / 2 if factor is None else factor, **hyper
        ),
        "without a bound": _with(bound=None),
    }
}
