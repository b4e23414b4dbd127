"""A little is enough: rows, reference and wrong versions."""

import math
from statistics import NormalDist

from tests.attacks.case import AttackCase
from tests.attacks.pools import deviation, mean, pool_of


def alie_share(n, m):
    """(n − m − s) / (n − m) with s = ⌊n/2 + 1⌋ − m."""
    supporters = math.floor(n / 2 + 1) - m
    return (n - m - supporters) / (n - m)


def alie_factor(n, m):
    """The quantile of `alie_share`; beyond m = n/2, or for n ≤ 2, that of the nearest of 1/n and 1 − 1/n."""
    if n == 1:
        return 0.0
    share = alie_share(n, m) if m < n else 1.0
    return NormalDist().inv_cdf(min(max(share, 1 / n), 1 - 1 / n))


def alie(rows, malicious, z=None, knowledge="partial", ddof=0):
    """Baruch et al. 2019."""
    factor = alie_factor(len(rows), int(malicious.sum())) if z is None else z
    pool = pool_of(rows, malicious, knowledge)
    return mean(pool) + factor * deviation(pool, ddof)


CASES = [
    AttackCase("alie", alie, {"z": 1.5}),
    AttackCase("alie", alie, {"knowledge": "full", "ddof": 1}, variant="full"),
]


def _with(factor=None, **changes):
    """The reference with other arguments, or z as a function of n and m."""

    def version(rows, malicious, z=None, knowledge="partial", ddof=0):
        given = {"z": z, "knowledge": knowledge, "ddof": ddof, **changes}
        if z is None and factor is not None:
            given["z"] = factor(len(rows), int(malicious.sum()))
        return alie(rows, malicious, **given)

    return version


MUTANTS = {
    "alie": {
        "below the mean": lambda rows, malicious, **hyper: (
            2 * mean(pool_of(rows, malicious, hyper.get("knowledge", "partial")))
            - alie(rows, malicious, **hyper)
        ),
        "deviation of the sample": _with(ddof=1),
        "deviation of the population": _with(ddof=0),
        "of the honest rows": _with(knowledge="full"),
        "of their own rows": _with(knowledge="partial"),
        "quantile with all clients below": _with(
            factor=lambda n, m: NormalDist().inv_cdf(min(max((n - m) / n, 1 / n), 1 - 1 / n))
        ),
        "one supporter more": _with(factor=lambda n, m: alie_factor(n, max(m - 1, 0))),
    }
}
