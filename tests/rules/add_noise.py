"""Noise on the update, behind the mean: rows, references and wrong versions."""

import jax
import numpy as np

from fljax.aggregators import POST_AGGREGATORS
from tests.rules.case import RuleCase
from tests.rules.rounding import equals_reference, of_column, wide


def drawn_noise(updates, key, std):
    """The standard normal numbers that `add_noise` drew."""
    with jax.enable_x64(False):
        return (np.asarray(jax.random.normal(key, np.shape(updates)[1:], np.float32)),)


def noisy_mean(updates, noise, std):
    rows = np.asarray(updates, np.float64)
    return sum(rows) / len(rows) + std * np.asarray(noise, np.float64)


def of_rows_and_noise(case, rows, others, expected):
    return of_column(case, rows, others, expected) + case.hyper["std"]


def noisy_with(change):
    return lambda updates, noise, std: wide(updates).mean(0) + change(len(updates), std) * wide(noise)


CASES = [
    RuleCase(
        "add_noise",
        noisy_mean,
        {"std": 0.5},
        ("std",),
        arrays=("key",),
        draws=drawn_noise,
        units=("std",),
        # Noise does not change its sign.
        scaling=(1e-30, 1e-8, 2.0**40, 1e30),
        duplicates=True,
        identical=False,
        accepts=equals_reference(of_rows_and_noise),
        registry=POST_AGGREGATORS,
    ),
]


MUTANTS = {
    "add_noise": {
        "no noise": noisy_with(lambda n, std: 0.0),
        "variance for deviation": noisy_with(lambda n, std: std**2),
        "on every row": noisy_with(lambda n, std: std / np.sqrt(n)),
        "divided by the rows": noisy_with(lambda n, std: std / n),
    },
}
