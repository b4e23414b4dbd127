"""CRFL's training: rows, references and wrong versions."""

import jax
import numpy as np

from tests.rules.case import RuleCase
from tests.rules.foolsgold import finite_rows
from tests.rules.rounding import ROUNDING, follows, wide


def drawn_noise(updates, params, key, **hyper):
    """The parameters, and the standard normal numbers that `crfl` drew."""
    with jax.enable_x64(False):
        return params, np.asarray(jax.random.normal(key, np.shape(updates)[1:], np.float32))


def crfl(
    updates, params, noise, radius, growth=0.0, cap=np.inf, std=0.01, clip="model", round=0, weights=None
):
    rows, model = np.asarray(updates, np.float64), np.asarray(params, np.float64)
    weights = np.ones(len(rows)) if weights is None else weights
    finite = finite_rows(rows)
    mean = sum(weights[i] * rows[i] for i in finite) / sum(weights[i] for i in finite)
    limit = min(cap, radius + growth * (round + 1))
    clipped = model + mean if clip == "model" else mean
    clipped = clipped * min(1.0, limit / np.linalg.norm(clipped))
    update = clipped - model if clip == "model" else clipped
    return update + std * np.asarray(noise, np.float64)


def in_the_ball(seen):
    """The next model is no longer than the radius, and the noise."""
    model = seen.result + seen.others["params"]
    return np.linalg.norm(model) <= 3.5 + 0.1 * (np.sqrt(len(model)) + 4)


def to_rounding(case, updates, others, result):
    rows, model = wide(updates), np.abs(wide(others["params"]))
    return follows(result, case.expected(updates, others), np.abs(rows).max(0) + model + ROUNDING)


def crfl_options(**changed):
    def mutant(updates, params, noise, **options):
        options = {**options, **{name: change(options.get(name)) for name, change in changed.items()}}
        return crfl(updates, params, noise, **options)

    return mutant


CASES = [
    RuleCase(
        "crfl",
        crfl,
        {"radius": 3.0, "growth": 0.5, "std": 0.1},
        ("radius", "growth", "std"),
        arrays=("params", "key"),
        draws=drawn_noise,
        tolerated=11,
        hostile=in_the_ball,
        translation=False,
        scaling=(1e-8, 2.0**40),
        units=("radius", "growth", "std"),
        duplicates=True,
        identical=False,
        accepts=to_rounding,
    ),
    RuleCase(
        "crfl",
        crfl,
        {"radius": 3.0, "growth": 0.5, "cap": 2.0, "std": 0.0, "clip": "update"},
        ("cap",),
        arrays=("params", "key"),
        draws=drawn_noise,
        translation=False,
        scaling=(),
        identical=False,
        accepts=to_rounding,
    ),
]


MUTANTS = {
    "crfl": {
        "not clipped": crfl_options(radius=lambda radius: 1e9),
        "the first radius stays": crfl_options(growth=lambda growth: 0.0),
        "no cap": crfl_options(cap=lambda cap: np.inf),
        "no noise": crfl_options(std=lambda std: 0.0),
        "variance for deviation": crfl_options(std=lambda std: std**2),
        "always the model": crfl_options(clip=lambda clip: "model"),
        "always the update": crfl_options(clip=lambda clip: "update"),
        "the noise is clipped": lambda updates, params, noise, **options: crfl(
            updates + options["std"] * wide(noise), params, 0.0 * noise, **options
        ),
    },
}
