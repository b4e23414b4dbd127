"""Inner product manipulation: rows, reference and wrong versions."""

from tests.attacks.case import AttackCase
from tests.attacks.pools import mean, pool_of


def ipm(rows, malicious, epsilon):
    """Xie et al. 2020."""
    return -epsilon * mean(pool_of(rows, malicious, "full"))


CASES = [AttackCase("ipm", ipm, {"epsilon": 0.5})]

MUTANTS = {
    "ipm": {
        "with the mean": lambda u, m, epsilon: -ipm(u, m, epsilon),
        "the mean of all": lambda u, m, epsilon: -epsilon * u.mean(0),
        "the mean of the attackers": lambda u, m, epsilon: -epsilon * u[m].mean(0),
        "divided by the factor": lambda u, m, epsilon: ipm(u, m, 1 / epsilon),
        "the sum": lambda u, m, epsilon: (~m).sum() * ipm(u, m, epsilon),
    }
}
