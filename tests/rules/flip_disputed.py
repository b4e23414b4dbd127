"""The robust learning rate behind a rule, here the mean: rows, references and wrong versions."""

from fljax.aggregators import POST_AGGREGATORS
from tests.rules.case import RuleCase
from tests.rules.robust_learning_rate import MUTANTS as OF_RULE
from tests.rules.robust_learning_rate import robust_learning_rate
from tests.rules.rounding import equals_reference, of_column

CASES = [
    RuleCase(
        "flip_disputed",
        robust_learning_rate,
        {"threshold": 6},
        ("threshold",),
        translation=False,
        identical=False,
        accepts=equals_reference(of_column),
        registry=POST_AGGREGATORS,
    ),
]


MUTANTS = {
    "flip_disputed": {
        wrong: mutant for wrong, mutant in OF_RULE["robust_learning_rate"].items() if wrong != "unweighted"
    },
}
