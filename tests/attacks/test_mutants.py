"""The comparison with the references can fail: neither another attack nor a wrong version would pass it."""

from itertools import permutations

import numpy as np
import pytest

from fljax.attacks import ATTACKS
from tests.attacks.case import BATCHES, SAMPLES, expected_on_samples, on_samples
from tests.attacks.quadratic import expected_by_rounds
from tests.attacks.table import CASES, DATA_CASES, DATA_MUTANTS, MUTANTS, TRAINING_CASES, TRAINING_MUTANTS

ROW_CASES = [case for case in CASES if case.rows and not case.breaking]


def tells_apart(case, candidates):
    """Whether some sample would fail the comparison with the reference, with room to spare."""
    return any(
        not np.allclose(found, wanted, rtol=2 * case.rtol, atol=2 * case.rtol * np.abs(updates).max())
        for (updates, _), found, wanted in zip(SAMPLES, candidates, expected_on_samples(case), strict=True)
    )


def batches_apart(case, version):
    """Whether some poisoned batch, or the trigger that is measured, would fail the comparison."""
    whole = [None] if case.attack().trigger is not None else []
    return any(
        not np.allclose(found, wanted, rtol=1e-5)
        for x, y, is_copy in BATCHES
        for member in (0, 1, 2, *whole)
        for found, wanted in zip(
            version(x, y, is_copy if member is not None else is_copy | True, member, **case.hyper),
            case.data(x, y, is_copy if member is not None else is_copy | True, member, **case.hyper),
            strict=True,
        )
    )


def test_every_attack_has_wrong_versions():
    assert set(MUTANTS) == {case.name for case in CASES if case.rows}
    assert set(DATA_MUTANTS) == {case.name for case in CASES if case.data}
    assert set(TRAINING_MUTANTS) == {case.name for case in TRAINING_CASES}
    tables = (MUTANTS, DATA_MUTANTS, TRAINING_MUTANTS)
    assert set().union(*tables) == set(ATTACKS)
    assert all(len(versions) >= 3 for table in tables for versions in table.values())


# One test: every worker that had a part of it would compile all attacks.
def test_no_attack_passes_for_another():
    for case, other in permutations(ROW_CASES, 2):
        if other.name != case.name and other.name not in case.twins:
            assert tells_apart(case, on_samples(other)), (case.id, other.id)


@pytest.mark.parametrize("name", MUTANTS)
def test_no_wrong_version_passes(name):
    for wrong, version in MUTANTS[name].items():
        cases = [case for case in ROW_CASES if case.name == name]
        # One after the other: nearly always the first differs.
        assert any(
            tells_apart(case, (case.expected(*sample, version) for sample in SAMPLES)) for case in cases
        ), wrong


@pytest.mark.parametrize("name", DATA_MUTANTS)
def test_no_wrong_poisoning_passes(name):
    for wrong, version in DATA_MUTANTS[name].items():
        assert any(batches_apart(case, version) for case in DATA_CASES if case.name == name), wrong


@pytest.mark.parametrize("name", TRAINING_MUTANTS)
def test_no_wrong_training_passes(name):
    for wrong, version in TRAINING_MUTANTS[name].items():
        found = any(
            not np.allclose(
                expected_by_rounds(version, **case.hyper),
                expected_by_rounds(case.trained, **case.hyper),
                rtol=1e-3,
                atol=1e-3,
            )
            for case in TRAINING_CASES
            if case.name == name
        )
        assert found, wrong
