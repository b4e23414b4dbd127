"""Every rule on finite inputs from Hypothesis: ties, copies, zeros, huge and tiny scales mixed."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.rules.case import N, make
from tests.rules.table import POST_CASES, PRE_CASES, RULE_CASES

D = 3

values = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-30, -1e30, 1e10]),
    # Below about 1e-37 XLA flushes to zero on a CPU; 1e-30 leaves room for differences.
    st.floats(-100, 100, width=32).map(lambda x: 0.0 if abs(x) < 1e-30 else x),
)
# Rows picked from a few, so that many are copies, or all of them drawn.
stacks = st.one_of(
    hnp.arrays(np.float32, (N, D), elements=values),
    st.tuples(
        hnp.arrays(np.float32, (5, D), elements=values),
        st.lists(st.integers(0, 4), min_size=N, max_size=N),
    ).map(lambda drawn: drawn[0][drawn[1]]),
)


@pytest.mark.parametrize("case", RULE_CASES + PRE_CASES + POST_CASES, ids=lambda case: case.id)
def test_result_is_one_that_rounding_allows(case):
    compiled = jax.jit(lambda updates, others: case.call(updates, others))
    arrays = [make(seed, d=D)[1] for seed in range(4)]

    @settings(deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(updates=stacks, seed=st.integers(0, 3))
    def check(updates, seed):
        assert case.accepts(case, updates, arrays[seed], np.asarray(compiled(updates, arrays[seed])))

    check()
