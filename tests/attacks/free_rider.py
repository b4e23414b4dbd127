"""Free-riders: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase, model_of_round, normal_draws

ROUNDS = 3


def free_rider(
    rows, malicious, noise, kind="zero", std=None, power=1.0, multiplier=1.0, decay=0.5, t=ROUNDS - 1, late=0
):
    """Fraboni et al. 2021 and Lin et al. 2019, in round t of a model that moves as `model_of_round`."""
    d = rows.shape[1]
    models = [model_of_round(r, d) for r in range(t + 1)]
    if kind == "zero":
        return np.zeros(d)
    if kind == "replay":
        return rows[malicious] + multiplier * (std or 0.0) * noise
    if kind == "scaled_delta":
        lengths = [0.0, *(np.linalg.norm(models[r] - models[r - 1]) for r in range(1, t + 1))]
        sent = lengths[t] / lengths[t - 1] * (models[t] - models[t - 1])
        rate = np.log(lengths[t] / lengths[1]) / (t - 1 + late)
        cosine = decay**2 / (decay**2 + np.exp(2 * rate * (t + 1)))
        n = len(rows)
        beside = np.sqrt(n**2 / (n + (n**2 - n) * cosine) - 1) * np.linalg.norm(sent)
        return sent + multiplier * beside / np.sqrt(d) * noise
    if kind == "delta":
        return models[t] - models[t - 1] + multiplier * (std or 0.0) * noise
    sigma = np.abs(models[1] - models[0]).mean() if std is None else std
    return multiplier * sigma * t**-power * noise


def _case(variant="", **hyper):
    return AttackCase("free_rider", free_rider, hyper, variant=variant, draws=normal_draws, rounds=ROUNDS)


CASES = [
    _case(),
    _case("noise", kind="noise", multiplier=2.0),
    _case("noise of its own", kind="noise", std=0.3, power=0.5),
    _case("delta", kind="delta"),
    _case("noisy delta", kind="delta", std=0.1, multiplier=3.0),
    _case("scaled delta", kind="scaled_delta", multiplier=0.5, decay=2.0),
    # The same rows in every round; test_worked_numbers.py has others.
    _case("noisy replay", kind="replay", std=0.2),
]


def _with(**changes):
    return lambda rows, malicious, noise, **hyper: free_rider(rows, malicious, noise, **{**hyper, **changes})


def _absolute(rows, malicious, noise, **hyper):
    """The model in place of its change."""
    sent = free_rider(rows, malicious, noise, **hyper)
    return sent + model_of_round(ROUNDS - 2, rows.shape[1]) * (hyper.get("kind") == "delta")


MUTANTS = {
    "free_rider": {
        "zero": _with(kind="zero"),
        "the model": _absolute,
        "noise that does not fade": _with(power=0.0),
        "noise that fades by the square": _with(power=2.0),
        "the guess for what was told": _with(std=None),
        "without the multiplier": _with(multiplier=1.0),
        "one round late": lambda *given, kind="zero", **hyper: free_rider(
            *given, kind="delta" if kind == "scaled_delta" else kind, t=ROUNDS - 2, **hyper
        ),
        "the change as it is": lambda *given, kind="zero", **hyper: free_rider(
            *given, kind="delta" if kind == "scaled_delta" else kind, **hyper
        ),
        "one step more": _with(late=1),
        "another cosine": _with(decay=0.5),
    }
}
