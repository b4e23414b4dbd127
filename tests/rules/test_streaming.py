"""Rules and pre-aggregators on rows that come a chunk at a time, against the same on the whole stack."""

import jax
import numpy as np
import pytest

from fljax.aggregators import RULES, geometric_median
from fljax.numerics.rows import Rows, by_row, chunk_size, stacked, sum_rows
from tests.rules.case import N, compiled, make
from tests.rules.table import POST_CASES, PRE_CASES, RULE_CASES
from tests.rules.test_rules import HOSTILE

CHUNK = 5  # two chunks, and two rows that are left over
CASES = [
    case
    for case in [*RULE_CASES, *PRE_CASES, *POST_CASES]
    if case.registry[case.name].facts["streams"]
    # From the median of all rows it does not stream.
    and (case.name != "geometric_median" or "start" in case.hyper)
]


def samples():
    """Rows of ordinary and of uneven lengths, then with hostile ones in one chunk, another and every one."""
    ordinary, _ = make()
    yield ordinary
    yield make(1, uneven=True)[0]
    for value in HOSTILE.values():
        for bad in ([1, 3], [7], [0, 6, 11]):
            updates = ordinary.copy()
            updates[bad] = value
            yield updates
            updates[bad] = ordinary[bad]
            updates[bad, 4] = -value
            yield updates
    yield np.float32(1e37) * ordinary
    yield np.float32(1e-30) * ordinary
    yield np.zeros_like(ordinary)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rows_in_chunks_give_the_result_of_the_stack(case):
    _, others = make()

    @jax.jit
    def streamed(updates, others):
        result = case.call(stacked(updates, CHUNK), others)
        return by_row(lambda rows: rows, result) if isinstance(result, Rows) else result

    for updates in samples():
        result, expected = streamed(updates, others), compiled(case)(updates, others)
        # In the unit of the result, or of the centre that it is a step from.
        sizes = np.abs([*np.ravel(expected), *(others["center"] if "center" in case.arrays else [])])
        largest = sizes[np.isfinite(sizes)].max(initial=0)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6 * largest)


def test_what_explains_a_decision_is_that_of_the_stack():
    updates, others = make(uneven=True)
    updates[3] = np.nan
    for name, hyper in (("fltrust", {}), ("norm_filter", {"num_malicious": 3}), ("mean", {})):
        arrays = [others["root_update"]] if name == "fltrust" else []
        explained = RULES[name].function.explained
        of_chunks = explained(stacked(updates, CHUNK), *arrays, **hyper)[1]
        of_stack = explained(updates, *arrays, **hyper)[1]
        assert of_chunks.keys() == of_stack.keys()
        for key, value in of_stack.items():
            np.testing.assert_allclose(of_chunks[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [name for name, entry in RULES.items() if not entry.facts["streams"]])
def test_a_rule_that_needs_all_rows_at_once_says_so(name):
    case = next(case for case in RULE_CASES if case.name == name)
    updates, others = make()
    with pytest.raises(ValueError, match="reads all rows of a stack at once"):
        case.call(stacked(updates, CHUNK), others)


def test_the_geometric_median_is_found_in_many_passes_from_the_mean():
    updates, others = make(uneven=True)
    for weights in (None, others["weights"]):

        def found(updates, weights=weights):
            return geometric_median(updates, weights, start="mean", max_iterations=200)

        streamed = jax.jit(lambda updates: found(stacked(updates, CHUNK)))
        stack = jax.jit(found)
        for hostile in (0.0, np.nan, 1e38):
            updates[2] = hostile
            np.testing.assert_allclose(streamed(updates), stack(updates), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match='give "mean" or "zero" to stream'):
        geometric_median(stacked(updates, CHUNK))


def test_chunks_divide_the_rows_evenly_or_leave_one_smaller():
    assert [chunk_size(n, 8) for n in (1, 8, 24, 30, 31, 1009)] == [1, 8, 8, 6, 8, 8]
    updates = make()[0]
    for size in (1, 4, N, N + 3):
        total = sum_rows(lambda rows: rows.sum(0), stacked(updates, min(size, N)))
        np.testing.assert_allclose(total, updates.sum(0), rtol=1e-5)
