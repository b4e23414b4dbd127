"""Slow float64 NumPy versions of Fang et al.'s attacks, written from the paper: each trial stack is built."""

import numpy as np


def krum_choice(rows, f, power=2):
    """The row with the smallest Σ of distances^power to its n − f − 2 nearest others.

    Of equals the one whose next distance is smaller, then the first.
    """
    n, best, chosen = len(rows), None, None
    for i in range(n):
        lengths = np.sqrt(((rows - rows[i]) ** 2).sum(axis=1)) ** power
        others = sorted(lengths[j] for j in range(n) if j != i)
        score = (sum(others[: n - f - 2]), *others[n - f - 2 : n - f - 1])
        if best is None or score < best:
            best, chosen = score, i
    return chosen


def bound(benign, n, c, f, s):
    """Theorem 1 with c crafted rows and a Krum told f; the paper has f = c and ‖s‖² = d."""
    sums = []
    for i in range(len(benign)):
        others = sorted(np.linalg.norm(benign[i] - benign[j]) for j in range(len(benign)) if j != i)
        sums.append(sum(others[: n - f - 2]))
    size = np.sqrt(sum(s**2))
    return min(sums) / ((n - f - c - 1) * size) + max(np.linalg.norm(row) for row in benign) / size


def start_of(benign, n, c, f, s, unit, lambda_init):
    if lambda_init == "one" or n - f - c - 1 <= 0 or len(benign) == 0 or not s.any():
        return unit
    return bound(benign, n, c, f, s)


def krum_attack(
    updates,
    malicious,
    f=None,
    threshold=1e-5,
    unit=1.0,
    direction="krum",
    lambda_init="bound",
    power=2,
):
    """(first λ, last λ, s, whether Krum selected −λs), full knowledge."""
    rows = np.asarray(updates, np.float64)
    n, m = len(rows), int(sum(malicious))
    f = min(m, n - 3) if f is None else f
    benign = rows[~malicious]
    s = np.sign(rows[krum_choice(rows, f, power)] if direction == "krum" else sum(benign))
    start = size = start_of(benign, n, m, f, s, unit, lambda_init)
    while True:
        trial = rows.copy()
        for i in range(n):
            if malicious[i]:
                trial[i] = -size * s
        found = malicious[krum_choice(trial, f, power)]
        if found or size < threshold * unit:
            return start, size, s, found
        size /= 2


def krum_attack_partial(updates, malicious, threshold=1e-5, unit=1.0, lambda_init="bound", power=2):
    """(λ, s, how many crafted rows competed), from the attackers' own rows."""
    own = np.asarray(updates, np.float64)[malicious]
    s = np.sign(sum(own) / len(own))
    copies = 0
    while True:
        copies += 1
        n = len(own) + copies
        f = min(copies, n - 3) if n > 3 else n - 3
        size = start_of(own, n, copies, f, s, unit, lambda_init)
        while True:
            trial = np.concatenate([own, np.tile(-size * s, (copies, 1))])
            if krum_choice(trial, f, power) >= len(own):
                return size, s, copies
            if size < threshold * unit:
                break
            size /= 2


def trim_extreme(pool, s):
    """What the attack goes beyond, per coordinate: w_max for s = −1, w_min for s = +1, 0 for s = 0."""
    result = []
    for values, sign in zip(pool.T, s, strict=True):
        result.append(max(values) if sign < 0 else min(values) if sign > 0 else 0.0)
    return np.array(result)


def trim_beyond(extreme, s, ratio):
    """The extreme moved by a ratio above 1 against s, in the paper's four cases."""
    result = []
    for x, sign, r in zip(extreme, s, np.broadcast_to(ratio, s.shape), strict=True):
        if sign == -1:
            result.append(r * x if x > 0 else x / r)
        elif sign == 1:
            result.append(x / r if x > 0 else r * x)
        else:
            result.append(0.0)
    return np.array(result)
