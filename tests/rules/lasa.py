"""LASA: rows, reference and wrong versions."""

import math
from itertools import pairwise

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, follows, wide


def mz_scores(values):
    spread = np.std(values)
    alike = spread <= 1e-12 * np.abs(values).max()
    return np.zeros(len(values)) if alike else np.abs(values - np.median(values)) / spread


def lasa(
    updates,
    layers,
    sparsity=0.3,
    norm_limit=1.0,
    sign_limit=1.0,
    average="sparse",
    strictly=True,
    clips=True,
    vectors=False,
    together=False,
    squared=False,
    counts="both",
):
    everything = wide(updates)
    rows = everything[finite_rows(everything)]
    if len(rows) == 0:
        return np.zeros(everything.shape[1])
    norms = np.linalg.norm(rows, axis=1)
    middle = np.median(norms)
    clipped = np.array(
        [
            row * min(1.0, middle / norm) if norm > 0 and clips else row
            for row, norm in zip(rows, norms, strict=True)
        ]
    )
    sparse = clipped.copy()
    starts = np.cumsum([0, *(math.prod(shape) for shape in layers.shapes)])
    matrix = np.zeros(rows.shape[1], bool)
    for (start, end), shape in zip(pairwise(starts), layers.shapes, strict=True):
        matrix[start:end] = len(shape) > 1 or vectors
    count = math.floor(matrix.sum() * (1 - sparsity) + 1e-9)
    for row in sparse:
        sizes = np.abs(row[matrix])
        limit = np.sort(sizes)[::-1][count - 1] if count else np.inf
        row[matrix] = np.where(sizes > limit if strictly else sizes >= limit, row[matrix], 0.0)
    result = np.zeros(rows.shape[1])
    parts = [slice(0, rows.shape[1])] if together else [slice(*ends) for ends in pairwise(starts)]
    for part in parts:
        lengths = np.linalg.norm(sparse[:, part], axis=1) ** (2 if squared else 1)
        more, fewer = (sparse[:, part] > 0).sum(1), (sparse[:, part] < 0).sum(1)
        balance = (more - fewer) / np.maximum(more + fewer, 1)
        kept = np.ones(len(rows), bool)
        if counts in ("both", "norms"):
            kept &= mz_scores(lengths) < norm_limit
        if counts in ("both", "signs"):
            kept &= mz_scores(balance) < sign_limit
        if not kept.any():
            kept[:] = True
        result[part] = (sparse if average == "sparse" else clipped)[kept, part].mean(0)
    return result


def averages_usual_rows(case, updates, others, result):
    """Tensor by tensor the mean of some rows, clipped, and sparse or not: rounding may move a limit."""
    rows, expected = wide(updates), case.expected(updates, others)
    if follows(result, expected, np.abs(rows).max()):
        return True
    norms = np.linalg.norm(rows, axis=1)
    lengths = np.minimum(norms, np.median(norms))
    largest = np.abs(rows * (lengths / np.where(norms > 0, norms, 1.0))[:, None]).max(0)
    return bool((np.abs(result) <= largest * (1 + 64 * ROUNDING) + 1e-30).all())


def lasa_with(**changed):
    return lambda updates, layers, **options: lasa(updates, layers, **{**options, **changed})


CASES = [
    *(
        RuleCase(
            "lasa",
            lasa,
            hyper,
            ("norm_limit", "sign_limit") if "norm_limit" in hyper else (),
            arrays=("layers",),
            tolerated=5,
            hostile=no_longer_than_honest,
            translation=False,
            identical=False,
            accepts=averages_usual_rows,
        )
        for hyper in ({}, {"average": "dense", "sparsity": 0.6, "norm_limit": 1.5, "sign_limit": 1.2})
    ),
]


MUTANTS = {
    "lasa": {
        "dense": lasa_with(average="dense"),
        "sparse": lasa_with(average="sparse"),
        "keeps the m-th": lasa_with(strictly=False),
        "keeps the share s": lambda updates, layers, sparsity=0.3, **options: lasa(
            updates, layers, 1 - sparsity, **options
        ),
        "not clipped": lasa_with(clips=False),
        "sparsifies vectors": lasa_with(vectors=True),
        "one tensor": lasa_with(together=True),
        "squared norms": lasa_with(squared=True),
        "norms alone": lasa_with(counts="norms"),
        "signs alone": lasa_with(counts="signs"),
    },
}
