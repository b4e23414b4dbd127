"""FLTrust: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, norm
from tests.rules.rounding import equals_reference, wide


def trust_scores(updates, root_update):
    root = np.asarray(root_update, np.float64)
    scores = []
    for row in np.asarray(updates, np.float64):
        lengths = np.linalg.norm(row) * np.linalg.norm(root)
        scores.append(max(0.0, row @ root / lengths) if lengths > 0 else 0.0)
    return np.array(scores)


def fltrust(updates, root_update, clip_negative=True, normalize="full", include_root=False):
    root = np.asarray(root_update, np.float64)
    root_norm = np.linalg.norm(root)
    total, update = 0.0, np.zeros(len(root))
    for row in np.asarray(updates, np.float64):
        norm = np.linalg.norm(row)
        if norm == 0 or root_norm == 0:
            continue
        score = row @ root / (norm * root_norm)
        if clip_negative and score < 0:
            score = 0.0
        factor = {"full": root_norm / norm, "shrink": min(1.0, root_norm / norm), "none": 1.0}[normalize]
        total += score
        update += score * factor * row
    if include_root:
        total += 1.0
        update += root
    return update / total if total != 0 else np.zeros(len(root))


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


def fltrust_with(**changed):
    return lambda updates, root, **options: fltrust(updates, root, **{**options, **changed})


def fltrust_by_count(updates, root, clip_negative=True, normalize="full", include_root=False):
    """Divides by the number of rows, not by the sum of the scores."""
    cosines = trust_scores(updates, root)
    return cosines @ wide(updates) / len(updates)


CASES = [
    *(
        RuleCase(
            "fltrust",
            fltrust,
            hyper,
            arrays=("root_update",),
            tolerated=tolerated,
            hostile=norm(longest, of="root_update"),
            translation=False,
            duplicates="include_root" not in hyper,
            identical=False,
            accepts=equals_reference(of_trusted_share),
        )
        # FLTrust promises the root update's length whatever the clients send; without ReLU scores cancel.
        for hyper, tolerated, longest in (
            ({}, 10, 1.0),
            ({"normalize": "shrink"}, 10, 1.0),
            ({"include_root": True}, 10, 1.0),
            ({"clip_negative": False}, 3, 3.0),
            ({"normalize": "none"}, 0, 0.0),
        )
    ),
]


MUTANTS = {
    "fltrust": {
        "no ReLU": fltrust_with(clip_negative=False),
        "rows as they are": fltrust_with(normalize="none"),
        "only longer rows": fltrust_with(normalize="shrink"),
        "root row in the mean": fltrust_with(include_root=True),
        "root row not in the mean": fltrust_with(include_root=False),
        "divides by the count": fltrust_by_count,
    },
}
