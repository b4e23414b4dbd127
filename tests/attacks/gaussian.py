"""Gaussian noise: rows, reference and wrong versions."""

from tests.attacks.case import AttackCase, normal_draws
from tests.attacks.pools import mean, pool_of


def gaussian(updates, malicious, noise, std, around="zero"):
    """Blanchard et al. 2017."""
    centers = {"zero": 0.0, "own": updates[malicious], "mean": mean(pool_of(updates, malicious, "full"))}
    return centers[around] + std * noise


CASES = [
    AttackCase("gaussian", gaussian, {"std": 2.0}, draws=normal_draws),
    AttackCase("gaussian", gaussian, {"std": 0.5, "around": "own"}, variant="own", draws=normal_draws),
    AttackCase("gaussian", gaussian, {"std": 0.5, "around": "mean"}, variant="mean", draws=normal_draws),
]

MUTANTS = {
    "gaussian": {
        "the variance for the deviation": lambda u, m, noise, std, around="zero": gaussian(
            u, m, noise, std**2, around
        ),
        "one draw for all": lambda u, m, noise, std, around="zero": gaussian(
            u, m, noise[:1].repeat(m.sum(), 0), std, around
        ),
        "around zero": lambda u, m, noise, std, around="zero": gaussian(u, m, noise, std),
        "around the mean of all": lambda u, m, noise, std, around="zero": (
            u.mean(0) + std * noise if around == "mean" else gaussian(u, m, noise, std, around)
        ),
    }
}
