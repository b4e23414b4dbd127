"""Sybil noise: rows, reference and wrong versions."""

import jax
import numpy as np

from fljax.attacks import on_updates, scale
from tests.attacks.case import KEY, TASK, AttackCase

ROUNDS, FACTOR = 3, 2.0
# It has to poison data, but what it sends is scaled alone.
SCALED = on_updates(scale, TASK, factor=FACTOR)._replace(poison_data=lambda x, y, is_copy, member: (x, y))


def orthonormal(count, d):
    """Gram and Schmidt, of the vectors that are drawn once."""
    found = []
    for vector in np.asarray(jax.random.normal(KEY, (count, d)), np.float64):
        rest = vector - sum((other @ vector * other for other in found), 0.0 * vector)
        found.append(rest / np.linalg.norm(rest))
    return found


def sybil_noise(
    rows, malicious, backdoor, similarity=0.25, rounds=ROUNDS, pairs=True, memory=True, everyone=True
):
    """Fung et al. 2020, with the same rows in every round."""
    n, d = rows.shape
    m = int(malicious.sum())
    half = (m + 1) // 2
    basis = orthonormal(-(-n // 2), d)
    noise = np.array(basis[:half] + [-v if pairs else v for v in basis[: m - half]])
    poison = FACTOR * rows[malicious]
    length = max(np.linalg.norm(row) for row in (rows if everyone else rows[malicious]))
    history = np.zeros((m, d))
    for _ in range(rounds):
        ahead = history + poison
        cosines = [
            ahead[i] @ ahead[j] / np.linalg.norm(ahead[i]) / np.linalg.norm(ahead[j])
            for i in range(m)
            for j in range(i)
        ]
        sent = length * noise if cosines and max(cosines) > similarity else poison
        history = history + sent if memory else history
    return sent


def _case(variant="", **hyper):
    return AttackCase(
        "sybil_noise",
        sybil_noise,
        {"backdoor": SCALED, **hyper},
        variant=variant,
        rounds=ROUNDS,
    )


CASES = [_case(), _case("tolerant", similarity=0.6)]


def _with(**changes):
    return lambda rows, malicious, **hyper: sybil_noise(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "sybil_noise": {
        "always poison": _with(similarity=1.0),
        "always noise": _with(similarity=-1.0),
        "without negatives": _with(pairs=False),
        "without a history": _with(memory=False),
        "one round fewer": _with(rounds=ROUNDS - 1),
    }
}
