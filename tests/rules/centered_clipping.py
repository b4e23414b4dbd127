"""Centered clipping: rows, references and wrong versions."""

import numpy as np

from tests.rules.case import RuleCase, within
from tests.rules.clip import clip, to_length
from tests.rules.rounding import equals_reference, wide


def centered_clipping(updates, center, radius, num_iterations=1):
    """Karimireddy et al. 2021: v ← v + (1/n) Σ (x_i − v) min(1, τ / ‖x_i − v‖)."""
    rows, point = np.asarray(updates, np.float64), np.asarray(center, np.float64)
    for _ in range(num_iterations):
        point = point + clip(rows - point, radius).sum(0) / len(rows)
    return point


def of_clipped_steps(case, rows, others, expected):
    return np.linalg.norm(others["center"]) + case.hyper["radius"]


def centered_clipping_with(step):
    def mutant(updates, center, radius, num_iterations=1):
        point = np.asarray(center, np.float64)
        for _ in range(num_iterations):
            shifts = wide(updates) - point
            lengths = np.linalg.norm(shifts, axis=1, keepdims=True)
            point = point + step(shifts, np.minimum(1, radius / lengths), lengths, radius)
        return point

    return mutant


CASES = [
    *(
        RuleCase(
            "centered_clipping",
            centered_clipping,
            {"radius": radius, "num_iterations": steps},
            ("radius",),
            arrays=("center",),
            tolerated=11,
            hostile=within(radius * steps, of="center"),
            accepts=equals_reference(of_clipped_steps),
            units=("radius",),
            duplicates=True,
            identical=False,
        )
        for radius, steps in ((6.5, 1), (1.5, 4))
    ),
]


MUTANTS = {
    "centered_clipping": {
        "divides by the sum of the factors": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (factors * shifts).sum(0) / factors.sum()
        ),
        "sum for the mean": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (factors * shifts).sum(0)
        ),
        "every shift to the radius": centered_clipping_with(
            lambda shifts, factors, lengths, radius: (shifts / lengths * radius).mean(0)
        ),
        "clips coordinates": centered_clipping_with(
            lambda shifts, factors, lengths, radius: np.clip(shifts, -radius, radius).mean(0)
        ),
        "clips the mean": centered_clipping_with(
            lambda shifts, factors, lengths, radius: to_length(shifts.mean(0)[None], radius)[0]
        ),
        "around zero": lambda updates, center, radius, num_iterations=1: centered_clipping(
            updates, np.zeros_like(center), radius, num_iterations
        ),
        "once": lambda updates, center, radius, num_iterations=1: centered_clipping(updates, center, radius),
        "once more": lambda updates, center, radius, num_iterations=1: centered_clipping(
            updates, center, radius, num_iterations + 1
        ),
    },
}
