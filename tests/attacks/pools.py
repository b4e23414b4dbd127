"""Rows that attackers know, and their statistics, as slow float64 loops."""

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


def square(vector):
    return float(np.dot(vector, vector))
