"""What must hold of a float32 result on any finite input: ties, copies, zeros, huge and tiny scales mixed.

Each is `accepts(case, updates, others, result)`. Where the rule is continuous the result is the float64
reference's, to rounding at the scale that the rule works at. Where it selects, two rows whose scores differ
by less than rounding may swap: the result is then that of one of the selections that rounding allows.
"""

from itertools import combinations

import numpy as np

from tests.rules import reference

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


def of_column_beside_usual_rows(case, rows, others, expected):
    """For three Weiszfeld steps: their weights are distances, known to rounding of the usual row."""
    usual = np.sort(np.abs(rows).max(1))[(len(rows) - 1) // 2]
    return np.abs(rows).max(0) + 0.1 * usual


def of_kept_values(case, rows, others, expected):
    trim = case.hyper["trim"]
    return np.abs(np.sort(rows, axis=0)[trim : len(rows) - trim]).max(0)


def of_result(case, rows, others, expected):
    return np.abs(expected)


def of_result_rows(case, rows, others, expected):
    return np.linalg.norm(expected, axis=1, keepdims=True)


def of_bucket(case, rows, others, expected):
    (members,) = case.draws(rows, others["key"], **case.hyper)
    return np.stack([np.abs(rows[inside]).max(0) for inside in members])


def of_clipped_steps(case, rows, others, expected):
    return np.linalg.norm(others["center"]) + case.hyper["radius"]


def of_trusted_share(case, rows, others, expected):
    """The lengths that are averaged, more when trust scores nearly cancel."""
    root = wide(others["root_update"])
    norms = np.linalg.norm(rows, axis=1)
    cosines = np.divide(rows @ root, norms * np.linalg.norm(root), out=np.zeros(len(rows)), where=norms > 0)
    scores = cosines if case.hyper.get("clip_negative") is False else np.maximum(cosines, 0.0)
    total = abs(scores.sum() + (1.0 if case.hyper.get("include_root") else 0.0))
    unscaled = case.hyper.get("normalize") == "none"
    length = max(norms.max(), np.linalg.norm(root)) if unscaled else np.linalg.norm(root)
    return np.inf if total == 0 else length * max(1.0, len(rows) / total)


def of_crowd(rows):
    """The squared distances from the row that most rows are near to, and the unit that float32 puts them in.

    That is the distance of the median row; where half of the rows are copies, that of the median other one.
    """
    squares = np.square(rows[:, None] - rows[None]).sum(-1)
    crowd = squares[np.argmin(np.sort(squares, axis=1)[:, len(rows) // 2])]
    ordered = np.sort(crowd)
    copies = np.count_nonzero(crowd == 0)
    middle = len(rows) // 2 if copies <= len(rows) // 2 else copies + (len(rows) - copies) // 2
    return crowd, ordered[min(middle, len(rows) - 1)]


def pair_noise(rows):
    """How far off a squared distance may be in float32: rows count from the one most rows are near to."""
    crowd, unit = of_crowd(rows)
    # What is that small in its unit vanishes.
    return ROUNDING * (crowd[:, None] + crowd[None]) + 1e-36 * unit


def krum_scores_and_noise(rows, num_malicious, power=2, num_neighbors=None):
    """The float64 scores, and how far float32 may be off."""
    scores = reference.krum_scores(rows, num_malicious, power, num_neighbors)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    squares, noise = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    # All squares that overflow in the unit of the distances are one number.
    overflow = 1e36 * of_crowd(rows)[1]
    beyond = (squares > overflow) & (overflow > 0)
    noise = np.where(beyond, np.maximum(noise, squares - overflow), noise)
    if power == 1:
        low, high = np.sqrt(np.maximum(squares - noise, 0.0)), np.sqrt(squares + noise)
        noise = np.maximum(np.sqrt(squares) - low, high - np.sqrt(squares))
    squares[np.diag_indices(len(rows))] = np.inf
    nearest = np.argsort(squares, axis=1)[:, :count]
    return scores, np.take_along_axis(noise, nearest, axis=1).sum(1)


def could_be_first(scores, noise):
    """Rows whose score may come out smallest."""
    return np.flatnonzero(scores - noise <= (scores + noise).min())


def selects_a_row(case, updates, others, result):
    """For Krum: one of the rows that rounding may let win, bit for bit."""
    rows = wide(updates)
    winners = could_be_first(*krum_scores_and_noise(rows, **case.hyper))
    return bool((np.asarray(updates)[winners] == np.asarray(result)).all(1).any())


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


def averages_selected_rows(case, updates, others, result):
    """For Multi-Krum."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    count = case.hyper.get("num_selected", len(rows) - f)
    options = {name: value for name, value in case.hyper.items() if name != "num_selected"}
    return some_follow(result, means_of_smallest(rows, *krum_scores_and_noise(rows, **options), count))


def far_out(rows):
    """Rows so far from most others that squared distances leave float32 in the unit of the usual one."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    usual = max(np.median(np.median(distances, axis=1)), distances[distances > 0].min(initial=np.inf))
    return np.median(distances, axis=1) > 1e15 * usual


def averages_neighbors(case, updates, others, result):
    """For NNM, row by row; rows far out are all as far from each other, so what they become is left open."""
    rows = wide(updates)
    squares, noise = np.square(rows[:, None] - rows[None]).sum(-1), pair_noise(rows)
    noise[np.diag_indices(len(rows))] = 0.0
    count, near = len(rows) - case.hyper["num_malicious"], np.flatnonzero(~far_out(rows))
    if len(near) < count:
        return bool(np.isfinite(result).all())
    return all(some_follow(result[i], means_of_smallest(rows, squares[i], noise[i], count)) for i in near)


def averages_values_near(values, target, off, count, result):
    """Per coordinate the mean of the values nearest a target that rounding may have moved by `off`."""
    noise = ROUNDING * np.abs(values) + off
    return all(
        some_follow(
            result[j], means_of_smallest(values[:, j], np.abs(values[:, j] - target[j]), noise[:, j], count)
        )
        for j in range(values.shape[1])
    )


def averages_values_near_median(case, updates, others, result):
    rows = wide(updates)
    middle = reference.median(rows)
    count = len(rows) - case.hyper["num_malicious"]
    return averages_values_near(rows, middle, ROUNDING * np.abs(middle), count, result)


def averages_values_near_trimmed_mean(case, updates, others, result):
    rows, trim = wide(updates), case.hyper["trim"]
    off = ROUNDING * of_kept_values(case, rows, others, None)
    return averages_values_near(rows, reference.trimmed_mean(rows, trim), off, len(rows) - trim, result)


def picks_of_bulyan(rows, num_malicious):
    """Every selection that rounding may make, one of each set of equal rows."""
    reached = {tuple(range(len(rows)))}
    for _ in range(len(rows) - 2 * num_malicious):
        following = {}
        for remaining in reached:
            index = np.array(remaining)
            neighbors = max(1, len(remaining) - num_malicious - 2)
            scores, noise = krum_scores_and_noise(rows[index], num_malicious, num_neighbors=neighbors)
            for winner in could_be_first(scores, noise):
                left = tuple(np.delete(index, winner))
                following.setdefault(rows[list(left)].tobytes(), left)
        reached = set(following.values())
    for left in reached:
        yield np.setdiff1d(np.arange(len(rows)), left)


def averages_values_near_median_of_picks(case, updates, others, result):
    """For Bulyan."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    if far_out(rows).sum() > f:
        # Picks among more rows far out than it tolerates are left open.
        return bool(np.isfinite(result).all())
    for picked in picks_of_bulyan(rows, f):
        chosen = rows[picked]
        middle = reference.median(chosen)
        off = ROUNDING * np.abs(middle)
        if averages_values_near(chosen, middle, off, len(chosen) - 2 * f, result):
            return True
    return False


def nearly_minimizes_distances(case, updates, others, result):
    """For the geometric median: neither more Weiszfeld steps nor any row have a smaller sum of distances.

    Rows far away hide in that sum, so differences are taken row by row, and what counts is the distance of
    the nearer half of the rows.
    """
    rows, point = wide(updates), wide(result)
    weights = wide(others["weights"]) if "weights" in case.arrays else np.ones(len(rows))
    unit = case.hyper.get("smoothing_unit")
    if unit is None:
        unit = reference.weighted_median(np.linalg.norm(rows - point, axis=1), weights)
    smoothing = max(case.hyper.get("smoothing", 1e-6) * unit, 1e-150)

    def excess(other):
        """Sum of distances at `point` less that at `other`."""
        here, there = np.linalg.norm(rows - point, axis=1), np.linalg.norm(rows - other, axis=1)
        total = np.where(here + there > 0, here + there, 1.0)
        plain = ((other - point) @ (2 * rows - point - other).T) / total
        inside = np.maximum(here, there) < 2 * smoothing
        huber = [np.where(r < smoothing, (r * r / smoothing + smoothing) / 2, r) for r in (here, there)]
        return weights @ np.where(inside, huber[0] - huber[1], plain)

    better = point
    for _ in range(300):
        share = weights / np.maximum(smoothing, np.linalg.norm(rows - better, axis=1))
        better = share @ rows / share.sum()
    near = np.sort(np.linalg.norm(rows - point, axis=1))[: 2 * len(rows) // 3].mean()
    allowed = weights.sum() * (1e-3 * near + 1e-5 * np.linalg.norm(point) + 2 * smoothing)
    return max(excess(other) for other in (better, *rows)) <= allowed
