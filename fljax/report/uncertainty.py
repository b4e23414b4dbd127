"""What the spread of the seeds says of a mean: intervals of confidence, and tests between rules."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# Intervals by name: those of Student's t, and those of means of seeds drawn anew.
INTERVALS = ("student", "bootstrap")
LEVEL = 0.95
SHORT = {
    "student": "95 % confidence interval (Student's t)",
    "bootstrap": "95 % confidence interval (percentile bootstrap)",
}
DRAWS = 10_000
# With fewer seeds that two rules share there is no test: one of three seeds finds next to nothing.
FEWEST = 5
# A difference that seeds alone make as often as this is none.
ALPHA = 0.05
ALIKE = "≈"
# Errors are fractions of whole numbers of examples.
ROUNDING = 1e-9


def interval(values: Sequence[float] | np.ndarray, kind: str) -> tuple[float, float]:
    """The interval that holds the mean with a confidence of 95 %, were the seeds drawn independently.

    "student" is mean ± t · s / √n, with the 97.5 % quantile t of Student's distribution of n − 1 degrees of
    freedom and s² = Σ (x − mean)² / (n − 1); for normal values it holds what it says for any n ≥ 2.
    "bootstrap" are the 2.5 % and 97.5 % quantiles of the means of n values drawn with replacement, 10,000
    times, the same draws for all cells. It assumes no distribution, but is too narrow where seeds are few: of
    normal values 0.62 of Student's at n = 5, 0.82 at n = 10, 0.91 at n = 20.

    Args:
        values: of the seeds; those that are not finite count as missing.
        kind: of `INTERVALS`.

    Returns:
        Low and high end; NaN with fewer than two values.

    Example:
        >>> [round(float(end), 3) for end in interval([0.1, 0.2, 0.3], "student")]
        [-0.048, 0.448]
        >>> interval([0.1], "student")
        (nan, nan)

    Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapters 12 and 13.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    n = len(known)
    if n < 2:
        return np.nan, np.nan
    if kind == "student":
        from scipy import stats  # takes a second to import, and most commands ask for no interval

        reach = stats.t.ppf((1 + LEVEL) / 2, n - 1) * known.std(ddof=1) / np.sqrt(n)
        return known.mean() - reach, known.mean() + reach
    low, high = np.quantile(_drawn(n) @ known / n, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@functools.lru_cache(maxsize=8)
def _drawn(n: int) -> np.ndarray:
    """How often each of n values is drawn, in every draw; figures ask for an interval in every round."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), DRAWS)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: the k-th smallest of m times m − k + 1, never below the ones before it.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values)
    adjusted = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    found = np.empty_like(values)
    found[order] = np.minimum(adjusted, 1.0)
    return found


def against(best: str, cells: pd.DataFrame) -> dict[str, float]:
    """p-values of the difference from one rule, of every other rule of a row.

    A paired t-test over the seeds that both have, in which partition, initial model and draws are the same,
    of what rules are ranked by: a seed's test error, or its attack success rate where that is larger. The
    p-values are Holm's over the row.

    Args:
        best: the rule to compare with.
        cells: of one attack and combination of axes: a row per rule and seed.

    Returns:
        By rule; one that shares fewer than `FEWEST` seeds with the best, both with finite numbers, is left
        out.
    """
    harm = np.fmax(cells["test_error"], cells["attack_success_rate"].where(cells["test_error"].notna()))
    keys = [cells["seed"], cells["aggregator"].astype(str)]
    table = harm.astype(float).groupby(keys).mean().unstack()
    found: dict[str, float] = {}
    for rule in table.columns.drop(best, errors="ignore") if best in table else ():
        difference = (table[rule] - table[best]).to_numpy()
        difference = difference[np.isfinite(difference)]
        if len(difference) >= FEWEST:
            found[rule] = paired(difference)
    return dict(zip(found, holm(list(found.values())).tolist(), strict=True))


def paired(difference: np.ndarray) -> float:
    """The two-sided p-value of a mean difference of 0; of differences that are all alike 1 or 0."""
    if np.ptp(difference) < ROUNDING:
        return float(abs(difference[0]) < ROUNDING)
    from scipy import stats

    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def alike(p_values: Mapping[str, float]) -> set[str]:
    """The rules whose difference may be due to the seeds."""
    return {rule for rule, p in p_values.items() if p >= ALPHA}


def explain_alike() -> str:
    """The sign of `alike` in words."""
    return (
        f"{ALIKE} The difference from the best of its row may be due to the seeds: paired t-test over the "
        f"seeds that both have (at least {FEWEST}), p ≥ {ALPHA} after Holm's correction within the row."
    )


def explain_interval(kind: str, counts: Sequence[int]) -> str:
    """The interval in brackets in words, with the numbers of seeds that are behind the means.

    Example:
        >>> explain_interval("student", [1])
        'No confidence intervals: a single seed has none.'
    """
    known = sorted({count for count in counts if count > 1})
    if not known:
        return "No confidence intervals: a single seed has none."
    how = {"student": "Student's t", "bootstrap": f"percentile bootstrap, {DRAWS:,} draws"}[kind]
    n = f"n = {known[0]}" if len(known) == 1 else f"n = {known[0]} to {known[-1]}"
    text = f"In brackets the 95 % confidence interval of the mean ({how}, {n} seeds)."
    few = kind == "bootstrap" and known[0] < 10
    return text + " Of so few seeds it is too narrow; student is not." * few


def interval_columns(groups: Any, name: str, kind: str) -> dict[str, pd.Series]:
    """The columns NAME_low and NAME_high of a summary."""
    ends = groups[name].apply(lambda values: interval(values.to_numpy(), kind))
    return {f"{name}_{end}": ends.map(lambda pair, k=k: pair[k]) for k, end in enumerate(("low", "high"))}
