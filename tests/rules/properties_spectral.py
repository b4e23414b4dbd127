"""What must hold of the spectral and subset rules; see properties.py."""

from itertools import combinations

import jax
import numpy as np

from fljax.numerics.subsets import random_coordinates
from tests.rules import reference_spectral as reference
from tests.rules.properties import ROUNDING, follows, means_of_smallest, pair_noise, some_follow, wide

# Squared distances, in units of that of the median row, that a float32 does not hold.
OVERFLOW = 1e36


def drawn_coordinates(updates, key, num_iterations=1, subspace_size=10_000, **others):
    """What `divide_and_conquer` drew."""
    d = np.shape(updates)[1]
    if subspace_size >= d:
        return ([np.arange(d)],)
    with jax.enable_x64(False):
        return ([np.asarray(those) for those in random_coordinates(key, d, subspace_size, num_iterations)],)


def hopeless(rows):
    """Rows that float32 may treat as infinitely far."""
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    crowd = np.argmin(np.sort(squares, axis=1)[:, len(rows) // 2])
    ordered = np.sort(squares[crowd])
    unit = ordered[(np.arange(len(rows)) >= len(rows) // 2) & (ordered > 0)].min(initial=np.inf)
    return squares[crowd] > OVERFLOW * unit


def subsets_of(rows, num_malicious):
    return np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))


def averages_one_of(rows, subsets, costs, noise, result):
    """Whether the result is the mean of a subset whose cost rounding may call the smallest."""
    allowed = costs - noise <= (costs + noise).min()
    return any(follows(result, rows[s].mean(0), np.abs(rows[s]).max(0)) for s in subsets[allowed])


def averages_a_closest_subset(case, updates, others, result):
    """For MDA."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    subsets = subsets_of(rows, f)
    squares, off = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    if hopeless(rows).sum() > f:
        squares[:], off[:] = 0.0, 1.0
    low, high = (
        (squares + sign * off)[subsets[:, :, None], subsets[:, None]].max((1, 2)) for sign in (-1, 1)
    )
    return averages_one_of(rows, subsets, (low + high) / 2, (high - low) / 2, result)


def averages_a_narrowest_subset(case, updates, others, result):
    """For SMEA."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    subsets = subsets_of(rows, f)
    centred = rows[subsets] - rows[subsets].mean(1, keepdims=True)
    values = np.linalg.norm(centred, ord=2, axis=(1, 2)) ** 2 / subsets.shape[1]
    noise = 2 * pair_noise(rows)[subsets[:, :, None], subsets[:, None]].max((1, 2)) + 2 * ROUNDING * values
    if hopeless(rows).sum() > f:
        noise[:] = np.inf
        values[:] = 0.0
    return averages_one_of(rows, subsets, values, noise, result)


def within_its_guarantee(case, updates, others, result):
    """For CAF: ‖g − mean of S‖² ≤ κ λ_max(S) for every n − f rows S, whichever of them are honest.

    With one eigenvalue several times over, as ties make it, the rule itself is not unique. The factor κ has
    the form that Allouah et al. give for SMEA and CAF, 6f/(n−2f) · (1 + f/(n−2f))².
    """
    rows, f = wide(updates), case.hyper["num_malicious"]
    n = len(rows)
    if f == 0:
        return follows(result, rows.mean(0), np.abs(rows).max(0)) or hopeless(rows).any()
    subsets = subsets_of(rows, f)
    means = rows[subsets].mean(1)
    values = np.linalg.norm(rows[subsets] - means[:, None], ord=2, axis=(1, 2)) ** 2 / (n - f)
    factor = 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)) ** 2
    # Scores that rounding hides must be those of rows that differ little from the rest.
    off = 1e-3 * np.abs(rows[subsets]).max((1, 2)) + 1e-30
    return bool((np.linalg.norm(wide(result) - means, axis=1) <= np.sqrt(factor * values) + off).all())


def averages_rows_off_the_axis(case, updates, others, result):
    """For DnC, where every iteration sees all coordinates."""
    rows = wide(updates)
    (drawn,) = drawn_coordinates(updates, others["key"], **case.hyper)
    assert len(drawn) == 1
    far = hopeless(rows)
    count = len(rows) - int(case.hyper.get("filter_fraction", 1.0) * case.hyper["num_malicious"] + 1e-9)
    if far.sum() >= len(rows) - count:
        return some_follow(result, [(rows[~far].mean(0), np.abs(rows[~far]).max(0))]) or far.sum() > 5
    # Removing far rows beforehand changes the axis.
    return any(
        some_follow(result, means_of_smallest(rows, *scores, count))
        for scores in (scores_and_noise(rows, np.zeros_like(far)), scores_and_noise(rows, far))
    )


def scores_and_noise(rows, far):
    scores = np.full(len(rows), np.inf)
    scores[~far] = reference.outlier_scores(rows[~far])
    singular = np.linalg.svd(rows[~far] - rows[~far].mean(0), compute_uv=False)
    largest = scores[~far].max()
    # An axis that another one nearly equals may point anywhere between them.
    clear = len(singular) < 2 or singular[1] < 0.99 * singular[0]
    scores[far] = 10 * largest + 1
    noise = np.full(len(rows), 1e-4 * largest if clear and largest > 0 else 10.0 * largest + 1)
    # Both deviation and axis are known to rounding at the scale of the farthest row.
    return scores, np.where(far, 0, noise + 1e-2 * np.sqrt(scores * largest) * clear)
