"""Rows of thousands of entries, where XLA reduces in another way: on a CPU its maximum then drops NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.numerics.safe import largest_entries, row_norms, squares_to
from tests.rules.case import N, Poisoned, compiled, first_rows, make
from tests.rules.table import POST_CASES, PRE_CASES, RULE_CASES
from tests.support.programs import optimized

D = 5000
# Random coordinates that miss the hostile one cannot show it.
CASES = [
    c
    for c in first_rows(RULE_CASES + PRE_CASES + POST_CASES)
    if c.tolerated and c.hyper.get("subspace_size", D) >= D
]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38], ids=str)
@pytest.mark.parametrize("where", [slice(None), D - 1], ids=["row", "last entry"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hostile_rows_leave_the_result_near_the_honest_rows(case, where, value):
    updates, others = make(d=D, spread=0.2)
    order = np.random.default_rng(2).permutation(np.setdiff1d(np.arange(N), case.honest))
    bad = order[: case.tolerated]
    kept = np.setdiff1d(np.arange(N), bad)
    poisoned = updates.copy()
    poisoned[bad, where] = value
    result, clean = (np.asarray(compiled(case)(rows, others)) for rows in (poisoned, updates))
    if case.finite:
        assert np.isfinite(result).all()
    assert case.hostile(Poisoned(result, clean, updates[kept], kept, poisoned, others))


@pytest.mark.parametrize("d", [7, 1000, 4096, 50_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_non_finite_entries_are_found_wherever_they_are(d, value):
    for where in (0, d // 2, d - 1, slice(None)):
        rows = np.ones((4, d), np.float32)
        rows[1, where] = value
        rows[2] = 1e-40
        for function in (largest_entries, optimized(largest_entries), row_norms, optimized(row_norms)):
            found = np.asarray(function(jnp.asarray(rows)))
            np.testing.assert_array_equal(np.isinf(found), [False, True, False, False])
            assert not np.isnan(found).any()


@pytest.mark.parametrize(("n", "d"), [(100, 50_003), (4500, 1100), (3, 70_000)])
def test_distances_from_a_point_are_the_same_by_blocks_of_columns(n, d):
    random = np.random.default_rng(0)
    point = random.normal(size=d).astype(np.float32)
    rows = (point + 1e-3 * random.normal(size=(n, d))).astype(np.float32)
    rows[2, d - 1] = np.nan
    squares, change = jax.jit(lambda *given: jax.jvp(squares_to, given, given))(rows, point)
    away = rows.astype(np.float64) - point
    np.testing.assert_allclose(squares, (away**2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(change, 2 * (away**2).sum(1), rtol=1e-4)
