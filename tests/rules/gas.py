"""GAS: rows, reference and wrong versions."""

import jax
import numpy as np

from tests.rules.bulyan import bulyan
from tests.rules.case import RuleCase, near
from tests.rules.foolsgold import finite_rows
from tests.rules.krum import multi_krum
from tests.rules.lfighter import averages_some_rows
from tests.rules.median import median
from tests.rules.rounding import wide
from tests.rules.trimmed_mean import trimmed_mean

BASES = {
    "bulyan": lambda rows, f: bulyan(rows, min(f, (len(rows) - 3) // 4)),
    "multi_krum": lambda rows, f: multi_krum(rows, min(f, (len(rows) - 3) // 2)),
    "trimmed_mean": trimmed_mean,
    "median": lambda rows, f: median(rows),
}


def scores_of(rows, order, f, num_groups, rule, power=1):
    rows = rows[:, order]
    size = max(1, -(-rows.shape[1] // num_groups))
    scores = np.zeros(len(rows))
    for start in range(0, rows.shape[1], size):
        group = rows[:, start : start + size]
        scores += np.linalg.norm(group - BASES[rule](group, f), axis=1) ** power
    return scores


def gas(updates, order, num_malicious, num_groups=1000, rule="bulyan", power=1, fewer=0, ordered=True):
    rows = wide(updates)
    order = order if ordered else np.arange(rows.shape[1])
    scores = scores_of(rows, order, num_malicious, num_groups, rule, power)
    kept = sorted(finite_rows(rows), key=lambda i: scores[i])[: len(rows) - num_malicious - fewer]
    return rows[kept].mean(0)


def drawn(updates, key, **hyper):
    return (np.asarray(jax.random.permutation(key, np.shape(updates)[1])),)


def gas_with(**changed):
    return lambda *arrays, **options: gas(*arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "gas",
        gas,
        {"num_malicious": 3, "num_groups": 8, "rule": rule},
        ("num_malicious",),
        arrays=("key",),
        draws=drawn,
        tolerated=tolerated,
        hostile=near(3.0),
        accepts=averages_some_rows,
        largest=129 if rule == "median" else 12,
    )
    for rule, tolerated in (("median", 3), ("bulyan", 2), ("multi_krum", 3))
]


MUTANTS = {
    "gas": {
        "squared distances": gas_with(power=2),
        "not permuted": gas_with(ordered=False),
        "one group": gas_with(num_groups=1),
        "single coordinates": gas_with(num_groups=1000),
        "a row fewer": gas_with(fewer=1),
        "another rule": gas_with(rule="trimmed_mean"),
    }
}
