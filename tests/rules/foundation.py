"""FoundationFL: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import ROUNDING, follows, wide


def scores_of(rows):
    high, low = rows.max(0), rows.min(0)
    return np.array([min(np.linalg.norm(row - high), np.linalg.norm(row - low)) for row in rows])


def with_copies(rows, chosen, copies):
    """The sorted columns of the rows and of the copies of one of them."""
    return np.sort(np.concatenate([rows, np.repeat(rows[chosen : chosen + 1], copies, axis=0)]), axis=0)


def trimming(count, num_malicious, rule):
    most = (count - 1) // 2
    return most if rule == "median" else min(num_malicious, most)


def foundation(updates, num_malicious, rule="trimmed_mean", num_copies=None, chosen=None):
    rows = np.asarray(updates, np.float64)
    copies = len(rows) // 2 if num_copies is None else num_copies
    rows = rows[finite_rows(rows)]
    chosen = int(np.argmax(scores_of(rows))) if chosen is None else chosen
    ordered = with_copies(rows, chosen, copies)
    trim = trimming(len(ordered), num_malicious, rule)
    return ordered[trim : len(ordered) - trim].mean(0)


def copies_a_row_of_largest_score(case, updates, others, result):
    rows = wide(updates)
    scores, noise = scores_of(rows), ROUNDING * (scores_of(rows) + 1e-2 * np.abs(rows).max())
    copies = case.hyper.get("num_copies", len(rows) // 2)
    trim = trimming(len(rows) + copies, case.hyper["num_malicious"], case.hyper.get("rule", "trimmed_mean"))

    def fits(chosen):
        ordered = with_copies(rows, chosen, copies)
        kept = np.abs(ordered[trim : len(ordered) - trim]).max(0)
        return follows(result, foundation(rows, **case.hyper, chosen=chosen), kept)

    return any(fits(chosen) for chosen in np.flatnonzero(scores + noise >= (scores - noise).max()))


def copies_what_is_there(seen):
    """The reference's result, where a hostile row may be the one that is copied."""
    expected = foundation(seen.updates, 3)
    usual = np.abs(expected) < 1e30
    scale = np.abs(np.where(np.isfinite(seen.updates), seen.updates, 0.0)).max(0)
    return follows(seen.result[usual], expected[usual], scale[usual])


def foundation_with(choose=np.argmax, score=scores_of, more=0, more_copies=0, mean=False):
    def mutant(updates, num_malicious, rule="trimmed_mean", num_copies=None):
        rows = wide(updates)
        copies = (len(rows) // 2 if num_copies is None else num_copies) + more_copies
        ordered = with_copies(rows, int(choose(score(rows))), copies)
        trim = trimming(len(ordered), num_malicious + more, rule)
        return ordered.mean(0) if mean else ordered[trim : len(ordered) - trim].mean(0)

    return mutant


def larger_distance(rows):
    return np.maximum(*(np.linalg.norm(rows - end, axis=1) for end in (rows.max(0), rows.min(0))))


CASES = [
    RuleCase(
        "foundation",
        foundation,
        {"num_malicious": 3},
        ("num_malicious",),
        tolerated=3,
        hostile=copies_what_is_there,
        # Copies of a hostile row are more than it tolerates.
        finite=False,
        accepts=copies_a_row_of_largest_score,
    ),
    RuleCase(
        "foundation",
        foundation,
        {"num_malicious": 2, "rule": "median", "num_copies": 3},
        accepts=copies_a_row_of_largest_score,
    ),
]


MUTANTS = {
    "foundation": {
        "row of smallest score": foundation_with(choose=np.argmin),
        "first row": foundation_with(choose=lambda scores: 0),
        "distance to the farther extreme": foundation_with(score=larger_distance),
        "distance to the largest only": foundation_with(
            score=lambda rows: np.linalg.norm(rows - rows.max(0), axis=1)
        ),
        "trims one more": foundation_with(more=1),
        "one copy more": foundation_with(more_copies=1),
        "one copy fewer": foundation_with(more_copies=-1),
        "plain mean": foundation_with(mean=True),
    },
}
