"""Adaptive clipping (ARC): rows, references and wrong versions."""

import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import Poisoned, RuleCase
from tests.rules.clip import clip, to_length
from tests.rules.rounding import equals_reference, of_result_rows, wide


def adaptive_clip(updates, num_malicious):
    """ARC, Allouah et al. 2024: the ⌊2 (f/n) (n − f)⌋ longest rows are cut to the length of the next one."""
    rows = np.asarray(updates, np.float64)
    n = len(rows)
    count = 2 * num_malicious * (n - num_malicious) // n
    return clip(rows, sorted((np.linalg.norm(row) for row in rows), reverse=True)[count])


def shortened(seen: Poisoned) -> bool:
    """For ARC: no row is longer than the longest honest one, and honest rows keep their direction."""
    longest = np.linalg.norm(seen.honest, axis=1).max()
    mine = seen.result[seen.kept]
    factors = np.linalg.norm(mine, axis=1) / np.linalg.norm(seen.honest, axis=1)
    return bool(
        (np.linalg.norm(seen.result, axis=1) <= longest * (1 + 1e-5)).all()
        and (factors <= 1 + 1e-5).all()
        and np.allclose(mine, factors[:, None] * seen.honest, rtol=1e-5, atol=1e-6)
    )


def adaptive_clip_with(count, further=0):
    def mutant(updates, num_malicious):
        rows = wide(updates)
        lengths = np.sort(np.linalg.norm(rows, axis=1))[::-1]
        return to_length(rows, lengths[count(len(rows), num_malicious) + further])

    return mutant


CASES = [
    # f = 5: 5.8 of 12 rows, where rounding up or to the nearest would differ.
    *(
        RuleCase(
            "adaptive_clip",
            adaptive_clip,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=shortened,
            accepts=equals_reference(of_result_rows),
            translation=False,
            registry=PRE_AGGREGATORS,
        )
        for f in (3, 5)
    ),
]


MUTANTS = {
    "adaptive_clip": {
        "2f rows": adaptive_clip_with(lambda n, f: 2 * f),
        "f rows": adaptive_clip_with(lambda n, f: f),
        "rounded": adaptive_clip_with(lambda n, f: round(2 * f / n * (n - f))),
        "rounded up": adaptive_clip_with(lambda n, f: -(-2 * f * (n - f) // n)),
        "to its own length": adaptive_clip_with(lambda n, f: 2 * f * (n - f) // n, further=-1),
        "no factor two": adaptive_clip_with(lambda n, f: f * (n - f) // n),
    },
}
