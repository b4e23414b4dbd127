"""Smallest-spectrum averaging (SMEA): rows, references and wrong versions."""

from itertools import combinations

import numpy as np

from tests.rules.case import N, RuleCase, near
from tests.rules.minimum_diameter import averages_one_of, largest_distance, subset_with, subsets_of
from tests.rules.rounding import ROUNDING, hopeless, pair_noise, wide


def smallest_spectrum(updates, num_malicious):
    rows = np.asarray(updates, np.float64)
    subsets = np.array(list(combinations(range(len(rows)), len(rows) - num_malicious)))
    centred = rows[subsets] - rows[subsets].mean(1, keepdims=True)
    # The squared largest singular value is |S| times the eigenvalue.
    costs = np.linalg.norm(centred, ord=2, axis=(1, 2)) ** 2
    return rows[subsets[np.argmax(costs <= costs.min() * (1 + 1e-9))]].mean(0)


def averages_a_narrowest_subset(case, updates, others, result):
    """For SMEA."""
    rows, f = wide(updates), case.hyper["num_malicious"]
    subsets = subsets_of(rows, f)
    centred = rows[subsets] - rows[subsets].mean(1, keepdims=True)
    values = np.linalg.norm(centred, ord=2, axis=(1, 2)) ** 2 / subsets.shape[1]
    noise = 2 * pair_noise(rows)[subsets[:, :, None], subsets[:, None]].max((1, 2)) + 2 * ROUNDING * values
    if hopeless(rows).sum() > f:
        noise[:] = np.inf
        values[:] = 0.0
    return averages_one_of(rows, subsets, values, noise, result)


def singular_values(picked, centred=True):
    return np.linalg.svd(picked - picked.mean(1, keepdims=True) * centred, compute_uv=False)


CASES = [
    *(
        RuleCase(
            "smallest_spectrum",
            smallest_spectrum,
            {"num_malicious": f},
            ("num_malicious",),
            largest=N,
            tolerated=f,
            hostile=near(3.0),
            accepts=averages_a_narrowest_subset,
        )
        for f in (3, 5)
    ),
]


MUTANTS = {
    "smallest_spectrum": {
        "one row more": subset_with(lambda picked: singular_values(picked)[:, 0], more=1),
        "one row fewer": subset_with(lambda picked: singular_values(picked)[:, 0], more=-1),
        "trace": subset_with(lambda picked: (singular_values(picked) ** 2).sum(1)),
        "second eigenvalue": subset_with(lambda picked: singular_values(picked)[:, 1]),
        "not centred": subset_with(lambda picked: singular_values(picked, centred=False)[:, 0]),
        "diameter": subset_with(largest_distance),
    },
}
