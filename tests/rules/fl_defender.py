"""FL-Defender: rows, reference and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.lfighter import averages_some_rows
from tests.rules.rounding import wide


def agreement(rows, head, own=0.0, standard=True, components=2, center=np.median):
    size = head.num_features * head.num_classes
    parts = rows[:, head.kernel : head.kernel + size]
    if head.bias is not None:
        parts = np.hstack([parts, rows[:, head.bias : head.bias + head.num_classes]])
    profiles = np.array(
        [[own if i == j else cosine(a, b) for j, b in enumerate(parts)] for i, a in enumerate(parts)]
    )
    profiles = profiles - profiles.mean(0)
    spread = profiles.std(0)
    if standard:
        profiles = profiles / np.where(spread > 1e-12, spread, 1.0)
    vectors, values, _ = np.linalg.svd(profiles)
    points = vectors[:, :components] * values[:components]
    middle = center(points, axis=0)
    return np.array([cosine(point, middle) for point in points])


def fl_defender(updates, head, scores, added=True, quantile=25, **how):
    everything = wide(updates)
    present = finite_rows(everything)
    if not present:
        return np.zeros(everything.shape[1])
    rows = everything[present]
    total = agreement(rows, head, **how) + (wide(scores)[present] if added else 0.0)
    trust = np.maximum(total - np.percentile(total, quantile), 0.0)
    trust = trust if trust.any() else np.ones(len(rows))
    return trust @ rows / trust.sum()


def fl_defender_with(**changed):
    return lambda *arrays: fl_defender(*arrays, **changed)


CASES = [
    RuleCase(
        "fl_defender",
        fl_defender,
        arrays=("head", "scores"),
        # Eigenvectors, and what is left above a quartile.
        rtol=(2e-3, 1e-8),
        mapped_rtol=1e-4,
        translation=False,
        # The weights change smoothly, and have no gradient.
        differentiable=False,
        accepts=averages_some_rows,
        largest=300,
    )
]


MUTANTS = {
    "fl_defender": {
        "an own cosine of 1": fl_defender_with(own=1.0),
        "not standardised": fl_defender_with(standard=False),
        "one component": fl_defender_with(components=1),
        "three components": fl_defender_with(components=3),
        "the mean row": fl_defender_with(center=np.mean),
        "the median score": fl_defender_with(quantile=50),
        "this round's scores alone": fl_defender_with(added=False),
    }
}
