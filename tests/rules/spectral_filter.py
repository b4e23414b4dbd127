"""The spectral filter: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import far_out, follows, wide


def steps(rows, num_malicious, sigma, more=0, power=1, expansion=20.0):
    """The weights after every step of the filter."""
    kept, c = list(range(len(rows))), np.ones(len(rows))
    yield c
    for _ in range(2 * num_malicious + more):
        mean = np.average(rows[kept], axis=0, weights=c[kept])
        centred = rows[kept] - mean
        covariance = (centred.T * c[kept]) @ centred / c[kept].sum()
        values, vectors = np.linalg.eigh(covariance)
        tau = (centred @ vectors[:, -1]) ** 2
        if values[-1] ** 2 <= expansion * sigma**2 or tau.max() == 0:
            return
        c = c.copy()
        c[kept] *= (1 - tau / tau.max()) ** power
        c[kept[int(np.argmax(tau))]] = 0.0
        del kept[int(np.argmax(tau))]
        if not c.any():
            return
        yield c


def spectral_filter(updates, num_malicious, sigma):
    rows = np.asarray(updates, np.float64)
    rows = rows[finite_rows(rows)]
    *_, c = steps(rows, num_malicious, sigma)
    return c @ rows / c.sum()


def near_the_filtered_mean(case, updates, others, result):
    """Where no two rows or axes are near a tie, the reference's; else a mean of rows that are there."""
    rows = wide(updates)
    inside = ~far_out(rows)
    scale = np.abs(rows[inside]).max(0, initial=0.0)
    low, high = rows[inside].min(0, initial=np.inf), rows[inside].max(0, initial=-np.inf)
    in_hull = ((low - 1e-4 * scale - 1e-30 <= result) & (result <= high + 1e-4 * scale + 1e-30)).all()
    expected = case.expected(updates, others)
    return bool(in_hull) or follows(result, expected, np.abs(rows).max(0))


def filter_with(weigh=None, **options):
    def mutant(updates, num_malicious, sigma):
        rows = wide(updates)
        *_, c = steps(rows, num_malicious, sigma, **options)
        c = weigh(c) if weigh else c
        return c @ rows / c.sum()

    return mutant


CASES = [
    RuleCase(
        "spectral_filter",
        spectral_filter,
        {"num_malicious": 2, "sigma": 1.6},
        ("num_malicious", "sigma"),
        tolerated=2,
        hostile=near(3.0),
        # What is left after several steps has lost digits.
        rtol=(1e-3, 1e-9),
        scaling=(-1.0,),
        differentiable=False,
        accepts=near_the_filtered_mean,
    ),
]


MUTANTS = {
    "spectral_filter": {
        "f steps": filter_with(more=-2),
        "one step more": filter_with(more=1),
        "never stops": filter_with(expansion=0.0),
        "stops at once": filter_with(expansion=1e9),
        "stops at λ ≤ 20 σ": filter_with(expansion=400.0),
        "squared factors": filter_with(power=2),
        "equal weights of the rows left": filter_with(weigh=lambda c: (c > 0) * 1.0),
    },
}
