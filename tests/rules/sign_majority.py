"""The majority vote of signs: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, of_result, wide


def sign_majority(updates):
    result = []
    for column in np.asarray(updates, np.float64).T:
        ups = sum(1 for x in column if x > 0)
        downs = sum(1 for x in column if x < 0)
        result.append(1.0 if ups > downs else -1.0 if downs > ups else 0.0)
    return np.array(result)


def clear_votes_stand(seen):
    """For the majority vote: where the honest votes differ by more than there are hostile ones."""
    votes = np.sign(seen.honest).sum(0)
    clear = np.abs(votes) > len(seen.updates) - len(seen.honest)
    same = seen.result[clear] == np.sign(votes[clear])
    return clear.sum() > 5 and same.all() and np.isin(seen.result, [-1, 0, 1]).all()


CASES = [
    RuleCase(
        "sign_majority",
        sign_majority,
        tolerated=5,
        hostile=clear_votes_stand,
        translation=False,
        degree=0,
        duplicates=True,
        identical=False,
        accepts=equals_reference(of_result),
    ),
]


MUTANTS = {
    "sign_majority": {
        "sign of the mean": lambda updates: np.sign(wide(updates).mean(0)),
        "mean of the signs": lambda updates: np.sign(wide(updates)).mean(0),
        "ties up": lambda updates: np.where(np.sign(wide(updates)).sum(0) >= 0, 1.0, -1.0),
    },
}
