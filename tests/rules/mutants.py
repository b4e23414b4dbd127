"""Plausible wrong versions of every rule: the data of the suite must tell each from the reference.

`MUTANTS[name]` holds them under what is wrong with them, called like the reference.
"""

import numpy as np

from tests.rules import mutants_similarity, mutants_spectral, reference


def rows_of(updates):
    return np.asarray(updates, np.float64)


def distances_of(rows):
    return np.linalg.norm(rows[:, None] - rows[None], axis=-1)


def krum_scores(updates, neighbors, power=2, with_self=False):
    ordered = np.sort(distances_of(rows_of(updates)) ** power, axis=1)
    return ordered[:, : neighbors + 1 - with_self].sum(1)


def first_by_krum(rows, neighbors, next_breaks_ties=True):
    ordered = np.sort(distances_of(rows) ** 2, axis=1)
    following = ordered[:, neighbors + 1 : neighbors + 2].sum(1) if next_breaks_ties else np.zeros(len(rows))
    return int(np.lexsort((following, krum_scores(rows, neighbors)))[0])


def krum_with(change, **options):
    def mutant(updates, num_malicious, power=2, num_neighbors=None):
        neighbors = len(updates) - num_malicious - 2 if num_neighbors is None else num_neighbors
        scores = krum_scores(updates, **{"neighbors": neighbors + change, "power": power, **options})
        return rows_of(updates)[np.argmin(scores)]

    return mutant


def multi_krum_with(more_neighbors=0, more_selected=0, only=None, **options):
    def mutant(updates, num_malicious, num_selected=None, power=2, num_neighbors=None):
        n = len(updates)
        neighbors = n - num_malicious - 2 if num_neighbors is None else num_neighbors
        scores = krum_scores(updates, neighbors + more_neighbors, **{"power": power, **options})
        count = only or (n - num_malicious if num_selected is None else num_selected) + more_selected
        return rows_of(updates)[np.argsort(scores, kind="stable")[:count]].mean(0)

    return mutant


def nearest_mean(values, target, count):
    order = np.argsort(np.abs(values - target), axis=0, kind="stable")[:count]
    return np.take_along_axis(values, order, axis=0).mean(0)


def bulyan_with(rescore=True, fewer_picks=0, neighbors=None, second=None, **ties):
    def mutant(updates, num_malicious):
        rows, f = rows_of(updates), num_malicious
        n = len(rows)
        picks = n - 2 * f - fewer_picks
        if rescore:
            left, picked = list(range(n)), []
            for _ in range(picks):
                count = (neighbors or (lambda n, m, f: max(1, m - f - 2)))(n, len(left), f)
                picked.append(left.pop(first_by_krum(rows[left], count, **ties)))
        else:
            picked = np.argsort(krum_scores(rows, n - f - 2), kind="stable")[:picks]
        chosen = rows[picked]
        if second is not None:
            return second(chosen, f)
        return nearest_mean(chosen, np.median(chosen, axis=0), picks - 2 * f)

    return mutant


def trimmed(rows, low, high, divisor=None):
    kept = np.sort(rows_of(rows), axis=0)[low : len(rows) - high]
    return kept.sum(0) / (divisor or len(kept))


def weiszfeld(steps=300, weigh=None, begin=None, absolute=False):
    def mutant(
        updates,
        weights=None,
        smoothing=1e-6,
        smoothing_unit=None,
        max_iterations=None,
        start="mean",
        tolerance=0,
    ):
        rows = rows_of(updates)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        point = weights @ rows / weights.sum() if (begin or start) == "mean" else np.zeros(rows.shape[1])
        for _ in range(steps if max_iterations is None or steps < 10 else max_iterations):
            lengths = np.linalg.norm(rows - point, axis=1)
            unit = np.median(lengths) if smoothing_unit is None else smoothing_unit
            if absolute:
                unit = 1.0
            nu = smoothing * unit
            share = weigh(weights, lengths, nu) if weigh else weights / np.maximum(nu, lengths)
            point = share @ rows / share.sum()
        return point

    return mutant


def centered_clipping_with(step):
    def mutant(updates, center, radius, num_iterations=1):
        point = np.asarray(center, np.float64)
        for _ in range(num_iterations):
            shifts = rows_of(updates) - point
            lengths = np.linalg.norm(shifts, axis=1, keepdims=True)
            point = point + step(shifts, np.minimum(1, radius / lengths), lengths, radius)
        return point

    return mutant


def to_length(rows, length):
    return rows * np.minimum(1, length / np.linalg.norm(rows, axis=1, keepdims=True))


def adaptive_clip_with(count, further=0):
    def mutant(updates, num_malicious):
        rows = rows_of(updates)
        lengths = np.sort(np.linalg.norm(rows, axis=1))[::-1]
        return to_length(rows, lengths[count(len(rows), num_malicious) + further])

    return mutant


def nnm_with(more=0, skip=0, combine=np.mean):
    def mutant(updates, num_malicious):
        rows = rows_of(updates)
        order = np.argsort(distances_of(rows), axis=1, kind="stable")
        count = len(rows) - num_malicious + more
        return np.stack([combine(rows[chosen[skip : skip + count]], axis=0) for chosen in order])

    return mutant


def in_order(updates, bucket_size):
    rows = rows_of(updates)
    return np.stack([rows[i : i + bucket_size].mean(0) for i in range(0, len(rows), bucket_size)])


def fltrust_with(**changed):
    return lambda updates, root, **options: reference.fltrust(updates, root, **{**options, **changed})


def fltrust_by_count(updates, root, clip_negative=True, normalize="full", include_root=False):
    """Divides by the number of rows, not by the sum of the scores."""
    cosines = reference.trust_scores(updates, root)
    return cosines @ rows_of(updates) / len(updates)


MUTANTS = {
    **mutants_similarity.MUTANTS,
    **mutants_spectral.MUTANTS,
    "mean": {
        "weights ignored": lambda updates, weights=None: rows_of(updates).mean(0),
        "weights not normalised": lambda updates, weights=None: (
            (np.ones(len(updates)) if weights is None else weights) @ rows_of(updates)
        ),
        "weights per coordinate median": lambda updates, weights=None: np.median(rows_of(updates), axis=0),
    },
    "median": {
        "lower of the middle two": lambda updates: np.sort(rows_of(updates), axis=0)[len(updates) // 2 - 1],
        "upper of the middle two": lambda updates: np.sort(rows_of(updates), axis=0)[len(updates) // 2],
        "middle four": lambda updates: trimmed(updates, len(updates) // 2 - 2, len(updates) // 2 - 2),
    },
    "trimmed_mean": {
        "only the largest": lambda updates, trim: trimmed(updates, 0, trim or 1),
        "only the smallest": lambda updates, trim: trimmed(updates, trim or 1, 0),
        "trim in all": lambda updates, trim: trimmed(updates, trim // 2, trim - trim // 2),
        "one more": lambda updates, trim: trimmed(updates, trim + 1, trim + 1),
        "divides by n": lambda updates, trim: trimmed(updates, trim, trim, len(updates)),
        "median": lambda updates, trim: np.median(rows_of(updates), axis=0),
    },
    "mean_around_median": {
        "around the mean": lambda updates, num_malicious: nearest_mean(
            rows_of(updates), rows_of(updates).mean(0), len(updates) - num_malicious
        ),
        "around the trimmed mean": lambda updates, num_malicious: reference.phocas(updates, num_malicious),
        "around the lower median": lambda updates, num_malicious: nearest_mean(
            rows_of(updates),
            np.sort(rows_of(updates), axis=0)[len(updates) // 2 - 1],
            len(updates) - num_malicious,
        ),
        "n - 2f values": lambda updates, num_malicious: reference.mean_around_median(
            updates, 2 * num_malicious
        ),
        "one value fewer": lambda updates, num_malicious: reference.mean_around_median(
            updates, num_malicious + 1
        ),
        "trimmed mean": lambda updates, num_malicious: trimmed(updates, num_malicious, num_malicious),
    },
    "phocas": {
        "around the median": lambda updates, trim: reference.mean_around_median(updates, trim),
        "around the mean": lambda updates, trim: nearest_mean(
            rows_of(updates), rows_of(updates).mean(0), len(updates) - trim
        ),
        "n - 2 trim values": lambda updates, trim: nearest_mean(
            rows_of(updates), trimmed(updates, trim, trim), len(updates) - 2 * trim
        ),
        "trimmed mean": lambda updates, trim: trimmed(updates, trim, trim),
    },
    "krum": {
        "one neighbour more": krum_with(1),
        "one neighbour fewer": krum_with(-1),
        "itself among the neighbours": krum_with(0, with_self=True),
        "distances where squares are asked": krum_with(0, power=1),
        "squared twice": krum_with(0, power=4),
        "ties of nearest pairs to the lowest row": lambda updates, num_malicious, **options: rows_of(updates)[
            np.argmin(reference.krum_scores(updates, num_malicious, **options))
        ],
        "largest score": lambda updates, **options: rows_of(updates)[
            np.argmax(reference.krum_scores(updates, **options))
        ],
        "row nearest the mean": lambda updates, **options: rows_of(updates)[
            np.argmin(np.linalg.norm(rows_of(updates) - rows_of(updates).mean(0), axis=1))
        ],
    },
    "multi_krum": {
        "n - f - 1 neighbours": multi_krum_with(more_neighbors=1),
        "itself among the neighbours": multi_krum_with(with_self=True),
        "two selected fewer": multi_krum_with(more_selected=-2),
        "one selected more": multi_krum_with(more_selected=1),
        "distances, not squares": multi_krum_with(power=1),
        "squares, not distances": multi_krum_with(power=2),
        "only the winner": multi_krum_with(only=1),
        "everybody": multi_krum_with(only=100),
    },
    "bulyan": {
        "no re-scoring": bulyan_with(rescore=False),
        "n - f - 2 neighbours throughout": bulyan_with(neighbors=lambda n, m, f: min(n - f - 2, m - 1)),
        "one neighbour more": bulyan_with(neighbors=lambda n, m, f: max(0, m - f - 1)),
        "no neighbour in the last pick": bulyan_with(neighbors=lambda n, m, f: max(0, m - f - 2)),
        "ties to the lowest row": bulyan_with(next_breaks_ties=False),
        "two picks fewer": bulyan_with(fewer_picks=2),
        "mean of the picks": bulyan_with(second=lambda chosen, f: chosen.mean(0)),
        "trimmed mean of the picks": bulyan_with(second=lambda chosen, f: trimmed(chosen, f, f)),
        "values around the mean": bulyan_with(
            second=lambda chosen, f: nearest_mean(chosen, chosen.mean(0), len(chosen) - 2 * f)
        ),
        "θ - f values": bulyan_with(
            second=lambda chosen, f: nearest_mean(chosen, np.median(chosen, axis=0), len(chosen) - f)
        ),
        "second stage on all rows": lambda updates, num_malicious: nearest_mean(
            rows_of(updates), np.median(updates, axis=0), len(updates) - 4 * num_malicious
        ),
    },
    "geometric_median": {
        "one step": weiszfeld(steps=1),
        "two steps": weiszfeld(steps=2),
        "from the other start": weiszfeld(begin="mean", steps=3),
        "weights ignored": weiszfeld(weigh=lambda w, r, v: 1 / np.maximum(v, r)),
        "squared distances": weiszfeld(weigh=lambda w, r, v: w / np.maximum(v, r) ** 2),
        "smoothing always absolute": weiszfeld(absolute=True),
        "smoothing added": weiszfeld(weigh=lambda w, r, v: w / (v + r)),
        "smoothing left out": weiszfeld(weigh=lambda w, r, v: w / np.maximum(r, 1e-9)),
        "per coordinate": lambda updates, *arrays, **options: np.median(rows_of(updates), axis=0),
    },
    "centered_clipping": {
        "divides by the sum of the factors": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (factors * shifts).sum(0) / factors.sum()
        ),
        "sum for the mean": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (factors * shifts).sum(0)
        ),
        "every shift to the radius": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (shifts / lengths * radius).mean(0)
        ),
        "clips coordinates": centered_clipping_with(
            lambda shifts, factors, lengths, radius: np.clip(shifts, -radius, radius).mean(0)
        ),
        "clips the mean": centered_clipping_with(
            lambda shifts, factors, lengths, radius: to_length(shifts.mean(0)[None], radius)[0]
        ),
        "around zero": lambda updates, center, radius, num_iterations=1: reference.centered_clipping(
            updates, np.zeros_like(center), radius, num_iterations
        ),
        "once": lambda updates, center, radius, num_iterations=1: reference.centered_clipping(
            updates, center, radius
        ),
        "once more": lambda updates, center, radius, num_iterations=1: reference.centered_clipping(
            updates, center, radius, num_iterations + 1
        ),
    },
    "fltrust": {
        "no ReLU": fltrust_with(clip_negative=False),
        "rows as they are": fltrust_with(normalize="none"),
        "only longer rows": fltrust_with(normalize="shrink"),
        "root row in the mean": fltrust_with(include_root=True),
        "root row not in the mean": fltrust_with(include_root=False),
        "divides by the count": fltrust_by_count,
    },
    "root_only": {
        "unit length": lambda updates, root: rows_of(root) / np.linalg.norm(root),
        "mean": lambda updates, root: rows_of(updates).mean(0),
    },
    "clip": {
        "every row to the radius": lambda updates, radius: (
            radius * rows_of(updates) / np.linalg.norm(updates, axis=1, keepdims=True)
        ),
        "clips coordinates": lambda updates, radius: np.clip(rows_of(updates), -radius, radius),
        "squared norm": lambda updates, radius: to_length(rows_of(updates), radius**2),
        "norm of the stack": lambda updates, radius: (
            rows_of(updates) * min(1, radius / np.linalg.norm(updates))
        ),
    },
    "adaptive_clip": {
        "2f rows": adaptive_clip_with(lambda n, f: 2 * f),
        "f rows": adaptive_clip_with(lambda n, f: f),
        "rounded": adaptive_clip_with(lambda n, f: round(2 * f / n * (n - f))),
        "rounded up": adaptive_clip_with(lambda n, f: -(-2 * f * (n - f) // n)),
        "to its own length": adaptive_clip_with(lambda n, f: 2 * f * (n - f) // n, further=-1),
        "no factor two": adaptive_clip_with(lambda n, f: f * (n - f) // n),
    },
    "nnm": {
        "without itself": nnm_with(skip=1),
        "itself and n - f others": nnm_with(more=1),
        "n - f others, one fewer": nnm_with(more=-1),
        "median of the neighbours": nnm_with(combine=np.median),
        "f neighbours": lambda updates, num_malicious: nnm_with()(updates, len(updates) - num_malicious),
    },
    "bucketing": {
        "no permutation": lambda updates, members, bucket_size: in_order(updates, bucket_size),
        "rows dealt out in turn": lambda updates, members, bucket_size: np.stack(
            [rows_of(updates)[b :: len(members)].mean(0) for b in range(len(members))]
        ),
        "last bucket over its full size": lambda updates, members, bucket_size: (
            members @ rows_of(updates) / bucket_size
        ),
        "sums": lambda updates, members, bucket_size: members @ rows_of(updates),
        "rows left over dropped": lambda updates, members, bucket_size: reference.bucketing(
            updates, members, bucket_size
        )[: len(updates) // bucket_size],
        "number of buckets for their size": lambda updates, members, bucket_size: in_order(
            updates, -(-len(updates) // bucket_size)
        ),
    },
}
