"""The ranking of rules, and the definition of a broken one, for all tables and figures."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# A backdoor that succeeds on this share of the test examples, or more, has broken the rule.
BROKEN = 0.5
CROSS = "✗"


class Outcome(NamedTuple):
    """The error and the success rate of a rule under an attack, or the largest ones under several.

    Attributes:
        test_error: NaN where no seed has one, since all diverged.
        attack_success_rate: NaN where the attack plants no backdoor.
    """

    test_error: float
    attack_success_rate: float = math.nan

    @property
    def harm(self) -> float:
        """The larger of error and success rate, to the digits that are shown; rules are ranked by it.

        Both are shares of test examples on which the attacker has what he wants, so a backdoored model does
        not pass for a good one because its error is small. No error at all is the most harm there is.
        """
        if math.isnan(self.test_error):
            return math.inf
        error = round(self.test_error, 3)
        return error if math.isnan(self.attack_success_rate) else max(error, self.success)

    @property
    def success(self) -> float:
        """The success rate to the two digits that are shown; NaN where there is none."""
        return round(self.attack_success_rate, 2)

    @property
    def broken(self) -> bool:
        """True if the backdoor succeeds: `attack_success_rate` of 0.5 and more."""
        return self.success >= BROKEN


def marks(outcomes: Sequence[Outcome | None]) -> list[str]:
    """Mark the "best" and the "worst" outcomes among those that are there; none where all are equal.

    A rule whose backdoor succeeds is never the best, not even of a row of such rules.

    Example:
        >>> marks([Outcome(0.038, 1.0), Outcome(0.11, 0.02), Outcome(0.042, 0.01), None])
        ['worst', '', 'best', '']
    """
    harms = {outcome.harm for outcome in outcomes if outcome is not None}
    if len(harms) < 2:
        return [""] * len(outcomes)
    low, high = min(harms), max(harms)

    def mark(outcome: Outcome | None) -> str:
        if outcome is None or low < outcome.harm < high:
            return ""
        return "worst" if outcome.harm == high else "" if outcome.broken else "best"

    return [mark(outcome) for outcome in outcomes]


def explain(several_rules: bool, some_broken: bool) -> list[str]:
    """The definitions above in words, for captions."""
    sentences = []
    if several_rules:
        sentences.append("Bold is the best rule, italic the worst, by the larger of error and success rate.")
    if some_broken:
        sentences.append(f"{CROSS} The backdoor succeeds (rate ≥ {BROKEN}): never the best.")
    return sentences
