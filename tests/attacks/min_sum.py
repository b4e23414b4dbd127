"""Min-Sum: rows, reference and wrong versions."""

from functools import partial

from tests.attacks.case import AttackCase
from tests.attacks.min_max import farthest, min_max, versions
from tests.attacks.pools import square


def sum_allowed(pool, row, bound="largest"):
    """Min-Sum: the row's sum of squared distances, and the largest or smallest of the pool's rows."""
    sums = [sum(square(a - b) for b in pool) for a in pool]
    return sum(square(row - other) for other in pool), max(sums) if bound == "largest" else min(sums)


def min_sum(rows, malicious, bound="largest", **hyper):
    """Shejwalkar & Houmansadr 2021."""
    return farthest(rows, malicious, partial(sum_allowed, bound=bound), **hyper)


CASES = [
    AttackCase("min_sum", min_sum),
    AttackCase("min_sum", min_sum, {"bound": "smallest", "direction": "std"}, variant="smallest"),
    AttackCase("min_sum", min_sum, {"direction": "minus_std", "knowledge": "partial"}, variant="minus std"),
    AttackCase("min_sum", min_sum, {"direction": "sign"}, variant="sign"),
]


def _bound(bound):
    return lambda rows, malicious, **hyper: min_sum(rows, malicious, **{**hyper, "bound": bound})


def _min_max(rows, malicious, bound="largest", **hyper):
    return min_max(rows, malicious, **hyper)


MUTANTS = {
    "min_sum": {
        **versions(min_sum, _min_max),
        "below the smallest sum": _bound("smallest"),
        "below the largest sum": _bound("largest"),
    }
}
