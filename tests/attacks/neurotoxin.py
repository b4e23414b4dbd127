"""Neurotoxin: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.quadratic import BACKDOOR, D


def bottom(values, share):
    """The ⌊k d⌋ entries of smallest size, of equal ones the first."""
    count = int(share * len(values) + 1e-9)
    order = sorted(range(len(values)), key=lambda j: (abs(values[j]), j))
    return np.array([1.0 if j in order[:count] else 0.0 for j in range(len(values))])


def neurotoxin(
    attacker,
    share=0.95,
    source="global_change",
    norm=None,
    backdoor=None,
    choose=bottom,
    lag=1,
    where="gradient",
    first=1.0,
):
    """Zhang et al. 2022."""
    models = attacker.models
    if source == "own_update":
        mask = choose(attacker.honest, share)
    elif len(models) <= lag:
        mask = np.full(D, first)
    else:
        mask = choose(models[-1] - models[-1 - lag], share)

    def project(delta, step):
        return delta if norm is None else delta * min(1.0, norm / max(np.linalg.norm(delta), 1e-9))

    if where == "update":
        return mask * attacker.descend(project=project)
    return attacker.descend(gradient=lambda own, delta, step: mask * own, project=project)


def _case(variant="", **hyper):
    return AttackCase(
        "neurotoxin", trained=neurotoxin, hyper={"backdoor": BACKDOOR, **hyper}, variant=variant
    )


CASES = [
    _case(share=0.5),
    _case("in a ball", share=0.75, norm=0.3),
    _case("own update", share=0.5, source="own_update"),
]


def _with(**changes):
    return lambda attacker, **hyper: neurotoxin(attacker, **{**hyper, **changes})


TRAINING_MUTANTS = {
    "neurotoxin": {
        "the largest": _with(choose=lambda values, share: 1 - bottom(values, 1 - share)),
        "by signed values": _with(
            choose=lambda values, share: bottom(values - values.min(), share),
        ),
        "one coordinate fewer": _with(choose=lambda values, share: bottom(values, share - 0.25)),
        "all coordinates": _with(share=1.0),
        "an older change": _with(lag=2),
        "the model itself": _with(choose=lambda values, share: np.array([1.0, 0.0, 1.0, 0.0])),
        "the update, not the gradient": _with(where="update"),
        "no ball": _with(norm=None),
        "nothing in the first round": _with(first=0.0),
        "the global change": _with(source="global_change"),
    }
}
