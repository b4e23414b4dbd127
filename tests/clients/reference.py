"""What the papers say, one client and one step at a time in float64.

Every function takes a `World` and returns the global model after every round.
"""

from typing import NamedTuple

import numpy as np


class World(NamedTuple):
    """A federation as the loops see it.

    Attributes:
        x, y: inputs and labels of all examples.
        examples: positions of every client's examples.
        start: the initial model (features, classes).
        cohorts: the clients of every round.
        batches: round and client to the examples of each local step.
        rates: the local learning rate of every round.
        malicious: clients that send the negative of whatever they would send.
        rule: rows to one vector.
    """

    x: np.ndarray
    y: np.ndarray
    examples: list
    start: np.ndarray
    cohorts: list
    batches: dict
    rates: list
    malicious: frozenset
    rule: object

    def gradient(self, model, examples):
        """Of the mean cross-entropy of softmax regression."""
        total = np.zeros_like(model)
        for example in examples:
            logits = self.x[example] @ model
            chances = np.exp(logits - logits.max())
            chances /= chances.sum()
            chances[self.y[example]] -= 1
            total += np.outer(self.x[example], chances)
        return total / max(len(examples), 1)

    def sent(self, client, vector):
        return -vector if client in self.malicious else vector

    def rounds(self):
        return zip(self.cohorts, self.rates, range(len(self.cohorts)), strict=True)


def zeros(world):
    return {client: np.zeros_like(world.start) for client in range(len(world.examples))}


def momentum(world, beta, dampening=True, forget=False):
    """Karimireddy et al. 2021: m_i = β m_i + (1 − β) g_i is sent."""
    w, m, models = world.start.copy(), zeros(world), []
    for cohort, rate, number in world.rounds():
        rows = []
        for i in cohort:
            local = w.copy()
            for batch in world.batches[number, i]:
                local -= rate * world.gradient(local, batch)
            gradient = (w - local) / rate
            m[i] = beta * m[i] * (not forget) + (1 - beta if dampening else 1) * gradient
            rows.append(world.sent(i, -rate * m[i]))
        w = w + world.rule(rows)
        models.append(w)
    return models


def fedprox(world, mu, power=2):
    """Li et al. 2020: F_i(y) + (μ/2)‖y − w‖²."""
    w, models = world.start.copy(), []
    for cohort, rate, number in world.rounds():
        rows = []
        for i in cohort:
            local = w.copy()
            for batch in world.batches[number, i]:
                gap = local - w
                # The wrong version's term is (μ/2)‖y − w‖, whose gradient at its minimum is taken to be 0.
                pull = mu * gap if power == 2 else mu / 2 * gap / max(np.linalg.norm(gap), 1e-12)
                local = local - rate * (world.gradient(local, batch) + pull)
            rows.append(world.sent(i, local - w))
        w = w + world.rule(rows)
        models.append(w)
    return models


def scaffold(world, option, of_all=True, swapped=False):
    """Karimireddy et al. 2020, Algorithm 1 with a global rate of 1."""
    x, c, own, models = world.start.copy(), np.zeros_like(world.start), zeros(world), []
    n = len(world.examples)
    for cohort, rate, number in world.rounds():
        rows, changes = [], []
        for i in cohort:
            local, batches = x.copy(), world.batches[number, i]
            for batch in batches:
                drift = own[i] - c if not swapped else c - own[i]
                local = local - rate * (world.gradient(local, batch) - drift)
            if option == "I":
                new = world.gradient(x, world.examples[i])
            else:
                new = own[i] - c + (x - local) / (len(batches) * rate)
            rows.append(world.sent(i, local - x))
            changes.append(world.sent(i, new - own[i]))
            own[i] = new
        x = x + world.rule(rows)
        c = c + world.rule(changes) * (len(cohort) / n if of_all else 1)
        models.append(x)
    return models


def feddyn(world, alpha, of_all=True, linear=True):
    """Acar et al. 2021, Algorithm 1, the minimum by local steps."""
    theta, h, own, models = world.start.copy(), np.zeros_like(world.start), zeros(world), []
    m = len(world.examples)
    for cohort, rate, number in world.rounds():
        rows = []
        for k in cohort:
            local = theta.copy()
            for batch in world.batches[number, k]:
                direction = world.gradient(local, batch) + alpha * (local - theta)
                local = local - rate * (direction - own[k] * linear)
            own[k] = own[k] - alpha * (local - theta)
            rows.append(world.sent(k, local - theta))
        mean = world.rule(rows)
        h = h - alpha * mean * (len(cohort) / m if of_all else 1)
        theta = theta + mean - h / alpha
        models.append(theta)
    return models


def kept_adam(world, kept=True):
    """FedAvg with Adam (Kingma and Ba 2015), whose moments stay with the client."""
    w, models = world.start.copy(), []
    first, second, steps = zeros(world), zeros(world), dict.fromkeys(range(len(world.examples)), 0)
    for cohort, rate, number in world.rounds():
        rows = []
        for i in cohort:
            local = w.copy()
            if not kept:
                first[i], second[i], steps[i] = 0 * w, 0 * w, 0
            for batch in world.batches[number, i]:
                gradient, steps[i] = world.gradient(local, batch), steps[i] + 1
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                mean, spread = first[i] / (1 - 0.9 ** steps[i]), second[i] / (1 - 0.999 ** steps[i])
                local = local - rate * mean / (np.sqrt(spread) + 1e-8)
            rows.append(world.sent(i, local - w))
        w = w + world.rule(rows)
        models.append(w)
    return models


def sgd(world, steps=None):
    """FedAvg."""
    w, models = world.start.copy(), []
    for cohort, rate, number in world.rounds():
        rows = []
        for i in cohort:
            local = w.copy()
            for batch in world.batches[number, i][:steps]:
                local = local - rate * world.gradient(local, batch)
            rows.append(world.sent(i, local - w))
        w = w + world.rule(rows)
        models.append(w)
    return models
