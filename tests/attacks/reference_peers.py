"""Slow float64 NumPy versions of the peers' update attacks, from the papers: loops, no shared code."""

import math
from statistics import NormalDist

import numpy as np


def pool_of(rows, malicious, knowledge):
    """Baruch et al.: the corrupted workers' rows; the others: the benign ones. All where there are none."""
    wanted = [r for r, bad in zip(rows, malicious, strict=True) if bool(bad) == (knowledge == "partial")]
    return np.array(wanted if wanted else rows, np.float64)


def mean(pool):
    total = np.zeros(pool.shape[1])
    for row in pool:
        total += row
    return total / len(pool)


def deviation(pool, ddof):
    center, total = mean(pool), np.zeros(pool.shape[1])
    for row in pool:
        total += (row - center) ** 2
    return np.sqrt(total / max(len(pool) - ddof, 1))


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
    factor = alie_factor(len(rows), int(np.sum(malicious))) if z is None else z
    pool = pool_of(rows, malicious, knowledge)
    return mean(pool) + factor * deviation(pool, ddof)


def ipm(rows, malicious, epsilon):
    """Xie et al. 2020."""
    return -epsilon * mean(pool_of(rows, malicious, "full"))


def towards(pool, direction):
    """Shejwalkar & Houmansadr 2021: the perturbation p."""
    center = mean(pool)
    if direction == "unit":
        return -center / math.sqrt(sum(value**2 for value in center))
    if direction == "sign":
        return np.array([-1.0 if value > 0 else 1.0 if value < 0 else 0.0 for value in center])
    return deviation(pool, 1) * (1 if direction == "std" else -1)


def square(vector):
    return float(np.dot(vector, vector))


def max_allowed(pool, row):
    """Min-Max: is the row no farther from any other than the two farthest of the pool from each other?"""
    largest = max(square(a - b) for a in pool for b in pool)
    return max(square(row - other) for other in pool), largest


def sum_allowed(pool, row, bound="largest"):
    """Min-Sum: the row's sum of squared distances, and the largest or smallest of the pool's rows."""
    sums = [sum(square(a - b) for b in pool) for a in pool]
    return sum(square(row - other) for other in pool), max(sums) if bound == "largest" else min(sums)


def halving_search(pool, direction, measure, start=10.0, tolerance=1e-5):
    """The published search for γ: up or down by half as much as before, until it moves too little."""
    center, along = mean(pool), towards(pool, direction)
    gamma, step, found = start, start, 0.0
    while abs(found - gamma) > tolerance:
        value, limit = measure(pool, center + gamma * along)
        if value <= limit:
            found = gamma
            gamma = gamma + step / 2
        else:
            gamma = gamma - step / 2
        step = step / 2
    return found


def line_search(rows, malicious, rule, base, along, factors, num_steps, largest):
    """The best factor: those given, then steps up and down from the best, ever smaller; and all evaluated."""
    honest_mean = mean(pool_of(rows, malicious, "full"))
    best, moved, seen = factors[0], -1.0, []
    grid = [f for f in factors if f > 0][-2:]

    def attempt(factor):
        nonlocal best, moved
        stack = np.array(rows, np.float64)
        stack[np.asarray(malicious)] = base + factor * along
        deviation_ = math.sqrt(square(rule(stack) - honest_mean))
        seen.append((factor, deviation_))
        if deviation_ > moved:
            best, moved = factor, deviation_

    for factor in factors:
        attempt(factor)
    power = 0.5
    for step in range(num_steps):
        ratio = (grid[1] / grid[0]) ** power
        attempt(min(best * ratio if step % 2 == 0 else best / ratio, largest))
        if step % 2 == 1:
            power /= 2
    return best, seen


class Mimic:
    """Karimireddy et al. 2022: the direction of largest variance, and who stands out along it."""

    def __init__(self, start, num_clients, warmup, choose):
        self.z = np.array(start, np.float64)
        self.mu = np.zeros_like(self.z)
        self.t, self.warmup, self.choose = 0, warmup, choose
        self.score = dict.fromkeys(range(num_clients), 0.0 if choose == "sum" else -math.inf)

    def target(self, rows, malicious, ids):
        """The client that is copied in this round."""
        good = [i for i in range(len(rows)) if not malicious[i]]
        if self.t < self.warmup:
            average = mean(np.array([rows[i] for i in good], np.float64))
            self.mu = (self.t * self.mu + average) / (1 + self.t)
            total = np.zeros_like(self.z)
            for i in good:
                total += np.dot(rows[i] - self.mu, self.z) * (rows[i] - self.mu)
            self.z = (self.t * self.z + total / math.sqrt(square(total))) / (1 + self.t)
            self.z = self.z / math.sqrt(square(self.z))
            for i in good:
                projection = float(np.dot(rows[i], self.z))
                self.score[ids[i]] = projection + (self.score[ids[i]] if self.choose == "sum" else 0.0)
            self.t += 1
        size = abs if self.choose == "sum" else float
        return max(good, key=lambda i: size(self.score[ids[i]]))
