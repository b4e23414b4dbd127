"""Distance-fitted rows: rows, references and wrong versions."""

import numpy as np

from fljax.attacks import on_updates, scale
from tests.attacks.case import TASK, AttackCase
from tests.attacks.pools import mean, pool_of

FACTOR = 3.0


def angle(a, b):
    return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def straight(a, b):
    return np.linalg.norm(a - b)


def distance_fitted(
    rows, malicious, backdoor, distance="euclidean", bound=max, factor=FACTOR, limit=1.0, everyone=False
):
    """Yang et al. 2024: the smallest r that does, by trying them in order and halving the last step."""
    honest = pool_of(rows, malicious, "full")
    center = mean(rows if everyone else honest)
    measure = straight if distance == "euclidean" else angle
    far = (
        bound(measure(honest[i], honest[j]) for i in range(len(honest)) for j in range(len(honest)) if i != j)
        if len(honest) > 1
        else 0.0
    )
    sent = []
    for own in factor * rows[malicious]:

        def moved(r, own=own):
            row = own + r * (center - own)
            if distance == "euclidean":
                return row
            return row * np.linalg.norm(own) / np.linalg.norm(row)

        def does(r, moved=moved):
            return max(measure(moved(r), h) for h in honest) <= far * (1 + 1e-12)

        tried = np.linspace(0, limit, 41)
        good = next((k for k, r in enumerate(tried) if does(r)), None)
        if good is None:
            sent.append(moved(limit))
            continue
        high = tried[good]
        low = tried[max(good - 1, 0)]
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if does(middle) else (middle, high)
        sent.append(moved(high))
    return np.array(sent)


def _case(variant="", **hyper):
    backdoor = on_updates(scale, TASK, factor=FACTOR)
    return AttackCase(
        "distance_fitted", distance_fitted, {"backdoor": backdoor, **hyper}, variant=variant, rtol=1e-4
    )


CASES = [_case(), _case("cosine", distance="cosine")]


def _with(**changes):
    return lambda rows, malicious, **hyper: distance_fitted(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "distance_fitted": {
        "within the shortest distance": _with(bound=min),
        "as published, not beyond 0.2": _with(limit=0.2),
        "of rows that were not scaled": _with(factor=1.0),
        "towards the mean of all": _with(everyone=True),
        "by angles": _with(distance="cosine"),
        "by lengths": _with(distance="euclidean"),
    }
}
