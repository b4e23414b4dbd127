"""The hybrid sparse attack: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.alie import alie_factor
from tests.attacks.case import AttackCase, random_walk
from tests.attacks.pools import deviation, mean, pool_of

ROUNDS = 2


def hybrid_sparse(
    rows,
    malicious,
    share=0.005,
    sparse_factor=1.5,
    z=None,
    direction="std",
    knowledge="full",
    t=0,
    ddof=1,
    sensitivity=lambda w, mu, sigma: np.abs(w * mu),
    side=1,
):
    """Özfatura et al. 2024, with the mask of SNIP in the first round."""
    d = rows.shape[1]
    pool = pool_of(rows, malicious, knowledge)
    mu, sigma = mean(pool), deviation(pool, ddof)
    values = sensitivity(random_walk(t, d), mu, sigma)
    mask = np.zeros(d)
    mask[np.argsort(-values)[: max(int(share * d), 1)]] = 1
    small = alie_factor(len(rows), int(malicious.sum())) if z is None else z
    a = 1 if direction == "std" else -np.sign(mu)
    return mu + side * a * sigma * (small * (1 - mask) + sparse_factor * mask)


def _case(variant="", **hyper):
    return AttackCase(
        "hybrid_sparse", hybrid_sparse, hyper, variant=variant, rounds=ROUNDS, model=random_walk
    )


CASES = [
    _case(share=0.2, sparse_factor=3.0),
    _case("against the mean", share=0.1, z=0.5, direction="mean", knowledge="partial"),
]


def _with(**changes):
    return lambda rows, malicious, **hyper: hybrid_sparse(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "hybrid_sparse": {
        "another mask in every round": _with(t=1),
        "all coordinates": _with(share=1.0),
        "none": _with(sparse_factor=0.0),
        "the largest means": _with(sensitivity=lambda w, mu, sigma: np.abs(mu)),
        "the largest shares of the spread": _with(sensitivity=lambda w, mu, sigma: np.abs(mu) / (sigma + 1)),
        "deviation of all": _with(ddof=0),
        "of gradients": _with(side=-1),
        "of the honest rows": _with(knowledge="full"),
        "along the deviation": _with(direction="std"),
    }
}
