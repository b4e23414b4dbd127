"""Plausible wrong versions of the rules by signs, norms, similarity and a trusted pivot; see mutants.py."""

import numpy as np

from tests.rules import reference_similarity as reference


def rows_of(updates):
    return np.asarray(updates, np.float64)


def norm_filter_with(more=0, order=2, longest=False, total=False):
    def mutant(updates, num_malicious):
        rows = rows_of(updates)
        norms = np.linalg.norm(rows, ord=order, axis=1) * (-1 if longest else 1)
        kept = rows[np.argsort(norms, kind="stable")[: len(rows) - num_malicious + more]]
        return kept.sum(0) if total else kept.mean(0)

    return mutant


def nearest_with(more=0, order=2, skip=0, only=None):
    def mutant(updates, num_malicious, pivot=0):
        rows = rows_of(updates)
        pivot = pivot if only is None else only
        distances = np.linalg.norm(rows - rows[pivot], ord=order, axis=1)
        count = len(rows) - num_malicious + more
        return rows[np.argsort(distances, kind="stable")[skip : skip + count]].mean(0)

    return mutant


def foolsgold_with(
    pardon=True, rescale=True, shift=0.5, logit=True, maximum=np.max, centred=False, from_updates=False
):
    def mutant(updates, history, confidence=1.0, normalize="clients"):
        rows = rows_of(updates)
        sums = rows if from_updates else rows_of(history)
        if centred:
            sums = sums - sums.mean(0)
        unit = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        similar = unit @ unit.T - np.eye(len(rows))
        highest = maximum(similar, axis=1)
        if pardon:
            similar = similar * np.minimum(1, np.abs(highest[:, None] / highest[None]))
        rates = np.clip(1 - maximum(similar, axis=1), 0, 1)
        if rescale:
            rates = rates / rates.max()
        rates = np.where(rates == 1, 0.99, rates)
        weights = np.clip(confidence * (np.log(rates / (1 - rates)) + shift), 0, 1) if logit else rates
        total = weights @ rows
        return total / {"clients": len(rows), "weights": weights.sum() or 1.0, "none": 1.0}[normalize]

    return mutant


def foolsgold_options(**changed):
    return lambda updates, history, **options: reference.foolsgold_mean(
        updates, history, **{**options, **changed}
    )


def sign_guard_options(**changed):
    return lambda updates, *drawn, **options: reference.sign_guard(updates, *drawn, **{**options, **changed})


def sign_guard_unclipped(updates, start, drawn, **options):
    """Neither clips to the median norm."""
    rows = rows_of(updates)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    size = max(1, int(options.get("coordinate_fraction", 0.1) * rows.shape[1]))
    features = reference.sign_features(rows, start, size, options.get("similarity", "none"))
    labels = np.array(reference.mean_shift(features, reference.bandwidth_of(features[drawn], 0.5)))
    inside = labels == np.argmax(np.bincount(labels[labels >= 0]))
    lower, upper = options.get("lower", 0.1), options.get("upper", 3.0)
    inside &= (norms > lower * middle) & (norms < upper * middle)
    return rows[inside].mean(0) if inside.any() else np.zeros(rows.shape[1])


def sign_guard_norms_only(updates, start, drawn, lower=0.1, upper=3.0, **options):
    rows = rows_of(updates)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    chosen = np.flatnonzero((norms > lower * middle) & (norms < upper * middle))
    return reference.clipped_mean(rows, chosen, middle)


MUTANTS = {
    "norm_filter": {
        "sum": norm_filter_with(total=True),
        "one row more": norm_filter_with(more=1),
        "one row fewer": norm_filter_with(more=-1),
        "longest rows": norm_filter_with(longest=True),
        "sum of absolute values": norm_filter_with(order=1),
        "largest entry": norm_filter_with(order=np.inf),
    },
    "nearest_to_pivot": {
        "without the pivot": nearest_with(skip=1),
        "one row more": nearest_with(more=1),
        "one row fewer": nearest_with(more=-1),
        "sum of absolute differences": nearest_with(order=1),
        "always the first row": nearest_with(only=0),
        "always the last row": nearest_with(only=-1),
    },
    "sign_majority": {
        "sign of the mean": lambda updates: np.sign(rows_of(updates).mean(0)),
        "mean of the signs": lambda updates: np.sign(rows_of(updates)).mean(0),
        "ties up": lambda updates: np.where(np.sign(rows_of(updates)).sum(0) >= 0, 1.0, -1.0),
    },
    "foolsgold": {
        "no pardoning": foolsgold_with(pardon=False),
        "not rescaled": foolsgold_with(rescale=False),
        "logit not shifted": foolsgold_with(shift=0.0),
        "no logit": foolsgold_with(logit=False),
        "mean similarity": foolsgold_with(maximum=np.mean),
        "centred": foolsgold_with(centred=True),
        "this round's updates for the history": foolsgold_with(from_updates=True),
        "sum": foolsgold_options(normalize="none"),
        "weighted mean": foolsgold_options(normalize="weights"),
        "divides by n": foolsgold_options(normalize="clients"),
        "confidence ignored": foolsgold_options(confidence=1.0),
    },
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
