"""FLARE: rows, reference and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import wide


def kernel_mean(left, right, skip=False):
    values = np.exp(-0.5 * np.sum((left[:, None] - right[None]) ** 2, axis=2))
    return (values.sum() - len(left)) / (len(left) * (len(left) - 1)) if skip else values.mean()


def discrepancies(samples, skip=False):
    own = [kernel_mean(sample, sample, skip) for sample in samples]
    pairs = [[kernel_mean(left, right) for right in samples] for left in samples]
    return np.add.outer(own, own) - 2 * np.array(pairs)


def weights_of(samples, temperature=1.0, itself=False, by="softmax", skip=False):
    apart = discrepancies(samples, skip)
    votes = np.zeros(len(samples))
    for i, row in enumerate(apart):
        order = [j for j in np.argsort(row, kind="stable") if itself or j != i]
        votes[order[: round(len(samples) / 2)]] += 1
    if by == "votes":
        return votes / votes.sum()
    shares = np.exp((votes - votes.max()) / temperature)
    return shares / shares.sum()


def flare(updates, params, features, root_x, temperature=1.0, of_updates=False, **how):
    rows, center, x = wide(updates), wide(params), wide(root_x)
    present = finite_rows(rows)
    if not present:
        return np.zeros(rows.shape[1])
    samples = [features(rows[i] if of_updates else center + rows[i], x) for i in present]
    return weights_of(samples, temperature, **how) @ rows[present]


def weighs_every_row(case, updates, others, result):
    """Near ties of votes may go either way: some mean of the rows."""
    rows = wide(updates)
    slack = 1e-5 * np.abs(rows).max(0) + 1e-30
    return bool(((rows.min(0) - slack <= result) & (result <= rows.max(0) + slack)).all())


def flare_with(**changed):
    return lambda *arrays, **options: flare(*arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "flare",
        flare,
        {"temperature": 1.5},
        ("temperature",),
        arrays=("params", "features", "root_x"),
        translation=False,
        scaling=(),
        accepts=weighs_every_row,
        largest=129,
    )
]


MUTANTS = {
    "flare": {
        "votes for itself": flare_with(itself=True),
        "shares of the votes": flare_with(by="votes"),
        "another temperature": flare_with(temperature=1.0),
        "features of the update": flare_with(of_updates=True),
    }
}
