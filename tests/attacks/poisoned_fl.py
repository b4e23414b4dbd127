"""PoisonedFL: rows, reference and wrong versions."""

import math

import numpy as np

from tests.attacks.case import AttackCase, random_walk, signs_of_run

ROUNDS = 5


def aligned_at_random(d):
    return round(d / 2 + 2.32634787404084 * math.sqrt(d) / 2)


class PoisonedFL:
    """Xie, Fang & Gong 2025, round by round; the first one sends nothing."""

    def __init__(self, signs, scale=8.0, every=50, fall=0.7, least=0.5, absolute=True, previous=True):
        self.signs, self.c, self.every = signs, scale, every
        self.fall, self.least, self.absolute, self.previous = fall, least, absolute, previous
        self.models, self.p = [], np.zeros(len(signs))

    def attack(self, w, present=True):
        t = len(self.models)
        self.models.append(w)
        change = w - self.models[t - 1] if t else 0.0 * w
        if t and t % self.every == 0:
            moved = w - self.models[t - self.every]
            moved = np.where(moved == 0, w, moved)
            few = (np.sign(moved) == self.signs).sum() < aligned_at_random(len(w))
            if few and self.fall * self.c >= self.least:
                self.c *= self.fall
        length, norm = np.linalg.norm(change), np.linalg.norm(self.p)
        v = change - length * self.p / norm if norm and self.previous else change
        v = np.abs(v) if self.absolute else v
        size = np.linalg.norm(v)
        sent = self.c * length * v / size * self.signs if size else 0.0 * w
        if present:
            self.p = sent
        return sent


def poisoned_fl(rows, malicious, rounds=ROUNDS, signs=None, **hyper):
    d = rows.shape[1]
    attack = PoisonedFL(signs_of_run(d) if signs is None else np.full(d, signs), **hyper)
    for r in range(rounds):
        sent = attack.attack(random_walk(r, d))
    return sent


CASES = [AttackCase("poisoned_fl", poisoned_fl, {"every": 2}, rounds=ROUNDS, model=random_walk)]


def _with(**changes):
    return lambda rows, malicious, **hyper: poisoned_fl(rows, malicious, **{**hyper, **changes})


MUTANTS = {
    "poisoned_fl": {
        "without signs of its own": _with(signs=1.0),
        "with the honest signs": _with(absolute=False),
        "without the update before": _with(previous=False),
        "a scale that stays": _with(fall=1.0),
        "one check": _with(every=3),
        "a higher floor": _with(least=5.0),
        "another scale": _with(scale=10.0),
        "one round late": _with(rounds=ROUNDS - 1),
    }
}
