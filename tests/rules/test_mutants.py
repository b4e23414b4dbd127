"""The comparison with the references can fail: neither another rule nor a wrong version would pass it."""

from itertools import permutations

import numpy as np
import pytest

from tests.rules.case import SAMPLES, expected_on_samples, on_samples
from tests.rules.table import MUTANTS, POST_CASES, PRE_CASES, RULE_CASES

ALL = RULE_CASES + PRE_CASES + POST_CASES


def tells_apart(case, candidates):
    """Whether some sample would fail `test_equals_the_float64_reference`, with room to spare."""
    rtol = 2 * case.rtol[0]
    return any(
        candidate.shape != expected.shape or not np.allclose(candidate, expected, rtol=rtol, atol=rtol / 10)
        for candidate, expected in zip(candidates, expected_on_samples(case), strict=True)
    )


# One test: every worker that had a part of it would compile all rules.
def test_no_rule_passes_for_another():
    for case, other in permutations(ALL, 2):
        same = case.name == other.name or case.name in other.twins or other.name in case.twins
        if not same and case.registry is other.registry:
            assert tells_apart(case, on_samples(other)), (case.id, other.id)


@pytest.mark.parametrize("name", sorted({case.name for case in ALL}))
def test_no_wrong_version_passes(name):
    def candidates(case, mutant):
        # One after the other: nearly always the first differs, and references take time.
        for updates, others in SAMPLES:
            arrays = [others[array] for array in case.arrays]
            drawn = case.draws(updates, *arrays, **case.hyper) if case.draws else arrays
            yield np.asarray(mutant(updates, *drawn, **case.hyper))

    assert MUTANTS[name]
    cases = [case for case in ALL if case.name == name]
    for wrong, mutant in MUTANTS[name].items():
        assert any(tells_apart(case, candidates(case, mutant)) for case in cases), wrong
