"""ByzMean: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.case import AttackCase
from tests.attacks.pools import deviation, mean, pool_of


def byz_mean(rows, malicious, z=0.5, ddof=1, clients=None, everyone=False, half=lambda m: m // 2):
    """Xu et al. 2022: the mean of all rows is the one that the first half sends."""
    honest = pool_of(rows, malicious, "full")
    m = int(malicious.sum())
    first = half(m)
    shifted = mean(honest) + z * deviation(honest, ddof)
    n = len(rows) if clients is None else clients(len(rows), m)
    total = sum(rows if everyone else honest)
    others = (n * shifted - first * shifted - total) / (m - first)
    return np.array([shifted] * first + [others] * (m - first))


CASES = [AttackCase("byz_mean", byz_mean), AttackCase("byz_mean", byz_mean, {"z": -1.5}, variant="against")]


def _with(**changes):
    return lambda rows, malicious, **hyper: byz_mean(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "byz_mean": {
        "as coded": _with(clients=lambda n, m: n - m, everyone=True),
        "the sum of all rows": _with(everyone=True),
        "deviation of all": _with(ddof=0),
        "another factor": _with(z=1.0),
        "one row more": _with(half=lambda m: (m - 1) // 2),
    }
}
