"""The numbers of whole runs against loops over their evaluations, and where there is none."""

import math

import numpy as np
import pytest

from fljax.simulation.outcomes import IMPACTS, OUTCOMES, attack_end, impacts, outcomes

RNG = np.random.default_rng(3)
ROUNDS = np.arange(20, 401, 20)
END = {"attack": {"name": "badnets", "schedule": {"name": "between", "start": 0, "stop": 130}}}


def curves(success=None, rounds=ROUNDS, **others):
    given = {"round": rounds, "attack_success_rate": success, "test_error": RNG.uniform(size=len(rounds))}
    return {**given, **others}


def durability(found):
    return found["lifespan"], found["lifespan_censored"], found["success_afterwards"]


def test_lifespan_and_success_after_the_attack():
    success = RNG.uniform(0.5, 1, len(ROUNDS))
    success[ROUNDS > 130] = RNG.permutation(np.linspace(0.1, 0.9, (ROUNDS > 130).sum()))
    success[-1] = 0.2
    last, afterwards = 0, []
    for done, rate in zip(ROUNDS, success, strict=True):
        if done >= 130 and rate >= 0.5:
            last = done - 130
        if 130 < done <= 230:
            afterwards.append(rate)
    found = durability(outcomes(curves(success), END, False))
    assert found == pytest.approx((last, 0, np.mean(afterwards)))
    assert 100 < last < 270
    assert len(afterwards) == 5


def test_a_backdoor_that_stays_lives_at_least_to_the_end_of_the_run():
    assert durability(outcomes(curves(np.ones(20)), END, False)) == (270, 1, 1)
    assert durability(outcomes(curves(np.where(ROUNDS > 130, 0.4, 1.0)), END, False)) == (0, 0, 0.4)
    # With fewer than a hundred rounds after the attack there is no mean over them.
    lifespan, censored, afterwards = durability(outcomes(curves(np.ones(11), ROUNDS[:11]), END, False))
    assert (lifespan, censored) == (90, 1)
    assert math.isnan(afterwards)


def test_without_an_end_a_backdoor_or_a_model_there_is_no_lifespan():
    never = {"attack": {"name": "badnets", "schedule": {"name": "between", "start": 3, "stop": None}}}
    late = {"attack": {"schedule": {"name": "between", "stop": 900}}}
    for config in (never, late, {"attack": {"schedule": {"name": "periodic", "on": 3, "off": 2}}}, {}):
        assert np.isnan(durability(outcomes(curves(np.ones(20)), config, False))).all()
    assert np.isnan(durability(outcomes(curves(np.ones(20)), END, True))).all()
    assert np.isnan(durability(outcomes(curves(np.full(20, np.nan)), END, False))).all()
    assert attack_end(END) == 130
    assert attack_end(never) is None


def test_decisions_are_averaged_over_the_rounds_that_have_them():
    precision = np.where(ROUNDS < 100, np.nan, ROUNDS / 400)
    found = outcomes(curves(detection_precision=precision, false_positive_rate=np.zeros(20)), {}, False)
    assert found["detection_precision"] == pytest.approx(np.mean([r / 400 for r in ROUNDS if r >= 100]))
    assert found["false_positive_rate"] == 0
    assert math.isnan(found["detection_recall"])
    assert list(found) == list(OUTCOMES)


def test_attack_impact_is_the_difference_of_errors():
    attacked = curves(rounds=np.arange(5, 41, 5), test_error=[0.9, 0.8, 0.3, 0.5, 0.6, 0.7, 0.4, 0.6])
    plain = curves(rounds=np.arange(5, 41, 5), test_error=[0.9, 0.6, 0.2, 0.1, 0.2, 0.3, 0.15, 0.2])
    found = impacts(attacked, plain)
    assert [found[name] for name in IMPACTS] == pytest.approx([0.3 - 0.1, 0.6 - 0.2, 0.5 - 0.175])
    # One that diverged is as bad as its end, whatever it was before.
    found = impacts(attacked, plain, (True, False))
    assert [found[name] for name in IMPACTS] == pytest.approx([0.6 - 0.1, 0.6 - 0.2, 0.6 - 0.175])
    assert np.isnan(list(impacts(attacked, curves(test_error=None)).values())).all()
