"""FoolsGold: rows, references and wrong versions."""

from itertools import product

import numpy as np

from tests.rules.case import N, RuleCase
from tests.rules.rounding import ROUNDING, equals_reference, follows, wide


def finite_rows(updates):
    return [i for i, row in enumerate(np.asarray(updates, np.float64)) if np.isfinite(row).all()]


def cosine(a, b):
    lengths = [np.sqrt(np.dot(row, row)) for row in (a, b)]
    if 0 in lengths:
        return 0.0
    return float(np.dot(a / lengths[0], b / lengths[1]))


def foolsgold(history, confidence=1.0, present=None):
    """Weights; rows not in `present`, and non-finite ones, get 0 and do not set the scale."""
    rows = np.asarray(history, np.float64)
    n = len(rows)
    finite = finite_rows(rows)
    present = [i for i in finite if present is None or i in present]
    similar = np.zeros((n, n))
    for i, j in product(finite, finite):
        if i != j:
            similar[i, j] = cosine(rows[i], rows[j])
    # The largest over all j, itself among them with 0.
    highest = [max(similar[i]) for i in range(n)]
    rates = {}
    for i in present:
        pardoned = [
            similar[i, j] * (highest[i] / highest[j] if highest[i] < highest[j] else 1.0) for j in range(n)
        ]
        rates[i] = min(1.0, 1.0 - max(pardoned))
        if rates[i] < 1e-12:
            rates[i] = 0.0
    weights = np.zeros(n)
    largest = max(rates.values(), default=0.0)
    for i, rate in rates.items():
        share = rate / largest if largest > 0 else 0.0
        if share == 1:
            weights[i] = 1.0
        elif share > 0:
            weights[i] = min(1.0, max(0.0, confidence * (np.log(share / (1 - share)) + 0.5)))
    return weights


def foolsgold_mean(updates, history, confidence=1.0, normalize="clients"):
    rows = np.asarray(updates, np.float64)
    finite = finite_rows(rows)
    weights = foolsgold(history, confidence, present=finite)
    total = sum((weights[i] * rows[i] for i in finite), np.zeros(rows.shape[1]))
    divisor = {"clients": len(rows), "weights": weights.sum() or 1.0, "none": 1.0}[normalize]
    return total / divisor


def foolsgold_rounds(rounds, num_clients, **options):
    """`(cohort, updates)` of every round to the list of results and the history at the end."""
    history = np.zeros((num_clients, len(rounds[0][1][0])))
    results = []
    for cohort, updates in rounds:
        for i in finite_rows(updates):
            history[cohort[i]] += np.asarray(updates[i], np.float64)
        results.append(foolsgold_mean(updates, history[list(cohort)], **options))
    return results, history


def of_weights(case, rows, others, expected):
    """For FoolsGold: 1 − cos of nearly parallel histories has lost digits."""
    return 100 * np.abs(rows).max(0)


def weighs_finite_rows(seen):
    """For FoolsGold, which bounds no row: non-finite rows are absent, finite ones have their weight."""
    rows = np.asarray(seen.updates, np.float64)
    expected = foolsgold_mean(rows, seen.others["history"])
    scale = np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(0)
    # What a cosine is rounded by is a larger share of how far it is from 1, which the weights are made of.
    history = np.asarray(seen.others["history"], np.float64)
    unit = history / np.linalg.norm(history, axis=1, keepdims=True)
    apart = 1 - np.max(unit @ unit.T, where=~np.eye(len(unit), dtype=bool), initial=-1.0)
    return follows(seen.result, expected, scale * (1 + 16 * np.finfo(np.float32).eps / (apart * ROUNDING)))


def foolsgold_with(
    pardon=True, rescale=True, shift=0.5, logit=True, maximum=np.max, centred=False, from_updates=False
):
    def mutant(updates, history, confidence=1.0, normalize="clients"):
        rows = wide(updates)
        sums = rows if from_updates else wide(history)
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
    return lambda updates, history, **options: foolsgold_mean(updates, history, **{**options, **changed})


CASES = [
    *(
        RuleCase(
            "foolsgold",
            foolsgold_mean,
            hyper,
            ("confidence",) if "confidence" in hyper else (),
            arrays=("history",),
            # Cosines near 1 lose digits in 1 − cos, all of them among many rows in few dimensions.
            rtol=(1e-4, 1e-12),
            largest=N,
            tolerated=0 if hyper else 3,
            hostile=weighs_finite_rows,
            translation=False,
            identical=False,
            accepts=equals_reference(of_weights),
        )
        for hyper in ({}, {"normalize": "weights", "confidence": 0.3}, {"normalize": "none"})
    ),
]


MUTANTS = {
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
}
