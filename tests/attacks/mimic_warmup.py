"""Mimic with a warm-up: rows, reference and wrong versions."""

import math

import numpy as np

from fljax.attacks import mimic_warmup as factory
from tests.attacks.case import AttackCase
from tests.attacks.pools import mean, square


def unit(vector):
    length = math.sqrt(square(vector))
    return vector / length if length else vector


class Mimic:
    """Karimireddy et al. 2022: the direction of largest variance, and who stands out along it."""

    def __init__(self, start, num_clients, warmup, choose):
        self.z = np.array(start, np.float64)
        self.mu = np.zeros_like(self.z)
        self.t, self.warmup, self.choose = 0, warmup, choose
        self.score = dict.fromkeys(range(num_clients), 0.0 if choose == "sum" else -math.inf)
        self.side = -1.0 if choose == "smallest" else 1.0

    def target(self, rows, malicious, ids):
        """The client that is copied in this round."""
        return self.ranking(rows, malicious, ids)[0]

    def ranking(self, rows, malicious, ids):
        """The clients, the best one first."""
        good = [i for i in range(len(rows)) if not malicious[i]]
        if self.t < self.warmup:
            average = mean(np.array([rows[i] for i in good], np.float64))
            self.mu = (self.t * self.mu + average) / (1 + self.t)
            total = np.zeros_like(self.z)
            for i in good:
                total += np.dot(rows[i] - self.mu, self.z) * (rows[i] - self.mu)
            self.z = unit((self.t * self.z + unit(total)) / (1 + self.t))
            for i in good:
                projection = self.side * float(np.dot(rows[i], self.z))
                self.score[ids[i]] = projection + (self.score[ids[i]] if self.choose == "sum" else 0.0)
            self.t += 1
        size = abs if self.choose == "sum" else float
        return sorted(good, key=lambda i: -size(self.score[ids[i]]))


ROUNDS = 3


def mimic_warmup(rows, malicious, start, warmup=1, choose="sum", spread=False):
    learner = Mimic(start, len(rows), warmup, choose)
    for _ in range(ROUNDS):
        best = learner.ranking(rows, malicious, range(len(rows)))
    if spread:
        return rows[[best[k % len(best)] for k in range(int(malicious.sum()))]]
    return rows[best[0]]


def _first_direction(updates, malicious):
    return (factory().init(*updates.shape).direction,)


CASES = [
    AttackCase("mimic_warmup", mimic_warmup, {"warmup": 2}, draws=_first_direction, rounds=ROUNDS),
    AttackCase(
        "mimic_warmup",
        mimic_warmup,
        {"warmup": 2, "choose": "last"},
        variant="last",
        draws=_first_direction,
        rounds=ROUNDS,
    ),
    AttackCase(
        "mimic_warmup",
        mimic_warmup,
        {"warmup": 2, "choose": "smallest", "spread": True},
        variant="smallest, spread",
        draws=_first_direction,
        rounds=ROUNDS,
    ),
]


def _with(**changes):
    return lambda rows, malicious, start, **hyper: mimic_warmup(
        rows, malicious, start, **{**hyper, **changes}
    )


MUTANTS = {
    "mimic_warmup": {
        "by its sign": _with(choose="last"),
        "one for all": _with(spread=False),
        "without its sign": _with(choose="sum"),
        "the longest row": lambda rows, malicious, start, **hyper: max(
            rows[~malicious], key=lambda row: np.linalg.norm(row)
        ),
        "the farthest from the mean": lambda rows, malicious, start, **hyper: max(
            rows[~malicious], key=lambda row: np.linalg.norm(row - rows[~malicious].mean(0))
        ),
        "one that has learnt nothing": lambda rows, malicious, start, **hyper: max(
            rows[~malicious], key=lambda row: abs(row @ np.asarray(start, float))
        ),
        "with the malicious rows": lambda rows, malicious, start, **hyper: mimic_warmup(
            rows, malicious & False, start, **hyper
        ),
    }
}
