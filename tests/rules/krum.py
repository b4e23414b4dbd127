"""Krum and Multi-Krum: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.rounding import means_of_smallest, some_follow, squares_and_noise, wide


def krum_scores(updates, num_malicious, power=2, num_neighbors=None):
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    # The first of the sorted distances is the row's own.
    return np.array([sum(sorted(np.linalg.norm(rows - row, axis=1) ** power)[1 : count + 1]) for row in rows])


def krum_order(updates, num_malicious, power=2, num_neighbors=None):
    """Row numbers by Krum score; of equal scores the smaller next distance first, then the lower row."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    keys = []
    for i, score in enumerate(krum_scores(rows, num_malicious, power, num_neighbors)):
        others = sorted(np.linalg.norm(rows - rows[i], axis=1))[1:]
        keys.append((score, others[count] if count < len(others) else np.inf, i))
    return [i for _, _, i in sorted(keys)]


def krum(updates, num_malicious, **options):
    return np.asarray(updates, np.float64)[krum_order(updates, num_malicious, **options)[0]]


def multi_krum(updates, num_malicious, num_selected=None, **options):
    """Blanchard et al. 2017: the mean of the rows with the smallest Krum scores."""
    rows = np.asarray(updates, np.float64)
    count = len(rows) - num_malicious if num_selected is None else num_selected
    return sum(rows[i] for i in krum_order(rows, num_malicious, **options)[:count]) / count


def krum_scores_and_noise(rows, num_malicious, power=2, num_neighbors=None):
    """The float64 scores, and how far float32 may be off."""
    scores = krum_scores(rows, num_malicious, power, num_neighbors)
    count = len(rows) - num_malicious - 2 if num_neighbors is None else num_neighbors
    squares, noise = squares_and_noise(rows)
    if power == 1:
        low, high = np.sqrt(np.maximum(squares - noise, 0.0)), np.sqrt(squares + noise)
        noise = np.maximum(np.sqrt(squares) - low, high - np.sqrt(squares))
    squares[np.diag_indices(len(rows))] = np.inf
    nearest = np.argsort(squares, axis=1)[:, :count]
    return scores, np.take_along_axis(noise, nearest, axis=1).sum(1)


def could_be_first(scores, noise):
    """Rows whose score may come out smallest."""
    return np.flatnonzero(scores - noise <= (scores + noise).min())


def selects_a_row(case, updates, others, result):
    """For Krum: one of the rows that rounding may let win, bit for bit."""
    rows = wide(updates)
    winners = could_be_first(*krum_scores_and_noise(rows, **case.hyper))
    return bool((np.asarray(updates)[winners] == np.asarray(result)).all(1).any())


def averages_selected_rows(case, updates, others, result):
    """For Multi-Krum."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    count = case.hyper.get("num_selected", len(rows) - f)
    options = {name: value for name, value in case.hyper.items() if name != "num_selected"}
    return some_follow(result, means_of_smallest(rows, *krum_scores_and_noise(rows, **options), count))


def distances_of(rows):
    return np.linalg.norm(rows[:, None] - rows[None], axis=-1)


def sums_to_nearest(updates, neighbors, power=2, with_self=False):
    ordered = np.sort(distances_of(wide(updates)) ** power, axis=1)
    return ordered[:, : neighbors + 1 - with_self].sum(1)


def krum_with(change, **options):
    def mutant(updates, num_malicious, power=2, num_neighbors=None):
        neighbors = len(updates) - num_malicious - 2 if num_neighbors is None else num_neighbors
        scores = sums_to_nearest(updates, **{"neighbors": neighbors + change, "power": power, **options})
        return wide(updates)[np.argmin(scores)]

    return mutant


def multi_krum_with(more_neighbors=0, more_selected=0, only=None, **options):
    def mutant(updates, num_malicious, num_selected=None, power=2, num_neighbors=None):
        n = len(updates)
        neighbors = n - num_malicious - 2 if num_neighbors is None else num_neighbors
        scores = sums_to_nearest(updates, neighbors + more_neighbors, **{"power": power, **options})
        count = only or (n - num_malicious if num_selected is None else num_selected) + more_selected
        return wide(updates)[np.argsort(scores, kind="stable")[:count]].mean(0)

    return mutant


CASES = [
    RuleCase(
        "krum",
        krum,
        {"num_malicious": 4},
        ("num_malicious",),
        tolerated=4,
        hostile=near(3.0),
        accepts=selects_a_row,
    ),
    RuleCase(
        "krum",
        krum,
        {"num_malicious": 3, "power": 1},
        ("num_malicious",),
        tolerated=3,
        hostile=near(3.0),
        accepts=selects_a_row,
    ),
    RuleCase(
        "krum",
        krum,
        {"num_malicious": 3, "num_neighbors": 8},
        ("num_neighbors",),
        tolerated=3,
        hostile=near(3.0),
        accepts=selects_a_row,
    ),
    # One neighbour: a nearest pair ties.
    RuleCase(
        "krum",
        krum,
        {"num_malicious": 4, "num_neighbors": 1},
        ("num_malicious", "num_neighbors"),
        accepts=selects_a_row,
    ),
    # A selected row lies within √((n−f−2) / (n−2f−2)) honest diameters of some honest row.
    RuleCase(
        "multi_krum",
        multi_krum,
        {"num_malicious": 4},
        ("num_malicious",),
        tolerated=4,
        hostile=near(3.0),
        accepts=averages_selected_rows,
    ),
    RuleCase(
        "multi_krum",
        multi_krum,
        {"num_malicious": 3, "num_selected": 5},
        ("num_malicious", "num_selected"),
        tolerated=3,
        hostile=near(3.0),
        accepts=averages_selected_rows,
    ),
    RuleCase(
        "multi_krum",
        multi_krum,
        {"num_malicious": 3, "power": 1, "num_neighbors": 8, "num_selected": 4},
        ("num_neighbors",),
        tolerated=3,
        hostile=near(3.0),
        accepts=averages_selected_rows,
    ),
]


MUTANTS = {
    "krum": {
        "one neighbour more": krum_with(1),
        "one neighbour fewer": krum_with(-1),
        "itself among the neighbours": krum_with(0, with_self=True),
        "distances where squares are asked": krum_with(0, power=1),
        "squared twice": krum_with(0, power=4),
        "ties of nearest pairs to the lowest row": lambda updates, num_malicious, **options: wide(updates)[
            np.argmin(krum_scores(updates, num_malicious, **options))
        ],
        "largest score": lambda updates, **options: wide(updates)[np.argmax(krum_scores(updates, **options))],
        "row nearest the mean": lambda updates, **options: wide(updates)[
            np.argmin(np.linalg.norm(wide(updates) - wide(updates).mean(0), axis=1))
        ],
    },
    "multi_krum": {
        "n - f - 1 neighbours": multi_krum_with(more_neighbors=1),
        "itself among the neighbours": multi_krum_with(with_self=True),
        "two selected fewer": multi_krum_with(more_selected=-2),
        "one selected more": multi_krum_with(more_selected=1),
        "distances, not squares": multi_krum_with(power=1),
        "squares, not distances": multi_krum_with(power=2),
        "only the winner": multi_krum_with(only=1),
        "everybody": multi_krum_with(only=100),
    },
}
