"""The mean around the median, and Phocas: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, around_hull
from tests.rules.median import median
from tests.rules.rounding import ROUNDING, means_of_smallest, some_follow, wide
from tests.rules.trimmed_mean import of_kept_values, trimmed, trimmed_mean


def nearest_values_mean(values, target, count):
    """Mean of the `count` values nearest to `target`; of two as near the smaller one first."""
    return sum(sorted(values, key=lambda value: (abs(value - target), value))[:count]) / count


def mean_around_median(updates, num_malicious):
    """Xie et al. 2018: per coordinate the mean of the n − f values nearest the median."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious
    return np.array([nearest_values_mean(c, m, count) for c, m in zip(rows.T, median(rows), strict=True)])


def phocas(updates, trim):
    """Xie et al. 2018: per coordinate the mean of the n − trim values nearest the trimmed mean."""
    rows = np.asarray(updates, np.float64)
    count, targets = len(rows) - trim, trimmed_mean(rows, trim)
    return np.array([nearest_values_mean(c, t, count) for c, t in zip(rows.T, targets, strict=True)])


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
    middle = median(rows)
    count = len(rows) - case.hyper["num_malicious"]
    return averages_values_near(rows, middle, ROUNDING * np.abs(middle), count, result)


def averages_values_near_trimmed_mean(case, updates, others, result):
    rows, trim = wide(updates), case.hyper["trim"]
    off = ROUNDING * of_kept_values(case, rows, others, None)
    return averages_values_near(rows, trimmed_mean(rows, trim), off, len(rows) - trim, result)


def nearest_mean(values, target, count):
    order = np.argsort(np.abs(values - target), axis=0, kind="stable")[:count]
    return np.take_along_axis(values, order, axis=0).mean(0)


CASES = [
    # The n − f honest values are all as near to the target as the honest range is wide, so nothing farther
    # is averaged.
    *(
        RuleCase(
            "mean_around_median",
            mean_around_median,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=averages_values_near_median,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "phocas",
            phocas,
            {"trim": f},
            ("trim",),
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=averages_values_near_trimmed_mean,
        )
        for f in (3, 4)
    ),
]


MUTANTS = {
    "mean_around_median": {
        "around the mean": lambda updates, num_malicious: nearest_mean(
            wide(updates), wide(updates).mean(0), len(updates) - num_malicious
        ),
        "around the trimmed mean": lambda updates, num_malicious: phocas(updates, num_malicious),
        "around the lower median": lambda updates, num_malicious: nearest_mean(
            wide(updates),
            np.sort(wide(updates), axis=0)[len(updates) // 2 - 1],
            len(updates) - num_malicious,
        ),
        "n - 2f values": lambda updates, num_malicious: mean_around_median(updates, 2 * num_malicious),
        "one value fewer": lambda updates, num_malicious: mean_around_median(updates, num_malicious + 1),
        "trimmed mean": lambda updates, num_malicious: trimmed(updates, num_malicious, num_malicious),
    },
    "phocas": {
        "around the median": lambda updates, trim: mean_around_median(updates, trim),
        "around the mean": lambda updates, trim: nearest_mean(
            wide(updates), wide(updates).mean(0), len(updates) - trim
        ),
        "n - 2 trim values": lambda updates, trim: nearest_mean(
            wide(updates), trimmed(updates, trim, trim), len(updates) - 2 * trim
        ),
        "trimmed mean": lambda updates, trim: trimmed(updates, trim, trim),
    },
}
