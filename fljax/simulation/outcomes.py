"""The numbers of a whole run that studies report, from its configuration and its evaluations."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fljax.engine.metrics import Metric
from fljax.simulation.lines import PER_ROUND

# A backdoor is there as long as it succeeds on this share of the examples.
ALIVE = 0.5
# Rounds after an attack whose mean success rate is reported.
AFTERWARDS = 100
# Last rounds whose mean error is reported.
LAST_ROUNDS = 10

_DETECTION = ("detection_precision", "detection_recall", "false_positive_rate")
OUTCOMES: dict[str, Metric] = {
    **{name: PER_ROUND[name] for name in _DETECTION},
    "lifespan": Metric("lifespan", kind="rounds"),
    "lifespan_censored": Metric("lifespan reaches the end of the run"),
    "success_afterwards": Metric(
        f"attack success in the {AFTERWARDS} rounds after the attack",
        brief="success afterwards",
        kind="share",
    ),
}
IMPACTS: dict[str, Metric] = {
    "impact_best": Metric("attack impact on the best error", brief="impact, best"),
    "impact_last": Metric("attack impact on the last error", brief="impact, last"),
    "impact_last_rounds": Metric(
        f"attack impact on the mean error of the last {LAST_ROUNDS} rounds", brief="impact, last rounds"
    ),
}

Curves = Mapping[str, Any]


def outcomes(curves: Curves, config: Mapping[str, Any], diverged: bool) -> dict[str, float]:
    """The numbers of one run that need no other run.

    Args:
        curves: by column, the values of all evaluations, NaN where there is none; `round` among them.
        config: the resolved configuration.
        diverged: whether the model has diverged.

    Returns:
        By name as in `OUTCOMES`, NaN where there is no such number: the means of precision, recall and
        false-positive rate over the rounds that have them; the `lifespan` of a backdoor, the number of rounds
        from the end of the attack to the last evaluation at which it succeeds on half of the examples or
        more, 0 if there is none; `lifespan_censored`, 1 if that is the last evaluation of all, so that the
        lifespan is at least so long; and the mean success rate in the 100 rounds after the attack, where the
        run has so many.

    Source: Zhang et al., "Neurotoxin: durable backdoors in federated learning", ICML 2022, for the lifespan.
    """
    found = dict.fromkeys(OUTCOMES, math.nan)
    for name in _DETECTION:
        if name in curves:
            found[name] = _mean(_column(curves, name))
    end = attack_end(config)
    success, rounds = _column(curves, "attack_success_rate"), _column(curves, "round")
    if end is None or diverged or not np.isfinite(success).any() or not (rounds >= end).any():
        return found
    after, rates = rounds[rounds >= end] - end, success[rounds >= end]
    alive = after[rates >= ALIVE]
    found["lifespan"] = float(alive[-1]) if len(alive) else 0.0
    found["lifespan_censored"] = float(rates[-1] >= ALIVE)
    if after[-1] >= AFTERWARDS:
        found["success_afterwards"] = _mean(rates[(after > 0) & (after <= AFTERWARDS)])
    return found


def spoken(found: Mapping[str, float]) -> dict[str, str]:
    """The numbers of `outcomes` by title, as a person reads them.

    Example:
        >>> spoken({"lifespan": 40.0, "lifespan_censored": 1.0})
        {'lifespan': '≥ 40 rounds'}
    """
    bound = "≥ " * bool(found.get("lifespan_censored"))
    return {
        OUTCOMES[name].title: f"{bound}{value:.0f} rounds" if name == "lifespan" else f"{value:.4f}"
        for name, value in found.items()
        if name != "lifespan_censored"
    }


def attack_end(config: Mapping[str, Any]) -> int | None:
    """The first round without attack again, where the configuration names one.

    Example:
        >>> schedule = {"name": "between", "start": 10, "stop": 50}
        >>> attack_end({"attack": {"name": "badnets", "schedule": schedule}})
        50
    """
    attack = config.get("attack")
    schedule = attack.get("schedule") if isinstance(attack, Mapping) else None
    if not isinstance(schedule, Mapping) or schedule.get("name") != "between":
        return None
    stop = schedule.get("stop")
    return stop if isinstance(stop, int) and not isinstance(stop, bool) else None


def impacts(
    attacked: Curves, plain: Curves, diverged: tuple[bool, bool] = (False, False)
) -> dict[str, float]:
    """The harm of an attack: the error of a run less that of the same run without attack.

    Args:
        attacked: the curves of the run, `round` and `test_error` among them.
        plain: those of the run without attack.
        diverged: whether the one or the other has diverged. All its errors are then that of its last
            evaluation, of a model that answers everything alike.

    Returns:
        By name as in `IMPACTS`: of the lowest errors over the evaluations, of the last ones, and of the means
        over the last 10 rounds. For shares the first is the best accuracy without attack less the best one
        with it.

    Source: Shejwalkar et al., "Back to the drawing board: a critical evaluation of poisoning attacks on
    production federated learning", IEEE S&P 2022.
    """
    mine, theirs = (_errors(*each) for each in zip((attacked, plain), diverged, strict=True))
    return {
        name: with_attack - without for name, with_attack, without in zip(IMPACTS, mine, theirs, strict=True)
    }


def _errors(curves: Curves, diverged: bool) -> tuple[float, float, float]:
    """The lowest error, the last one, and the mean of the last rounds; NaN of a curve without errors."""
    errors, rounds = _column(curves, "test_error"), _column(curves, "round")
    end = float(errors[-1])
    if diverged or not np.isfinite(errors).any():
        return end, end, end
    return float(np.nanmin(errors)), end, _mean(errors[rounds > rounds[-1] - LAST_ROUNDS])


def _column(curves: Curves, name: str) -> np.ndarray:
    values = curves.get(name)
    return np.asarray([math.nan] if values is None else values, float)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if len(known) else math.nan
