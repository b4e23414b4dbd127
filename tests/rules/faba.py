"""FABA: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import some_follow, squares_and_noise, wide


def faba(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    kept = finite_rows(rows)
    for _ in range(num_malicious - (len(rows) - len(kept))):
        center = sum(rows[i] for i in kept) / len(kept)
        distances = [np.linalg.norm(rows[i] - center) for i in kept]
        del kept[int(np.argmax(distances))]
    return sum(rows[i] for i in kept) / len(kept)


def averages_what_is_left(case, updates, others, result):
    """The mean of one of the sets that rounding allows to be left."""
    rows = wide(updates)
    squares, noise = squares_and_noise(rows)
    left = {tuple(range(len(rows)))}
    for _ in range(case.hyper["num_malicious"]):
        fewer = set()
        for kept in map(list, left):
            totals, off = (matrix[np.ix_(kept, kept)].sum(1) for matrix in (squares, noise))
            off = off + 1e-6 * totals
            for place in np.flatnonzero(totals + off >= (totals - off).max()):
                fewer.add(tuple(kept[:place] + kept[place + 1 :]))
        left = fewer
    return some_follow(result, ((rows[list(kept)].mean(0), np.abs(rows[list(kept)]).max(0)) for kept in left))


def faba_with(more=0, order=2, center=np.mean, at_once=False, nearest=False):
    def mutant(updates, num_malicious):
        rows = wide(updates)
        count = num_malicious + more
        for _ in range(1 if at_once else count):
            distances = np.linalg.norm(rows - center(rows, axis=0), ord=order, axis=1)
            ordered = np.argsort(distances if nearest else -distances, kind="stable")
            rows = np.delete(rows, ordered[: count if at_once else 1], axis=0)
        return rows.mean(0)

    return mutant


CASES = [
    RuleCase(
        "faba",
        faba,
        {"num_malicious": 3},
        ("num_malicious",),
        tolerated=3,
        hostile=near(3.0),
        accepts=averages_what_is_left,
    ),
]


MUTANTS = {
    "faba": {
        "one row more": faba_with(more=-1),
        "one row fewer": faba_with(more=1),
        "all at once": faba_with(at_once=True),
        "around the median": faba_with(center=np.median),
        "nearest rows": faba_with(nearest=True),
        "sum of absolute differences": faba_with(order=1),
    },
}
