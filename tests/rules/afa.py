"""Adaptive federated averaging: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.rounding import follows, wide


def good_rows(rows, shares, width=2.0, growth=0.5, ddof=0, one_sided=False, center=np.median):
    good = [i for i in finite_rows(rows) if shares[i] > 0]
    while good:
        mean = sum(shares[i] * rows[i] for i in good)
        scores = {i: cosine(rows[i], mean) for i in good}
        values = np.array(list(scores.values()))
        middle, spread = center(values), values.std(ddof=ddof) if len(values) > ddof else 0.0
        if values.mean() < middle or one_sided:
            bad = [i for i in good if scores[i] < middle - width * spread]
        else:
            bad = [i for i in good if scores[i] > middle + width * spread]
        if not bad:
            break
        good = [i for i in good if i not in bad]
        width += growth
    return good


def afa(updates, weights=None, width=2.0, growth=0.5, trust=None, **changed):
    rows = np.asarray(updates, np.float64)
    shares = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    shares = shares if trust is None else shares * trust
    good = good_rows(rows, shares, width, growth, **changed)
    total = sum(shares[i] for i in good)
    return sum((shares[i] * rows[i] for i in good), np.zeros(rows.shape[1])) / (total or 1.0)


def bounds_no_length(seen):
    """The weighted mean of finite rows, each of which may be long."""
    rows = np.asarray(seen.updates, np.float64)
    rows = rows[np.isfinite(rows).all(1)]
    slack = 1e-5 * np.abs(rows).max(0)
    return bool(((rows.min(0) - slack <= seen.result) & (seen.result <= rows.max(0) + slack)).all())


def within_rounding_of_a_search(case, updates, others, result):
    """The reference's, or that of limits a little narrower or wider, at every step."""
    rows = wide(updates)
    weights = [others["weights"]] if "weights" in case.arrays else []
    scale = np.abs(rows).max(0)
    low, high = rows.min(0) - 1e-5 * scale, rows.max(0) + 1e-5 * scale
    near_ties = [
        afa(rows, *weights, **{**case.hyper, "width": case.hyper.get("width", 2.0) * (1 + off)})
        for off in (0.0, 1e-3, -1e-3)
    ]
    if any(follows(result, candidate, scale) for candidate in near_ties):
        return True
    # Where cosines tie, σ is their rounding: any rows may leave.
    spreads = [cosine(row, rows.mean(0)) for row in rows]
    tied = min((abs(a - b) for k, a in enumerate(spreads) for b in spreads[:k]), default=0) < 1e-5
    return bool(tied and ((low <= result) & (result <= high)).all())


def afa_options(**changed):
    return lambda updates, *arrays, **options: afa(updates, *arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "afa",
        afa,
        {"width": 1.0, "growth": 0.5},
        ("width", "growth"),
        tolerated=3,
        hostile=bounds_no_length,
        translation=False,
        accepts=within_rounding_of_a_search,
    ),
    RuleCase(
        "afa",
        afa,
        {"width": 0.5, "growth": 0.25},
        ("width", "growth"),
        arrays=("weights",),
        translation=False,
        accepts=within_rounding_of_a_search,
    ),
]


MUTANTS = {
    "afa": {
        "weighted mean": afa_options(width=1e9),
        "one step": afa_options(growth=1e9),
        "limits do not grow": afa_options(growth=0.0),
        "only low cosines leave": afa_options(one_sided=True),
        "around the mean": afa_options(center=np.mean),
        "the sample's deviation": afa_options(ddof=1),
        "weights ignored": lambda updates, *arrays, **options: afa(updates, **options),
    },
}
