"""SparseFed: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.clip import clip
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import ROUNDING, wide


def sparse_fed(updates, radius, num_sent, decay=0.9, held=None):
    """`held`: momentum and error, changed in place."""
    rows = np.asarray(updates, np.float64)
    momentum, error = held if held is not None else np.zeros((2, rows.shape[1]))
    clipped = clip(rows[finite_rows(rows)], radius)
    momentum *= decay
    momentum += sum(clipped) / len(rows) if len(clipped) else 0.0
    error += momentum
    order = sorted(range(len(error)), key=lambda j: (-abs(error[j]), j))
    sent = np.zeros(len(error))
    for j in order[:num_sent]:
        sent[j] = error[j]
        momentum[j] = error[j] = 0.0
    return sent


def bounded_by_the_radius(seen):
    return np.linalg.norm(seen.result) <= 2.0 * (1 + 1e-5) and np.count_nonzero(seen.result) <= 2


def sends_largest_entries(case, updates, others, result):
    """The mean of the clipped rows in some entries, none smaller than what is left, but for rounding."""
    radius, count = case.hyper["radius"], case.hyper["num_sent"]
    mean = clip(wide(updates), radius).mean(0)
    noise = ROUNDING * radius
    sent = np.asarray(result) != 0
    least, left = np.abs(mean[sent]).min(initial=np.inf), np.abs(mean[~sent]).max(initial=0.0)
    right = (np.abs(result - mean)[sent] <= noise).all()
    return bool(
        right and sent.sum() <= count and (left <= least + noise if sent.sum() == count else left <= noise)
    )


def sent_with(rows_of=clip, more=0, largest=True, dense=False):
    def mutant(updates, radius, num_sent, decay=0.9):
        mean = rows_of(wide(updates), radius).mean(0)
        order = np.argsort(-np.abs(mean) if largest else np.abs(mean), kind="stable")
        kept = np.isin(np.arange(len(mean)), order[: num_sent + more])
        return np.where(kept | dense, mean, 0.0)

    return mutant


CASES = [
    RuleCase(
        "sparse_fed",
        sparse_fed,
        {"radius": 2.0, "num_sent": 2},
        ("radius", "num_sent"),
        tolerated=11,
        hostile=bounded_by_the_radius,
        translation=False,
        units=("radius",),
        duplicates=True,
        identical=False,
        accepts=sends_largest_entries,
    ),
]


MUTANTS = {
    "sparse_fed": {
        "not clipped": sent_with(rows_of=lambda rows, radius: rows),
        "largest of the clipped coordinates": sent_with(
            rows_of=lambda rows, radius: np.clip(rows, -radius, radius)
        ),
        "one entry more": sent_with(more=1),
        "one entry fewer": sent_with(more=-1),
        "smallest entries": sent_with(largest=False),
        "all entries": sent_with(dense=True),
    },
}
