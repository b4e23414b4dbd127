"""SignGuard: rows, references and wrong versions."""

from itertools import product

import jax
import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, follows, wide

# A distance that exceeds the bandwidth by less counts as equal.
SLACK = 1e-5


def bandwidth_of(points, quantile):
    neighbors = min(len(points), max(2, int(len(points) * quantile)))
    reach = [sorted(np.linalg.norm(points - point, axis=1))[neighbors - 1] for point in points]
    return max((1 + SLACK) * float(np.mean(reach)), SLACK * np.abs(points).max())


def mean_shift(points, bandwidth):
    """Labels (−1 for an orphan) in the order of decreasing density, with a flat kernel and binned seeds."""
    seeds = {tuple(np.round(point / bandwidth)) for point in points} if bandwidth > 0 else points
    if len(seeds) == len(points):
        seeds = [tuple(point) for point in points]
    else:
        seeds = [tuple(bandwidth * np.array(seed)) for seed in seeds]
    centers = []
    for seed in seeds:
        center = np.array(seed)
        for _ in range(301):
            inside = [point for point in points if np.linalg.norm(point - center) <= bandwidth]
            if not inside:
                break
            previous, center = center, np.mean(inside, axis=0)
            if np.linalg.norm(center - previous) <= 1e-3 * bandwidth:
                break
        if inside:
            centers.append((len(inside), tuple(center)))
    kept = []
    for _, center in sorted(centers, reverse=True):
        if all(np.linalg.norm(np.subtract(center, other)) > bandwidth for other in kept):
            kept.append(center)
    labels = []
    for point in points:
        distances = np.array([np.linalg.norm(point - center) for center in kept])
        nearest = int(np.argmax(distances <= (1 + SLACK) * distances.min()))
        labels.append(nearest if distances[nearest] <= bandwidth else -1)
    return labels


def sign_features(rows, start, size, similarity="none"):
    shares = np.array(
        [
            [sum(1 for x in row[start : start + size] if np.sign(x) == s) / size for s in (1, 0, -1)]
            for row in rows
        ]
    )
    features = shares / (shares.max(0) + 1e-8)
    if similarity == "cosine":
        everyone = range(len(rows))
        cosines = np.array(
            [[cosine(rows[i], rows[j]) if i != j else 0.0 for j in everyone] for i in everyone]
        )
        typical = np.median(cosines, axis=1)
        middle = np.median(typical)
        extra = np.clip(typical, 0, middle) / (5 * middle + 1e-8) if middle > 0 else np.zeros(len(rows))
    elif similarity == "distance":
        spread = np.array([sum(sorted(np.linalg.norm(rows - row, axis=1))[: len(rows) // 2]) for row in rows])
        extra = np.where(spread >= 1.1 * np.median(spread), 0.2, 0.0)
    else:
        return features
    return np.column_stack([features, extra])


def clipped_mean(rows, chosen, length):
    """The mean of the chosen rows, each shortened to `length`; 0 if there is none."""
    total = np.zeros(rows.shape[1])
    for i in chosen:
        norm = np.linalg.norm(rows[i])
        total += rows[i] * (min(1.0, length / norm) if norm > 0 else 1.0)
    return total / max(1, len(chosen))


def sign_guard(
    updates,
    start,
    drawn=slice(None),
    lower=0.1,
    upper=3.0,
    coordinate_fraction=0.1,
    quantile=0.5,
    similarity="none",
):
    """`start` is the first column of the window, `drawn` the rows that the bandwidth is estimated on."""
    everything = np.asarray(updates, np.float64)
    rows = everything[finite_rows(everything)]
    if len(rows) == 0:
        return np.zeros(everything.shape[1])
    size = max(1, int(coordinate_fraction * everything.shape[1]))
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    features = sign_features(rows, start, size, similarity)
    labels = mean_shift(features, bandwidth_of(features[drawn], quantile))
    sizes = [labels.count(k) for k in range(max(labels) + 1)]
    largest = sizes.index(max(sizes))
    chosen = [
        i for i in range(len(rows)) if lower * middle < norms[i] < upper * middle and labels[i] == largest
    ]
    return clipped_mean(rows, chosen, middle)


def averages_a_largest_cluster(case, updates, others, result):
    """For SignGuard: a norm at the threshold may be in or out, and equally large clusters may win."""
    rows = wide(updates)
    start, size = drawn(updates, others["key"], **case.hyper)[0], window_size(updates, **case.hyper)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    features = sign_features(rows, start, size, case.hyper.get("similarity", "none"))
    labels = np.array(mean_shift(features, bandwidth_of(features, 0.5)))
    sizes = [np.sum(labels == k) for k in range(labels.max() + 1)]
    lower, upper = case.hyper.get("lower", 0.1), case.hyper.get("upper", 3.0)
    surely = (norms > lower * middle * (1 + ROUNDING)) & (norms < upper * middle * (1 - ROUNDING))
    maybe = (norms > lower * middle * (1 - ROUNDING)) & (norms < upper * middle * (1 + ROUNDING))
    for largest in np.flatnonzero(np.array(sizes) == max(sizes)):
        sure = np.flatnonzero(surely & (labels == largest))
        unsure = np.flatnonzero(maybe & ~surely & (labels == largest))
        for taken in product((False, True), repeat=len(unsure)):
            chosen = np.r_[sure, unsure[np.array(taken, bool)]].astype(int)
            expected = clipped_mean(rows, chosen, middle)
            scale = np.abs(rows[chosen]).max(0) if len(chosen) else 0.0
            if follows(result, expected, scale):
                return True
    return False


def window_size(updates, coordinate_fraction=0.1, **others):
    return max(1, int(coordinate_fraction * np.shape(updates)[1]))


def drawn(updates, key, **hyper):
    """The first column of the window, and the rows that the bandwidth is estimated on."""
    n, d = np.shape(updates)
    columns, rows = jax.random.split(key)
    start = jax.random.randint(columns, (), 0, d - window_size(updates, **hyper) + 1, np.int32)
    if n <= 50:
        return int(start), slice(None)
    return int(start), np.argsort(jax.random.uniform(rows, (n,), np.float32), stable=True)[:50]


def honest_length_and_place(seen):
    """For SignGuard: no longer than the longest honest row; near the honest rows unless hostile ones pass."""
    mean = seen.honest.mean(0)
    radius = np.linalg.norm(seen.honest - mean, axis=1).max()
    return no_longer_than_honest(seen) and np.linalg.norm(seen.result - mean) <= 2.0 * radius


def sign_guard_options(**changed):
    return lambda updates, *drawn, **options: sign_guard(updates, *drawn, **{**options, **changed})


def sign_guard_unclipped(updates, start, drawn, **options):
    """Neither clips to the median norm."""
    rows = wide(updates)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    size = max(1, int(options.get("coordinate_fraction", 0.1) * rows.shape[1]))
    features = sign_features(rows, start, size, options.get("similarity", "none"))
    labels = np.array(mean_shift(features, bandwidth_of(features[drawn], 0.5)))
    inside = labels == np.argmax(np.bincount(labels[labels >= 0]))
    lower, upper = options.get("lower", 0.1), options.get("upper", 3.0)
    inside &= (norms > lower * middle) & (norms < upper * middle)
    return rows[inside].mean(0) if inside.any() else np.zeros(rows.shape[1])


def sign_guard_norms_only(updates, start, drawn, lower=0.1, upper=3.0, **options):
    rows = wide(updates)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    chosen = np.flatnonzero((norms > lower * middle) & (norms < upper * middle))
    return clipped_mean(rows, chosen, middle)


CASES = [
    *(
        RuleCase(
            "sign_guard",
            sign_guard,
            hyper,
            ("lower", "upper") if "lower" in hyper else (),
            arrays=("key",),
            draws=drawn,
            tolerated=5,
            # Of 3 columns the signs say little.
            hostile=honest_length_and_place if hyper else no_longer_than_honest,
            translation=False,
            duplicates=True,
            accepts=averages_a_largest_cluster,
        )
        for hyper in (
            {},
            {"coordinate_fraction": 0.5, "lower": 0.4, "upper": 1.5},
            {"coordinate_fraction": 1.0, "similarity": "cosine"},
            {"coordinate_fraction": 1.0, "similarity": "distance"},
        )
    ),
]


MUTANTS = {
    "sign_guard": {
        "all columns": sign_guard_options(coordinate_fraction=1.0),
        "no similarity": sign_guard_options(similarity="none"),
        "cosine": sign_guard_options(similarity="cosine"),
        "distance": sign_guard_options(similarity="distance"),
        "nearer neighbours": sign_guard_options(quantile=0.3),
        "no lower bound": sign_guard_options(lower=0.0),
        "no upper bound": sign_guard_options(upper=np.inf),
        "not clipped": sign_guard_unclipped,
        "no clusters": sign_guard_norms_only,
    },
}
