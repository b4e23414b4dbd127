"""Results that rounding to float32 allows on any finite input: ties, copies, zeros, all scales mixed.

Each is `accepts(case, updates, others, result)`. Where the rule is continuous the result is the float64
reference's, to rounding at the scale that the rule works at. Where it selects, two rows whose scores differ
by less than rounding may swap: the result is then that of one of the selections that rounding allows.
"""

from itertools import combinations

import numpy as np

ROUNDING = 1e-5


def wide(updates):
    return np.asarray(updates, np.float64)


def follows(result, expected, scale):
    """Equal to rounding at `scale`; far below it float32 underflows."""
    return bool((np.abs(wide(result) - expected) <= ROUNDING * np.asarray(scale) + 1e-35).all())


def equals_reference(scale):
    """The reference's result to rounding at `scale(case, rows, others, expected)`."""

    def accepts(case, updates, others, result):
        expected = case.expected(updates, others)
        return follows(result, expected, scale(case, wide(updates), others, expected))

    return accepts


def of_column(case, rows, others, expected):
    return np.abs(rows).max(0)


def of_result(case, rows, others, expected):
    return np.abs(expected)


def of_result_rows(case, rows, others, expected):
    return np.linalg.norm(expected, axis=1, keepdims=True)


def of_crowd(rows):
    """The squared distances from the row that most rows are near to, and the unit that float32 puts them in.

    That is the distance of the median row; where half of the rows are copies, that of the median other one.
    Of rows that rounding may take for the nearest to most, it is the one that is farthest from the others.
    """
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    nearest = np.sort(squares, axis=1)[:, : len(rows) // 2 + 1]
    alike = nearest[:, -1] <= (1 + ROUNDING) * nearest[:, -1].min()
    crowd = squares[np.argmax(np.where(alike, nearest.sum(1), -1.0))]
    ordered = np.sort(crowd)
    copies = np.count_nonzero(crowd == 0)
    middle = len(rows) // 2 if copies <= len(rows) // 2 else copies + (len(rows) - copies) // 2
    return crowd, ordered[min(middle, len(rows) - 1)]


def pair_noise(rows):
    """How far off a squared distance may be in float32: rows count from the one most rows are near to."""
    crowd, unit = of_crowd(rows)
    # What is that small in its unit vanishes.
    return ROUNDING * (crowd[:, None] + crowd[None]) + 1e-36 * unit


def squares_and_noise(rows):
    """The squared distances, and how far off they may be in float32, where what overflows is one number."""
    squares, noise = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    overflow = 1e36 * of_crowd(rows)[1]
    beyond = (squares > overflow) & (overflow > 0)
    return squares, np.where(beyond, np.maximum(noise, squares - overflow), noise)


def means_of_smallest(values, keys, noise, count):
    """The means, and the magnitudes, of every `count` values that rounding may call those of smallest key."""
    low, high = keys - noise, keys + noise
    before = (low[None] <= high[:, None]).sum(1) - 1
    surely_before = (high[None] < low[:, None]).sum(1)
    sure = np.flatnonzero(before < count)
    maybe = np.flatnonzero((before >= count) & (surely_before < count))
    for extra in combinations(maybe, count - len(sure)):
        chosen = values[np.r_[sure, np.array(extra, int)]]
        yield chosen.mean(0), np.abs(chosen).max(0)


def some_follow(result, candidates):
    return any(follows(result, mean, scale) for mean, scale in candidates)


def far_out(rows):
    """Rows so far from most others that squared distances leave float32 in the unit of the usual one."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    usual = max(np.median(np.median(distances, axis=1)), distances[distances > 0].min(initial=np.inf))
    return np.median(distances, axis=1) > 1e15 * usual


# Squared distances, in units of that of the median row, that a float32 does not hold.
OVERFLOW = 1e36


def hopeless(rows):
    """Rows that float32 may treat as infinitely far."""
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    crowd = np.argmin(np.sort(squares, axis=1)[:, len(rows) // 2])
    ordered = np.sort(squares[crowd])
    unit = ordered[(np.arange(len(rows)) >= len(rows) // 2) & (ordered > 0)].min(initial=np.inf)
    return squares[crowd] > OVERFLOW * unit
