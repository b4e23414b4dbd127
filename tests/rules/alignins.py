"""AlignIns: rows, references and wrong versions."""

from itertools import product

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.flame import usable
from tests.rules.foolsgold import cosine
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, follows, wide


def mz_scores(values):
    values = np.asarray(values, np.float64)
    deviation = np.sqrt(np.mean(np.square(values - values.mean())))
    if deviation <= 1e-7 * np.abs(values).max(initial=0.0):
        return np.zeros(len(values))
    return np.abs(values - np.median(values)) / deviation


def principal(row, share):
    """The coordinates of largest magnitude, ties to the lowest."""
    count = max(1, int(share * len(row)))
    return sorted(range(len(row)), key=lambda k: (-abs(row[k]), k))[:count]


def alignments(rows, params, share):
    """TDA and MPSA of every row."""
    votes = np.sign(np.sign(rows).sum(0))
    directions = [cosine(row, np.asarray(params, np.float64)) for row in rows]
    signs = [np.mean([np.sign(row[k]) == votes[k] for k in principal(row, share)]) for row in rows]
    return np.array(directions), np.array(signs)


def combined(rows, norms, chosen, weights, middle=np.median):
    total = sum(weights[i] for i in chosen)
    if not len(chosen) or not total > 0:
        return np.zeros(rows.shape[1])
    radius = middle(norms[chosen])
    factors = [min(1.0, radius / norms[i]) if norms[i] > 0 else 1.0 for i in chosen]
    return sum(f * weights[i] * rows[i] for f, i in zip(factors, chosen, strict=True)) / total


def alignins(updates, params, weights=None, sparsity=0.3, sign_limit=1.0, direction_limit=1.0):
    everything = np.asarray(updates, np.float64)
    kept, norms = usable(everything)
    if not kept:
        return np.zeros(everything.shape[1])
    rows, norms = everything[kept], norms[kept]
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)[kept]
    directions, signs = map(mz_scores, alignments(rows, params, sparsity))
    chosen = np.flatnonzero((directions < direction_limit) & (signs < sign_limit))
    return combined(rows, norms, chosen, weights)


def averages_aligned_rows(case, updates, others, result):
    """For AlignIns: a score at its limit may be in or out."""
    rows = wide(updates)
    norms = np.linalg.norm(rows, axis=1)
    weights = wide(others["weights"]) if "weights" in case.arrays else np.ones(len(rows))
    limits = case.hyper.get("direction_limit", 1.0), case.hyper.get("sign_limit", 1.0)
    values = alignments(rows, others["params"], case.hyper.get("sparsity", 0.3))
    sure, maybe = np.ones(len(rows), bool), np.ones(len(rows), bool)
    for each, limit in zip(values, limits, strict=True):
        # What rounds to one value has no scores.
        spread = np.std(each)
        scores = np.abs(each - np.median(each)) / spread if spread > 0 else np.zeros(len(rows))
        slack = min(1e3, 2e-6 / spread) if spread > 0 else 0.0
        sure &= (scores < limit - ROUNDING - slack) | (spread == 0)
        maybe &= (scores < limit + ROUNDING + slack) | (spread < 1e-5)
    unsure = np.flatnonzero(maybe & ~sure)
    for taken in product((False, True), repeat=len(unsure)):
        chosen = np.sort(np.r_[np.flatnonzero(sure), unsure[np.array(taken, bool)]]).astype(int)
        expected = combined(rows, norms, chosen, weights)
        if follows(result, expected, np.abs(rows[chosen]).max(0) if len(chosen) else 0.0):
            return True
    return False


def alignins_with(scores=None, signs="majority", middle=np.median, clipped=True, anchor=None, ignored=()):
    def mutant(updates, params, weights=None, sparsity=0.3, sign_limit=1.0, direction_limit=1.0):
        rows = wide(updates)
        norms = np.linalg.norm(rows, axis=1)
        weights = np.ones(len(rows)) if weights is None else wide(weights)
        share = 1.0 if "sparsity" in ignored else sparsity
        directions, aligned = alignments(rows, params if anchor is None else anchor(rows), share)
        if signs == "mean":
            votes = np.sign(rows.mean(0))
            aligned = [np.mean([np.sign(row[k]) == votes[k] for k in principal(row, share)]) for row in rows]
        score = scores or mz_scores
        kept = np.ones(len(rows), bool)
        if "directions" not in ignored:
            kept &= score(directions) < direction_limit
        if "signs" not in ignored:
            kept &= score(np.array(aligned)) < sign_limit
        chosen = np.flatnonzero(kept)
        lengths = norms if clipped else np.full(len(rows), 1e-30)
        return combined(
            rows, lengths, chosen, np.ones(len(rows)) if "weights" in ignored else weights, middle
        )

    return mutant


def z_scores(values):
    return np.abs(values - values.mean()) / values.std()


def of_median_deviation(values):
    away = np.abs(values - np.median(values))
    return away / (np.median(away) or 1.0)


def of_sample_deviation(values):
    return np.abs(values - np.median(values)) / values.std(ddof=1)


CASES = [
    RuleCase(
        "alignins",
        alignins,
        {},
        arrays=("params",),
        tolerated=5,
        hostile=no_longer_than_honest,
        translation=False,
        duplicates=True,
        accepts=averages_aligned_rows,
    ),
    RuleCase(
        "alignins",
        alignins,
        {"sparsity": 0.6, "sign_limit": 1.7, "direction_limit": 1.3},
        ("sign_limit", "direction_limit"),
        arrays=("params", "weights"),
        translation=False,
        accepts=averages_aligned_rows,
    ),
]


MUTANTS = {
    "alignins": {
        "scores from the mean": alignins_with(z_scores),
        "scores in median deviations": alignins_with(of_median_deviation),
        "scores in sample deviations": alignins_with(of_sample_deviation),
        "signs of the mean": alignins_with(signs="mean"),
        "all coordinates": alignins_with(ignored=("sparsity",)),
        "directions not looked at": alignins_with(ignored=("directions",)),
        "signs not looked at": alignins_with(ignored=("signs",)),
        "not clipped": alignins_with(clipped=False),
        "clipped to the mean norm": alignins_with(middle=np.mean),
        "lower median": alignins_with(middle=lambda norms: np.sort(norms)[(len(norms) - 1) // 2]),
        "direction of the median row": alignins_with(anchor=lambda rows: np.median(rows, axis=0)),
        "weights ignored": alignins_with(ignored=("weights",)),
    },
}
