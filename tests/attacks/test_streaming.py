"""Attacks on rows that come a chunk at a time, against the same on the whole stack."""

import jax
import numpy as np
import pytest

from fljax.attacks import ATTACKS
from fljax.numerics.rows import Rows, by_row, stacked
from tests.attacks.case import SAMPLES, make, program
from tests.attacks.table import CASES

CHUNK = 4  # two chunks, and one row that is left over
STREAMING = [case for case in CASES if case.attack().streams]


def test_an_attack_streams_where_its_entry_says_so():
    for case in CASES:
        assert case.attack().streams == ATTACKS[case.name].facts["streams"], case.id


@pytest.mark.parametrize("case", STREAMING, ids=lambda case: case.id)
def test_rows_in_chunks_are_attacked_as_those_of_the_stack(case):
    @jax.jit
    def streamed(updates, malicious):
        sent = case.sent(stacked(updates, CHUNK), malicious)
        assert isinstance(sent, Rows)
        return by_row(lambda rows: rows, sent)

    for updates, malicious in [*SAMPLES, make(9, count=0), make(9, count=9)]:
        expected = np.asarray(program(case)[0](updates, malicious))
        result = np.asarray(streamed(updates, malicious))
        np.testing.assert_array_equal(result[~malicious], updates[~malicious])
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6 * np.abs(updates).max())


def test_hostile_rows_of_others_stay_out_of_what_attackers_know():
    """What an attacker does not look at may hold anything, in whatever chunk it is."""
    updates, malicious = make(3, count=4)
    for case in STREAMING:
        if case.name in ("sign_flip", "ipm", "alie", "gaussian", "mimic"):
            hostile = np.where(malicious[:, None], np.float32(np.nan), updates)
            expected = np.asarray(program(case)[0](hostile, malicious))
            sent = case.sent(stacked(jax.numpy.asarray(hostile), CHUNK), malicious)
            result = by_row(lambda rows: rows, sent)
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
