"""Many rows: the code paths beyond the sorting network and in blocks of rows agree with the references."""

from functools import lru_cache

import jax
import numpy as np
import pytest

from tests.rules.case import N, make
from tests.rules.table import PRE_CASES, RULE_CASES

D = 3
SIZES = (129, 300, 1000)
# These hyper-parameters count rows: they grow with n.
COUNTS = ("num_malicious", "trim", "num_selected", "num_neighbors")


@lru_cache
def stack(n):
    return make(n, n=n, d=D, uneven=True)


def problems():
    """The smallest size for every row, for the first of each rule also the largest that it takes."""
    seen = set()
    for case in RULE_CASES + PRE_CASES:
        sizes = [n for n in SIZES if n <= case.largest]
        for n in dict.fromkeys(sizes[:1] if case.name in seen else (*sizes[:1], *sizes[-1:])):
            marks = () if n == sizes[0] else pytest.mark.slow
            yield pytest.param(case, n, id=f"{n} {case.id}", marks=marks)
        seen.add(case.name)


@pytest.mark.parametrize(("case", "n"), list(problems()))
def test_agrees_with_the_reference(case, n):
    updates, others = stack(n)
    hyper = {name: value * n // N if name in COUNTS else value for name, value in case.hyper.items()}
    expected = case.expected(updates, others, **hyper)
    tolerance = {"rtol": 10 * case.rtol[0], "atol": case.rtol[0]}
    static = jax.jit(lambda updates, others: case.call(updates, others, **hyper))(updates, others)
    np.testing.assert_allclose(static, expected, **tolerance)
    if case.traced and n == SIZES[0]:
        given = {name: hyper[name] for name in case.traced}
        rest = {name: value for name, value in hyper.items() if name not in case.traced}
        traced = jax.jit(lambda updates, others, given: case.call(updates, others, **rest, **given))
        np.testing.assert_allclose(traced(updates, others, given), expected, **tolerance)
