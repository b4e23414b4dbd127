"""FedSECA: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.robust_learning_rate import TINY
from tests.rules.rounding import ROUNDING, follows, wide


def parts_of(rows, sparsity, clipping=True, clamping=True, concordant=True):
    """The entries that may count, and the elected signs."""
    signs = np.where(np.abs(rows) < TINY, 0.0, np.sign(rows))
    n = len(rows)
    omega = [
        [sum(a * b for a, b in zip(signs[k], signs[m], strict=True)) for m in range(n)] for k in range(n)
    ]
    ratios = np.maximum(np.sign(omega).sum(1), 0.0) if concordant else np.ones(n)
    elected = np.sign(ratios @ signs)
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    clipped = rows.copy()
    if clipping:
        clipped = np.array(
            [row * min(1.0, middle / max(norm, TINY)) for row, norm in zip(rows, norms, strict=True)]
        )
    limits = np.median(np.abs(clipped), axis=0) if clamping else np.inf
    clamped = np.clip(clipped, -limits, limits)
    thresholds = np.quantile(np.abs(rows), sparsity, axis=1, keepdims=True)
    # Between equal values there is nothing, also where interpolation rounds.
    inside = np.abs(rows) > thresholds * (1 + 1e-12)
    return np.where(inside, clamped, 0.0), elected


def elected_mean(entries, elected, all_entries=False):
    result = np.zeros(entries.shape[1])
    for j, sign in enumerate(elected):
        kept = [x for x in entries[:, j] if sign == 0 or all_entries or sign * x > 0]
        result[j] = sum(kept) / len(kept) if kept else 0.0
    return result


def fedseca(updates, sparsity=0.9):
    rows = np.asarray(updates, np.float64)
    return elected_mean(*parts_of(rows[finite_rows(rows)], sparsity))


def averages_entries_of_a_sign(case, updates, others, result):
    """The reference's; an entry that clipping makes vanish may or may not count."""
    rows = wide(updates)
    entries, elected = parts_of(rows, case.hyper["sparsity"])
    expected = elected_mean(entries, elected)
    vanishing = (np.abs(entries) < 1e-30) & (entries != 0)
    without = elected_mean(np.where(vanishing, 0.0, entries), elected)
    # The median norm is known to its rounding.
    scale = np.abs(entries).max(0) + ROUNDING * np.median(np.linalg.norm(rows, axis=1))
    return all(
        follows(result[j : j + 1], expected[j : j + 1], scale[j])
        or follows(result[j : j + 1], without[j : j + 1], scale[j])
        for j in range(len(expected))
    )


def seca_with(change=lambda entries, elected: (entries, elected), all_entries=False, more=0.0, **options):
    def mutant(updates, sparsity=0.9):
        entries, elected = parts_of(wide(updates), max(0.0, sparsity + more), **options)
        return elected_mean(*change(entries, elected), all_entries=all_entries)

    return mutant


def divided_by_all_rows(updates, sparsity=0.9):
    entries, elected = parts_of(wide(updates), sparsity)
    return np.where(elected * entries > 0, entries, 0.0).sum(0) / len(entries)


CASES = [
    RuleCase(
        "fedseca",
        fedseca,
        {"sparsity": 0.4},
        tolerated=3,
        hostile=near(4.0),
        translation=False,
        identical=False,
        accepts=averages_entries_of_a_sign,
    ),
]


MUTANTS = {
    "fedseca": {
        "not clipped": seca_with(clipping=False),
        "not clamped": seca_with(clamping=False),
        "not sparse": seca_with(more=-1.0),
        "sparser": seca_with(more=0.05),
        "every client elects": seca_with(concordant=False),
        "all entries": seca_with(all_entries=True),
        "divided by all rows": divided_by_all_rows,
    },
}
