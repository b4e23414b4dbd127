"""FLAME: rows, references and wrong versions."""

import jax
import numpy as np

from tests.rules.case import RuleCase
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, follows, wide

LARGEST = float(np.finfo(np.float32).max)


def usable(rows):
    """The rows that have finite entries, and a norm that float32 holds."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.array([np.sqrt(sum(x * x for x in row)) for row in rows])
    return [i for i in range(len(rows)) if np.isfinite(rows[i]).all() and norms[i] <= LARGEST], norms


def cosine_distances(rows, origin=0.0):
    """1 − cos, as half the squared distance of the directions; 1 from a zero row."""
    directions = []
    for row in np.asarray(rows, np.float64) + origin:
        largest = np.abs(row).max(initial=0.0)
        row = row / largest if largest >= 2.0**-126 else 0 * row
        directions.append(row / (np.linalg.norm(row) or 1.0))
    directions = np.array(directions)
    distances = np.square(directions[:, None] - directions[None]).sum(-1) / 2
    zero = ~directions.any(1)
    distances[zero[:, None] | zero[None]] = 1.0
    np.fill_diagonal(distances, 0.0)
    return distances


def majority(distances, slack=1.0):
    """Joined pair by pair, nearest first, until more than half hang together; ties belong to it."""
    n = len(distances)
    labels = np.arange(n)
    pairs = sorted((distances[i, j], i, j) for i in range(n) for j in range(i))
    height = 0.0
    for distance, i, j in pairs:
        if np.bincount(labels).max() > n // 2 and distance > height * slack:
            break
        if np.bincount(labels).max() <= n // 2:
            height = distance
        labels[labels == labels[i]] = labels[j]
    return np.flatnonzero(labels == np.bincount(labels).argmax())


def flame(updates, params, noise=None, noise_multiplier=1e-3, on="models", select=majority):
    """`noise` (d,) is standard normal."""
    everything = np.asarray(updates, np.float64)
    kept, norms = usable(everything)
    if not kept:
        return np.zeros(everything.shape[1])
    rows, norms = everything[kept], norms[kept]
    middle = np.median(norms)
    crowd = select(cosine_distances(rows, np.asarray(params, np.float64) if on == "models" else 0.0))
    factors = [min(1.0, middle / norms[i]) if norms[i] > 0 else 1.0 for i in crowd]
    mean = sum(f * rows[i] for f, i in zip(factors, crowd, strict=True)) / len(crowd)
    return mean if noise is None else mean + noise_multiplier * middle * np.asarray(noise, np.float64)


def drawn(updates, params, key, **hyper):
    return params, np.asarray(jax.random.normal(key, np.shape(updates)[1:], np.float32))


def jittered(distances, noise, tries=40):
    """The distances, and what rounding of √(2·distance) by `noise` could make of them."""
    yield distances
    random = np.random.default_rng(0)
    for _ in range(tries):
        moved = np.sqrt(2 * distances) + noise * np.triu(random.uniform(-1, 1, distances.shape), 1)
        moved = np.triu(np.square(np.maximum(moved, 0)) / 2, 1)
        yield moved + moved.T


def averages_a_majority(case, updates, others, result):
    """For FLAME: distances that tie but for rounding may go either way."""
    rows, params = wide(updates), wide(others["params"])
    origin = params if case.hyper.get("on") != "updates" else np.zeros_like(params)
    apart = np.minimum(1, np.linalg.norm(rows, axis=1) / np.linalg.norm(rows + origin, axis=1).clip(1e-30))
    noise = ROUNDING * (apart[:, None] + apart[None])
    arrays = drawn(updates, others["params"], others["key"])
    scale = np.median(np.linalg.norm(rows, axis=1))
    exact = cosine_distances(rows, origin)
    for distances in jittered(exact, noise):
        for slack in (1 + 1e-5, 1 + 1e-4):
            crowd = majority(distances, slack)
            expected = flame(updates, *arrays, **case.hyper, select=lambda _, crowd=crowd: crowd)
            if follows(result, expected, scale):
                return True
    return False


def flame_with(radius=np.median, over="kept", select=majority, origin=1.0, clipped=True, deviation=1):
    def mutant(updates, params, noise=None, noise_multiplier=1e-3, on="models"):
        rows = wide(updates)
        norms = np.linalg.norm(rows, axis=1)
        crowd = select(cosine_distances(rows, origin * wide(params) if on == "models" else 0.0))
        middle = radius(norms[crowd] if over == "kept" else norms)
        factors = np.minimum(1, middle / norms[crowd]) if clipped else np.ones(len(crowd))
        mean = (factors[:, None] * rows[crowd]).mean(0)
        return mean + (noise_multiplier * middle) ** deviation * np.asarray(noise, np.float64)

    return mutant


def at_least_half(distances):
    """A cluster that holds half of the rows is enough."""
    n = len(distances)
    for height in np.unique(distances):
        reach = distances <= height
        for _ in range(n):
            reach = reach @ reach
        if reach.sum(1).max() >= n // 2:
            return np.flatnonzero(reach[reach.sum(1).argmax()])
    raise AssertionError


CASES = [
    RuleCase(
        "flame",
        flame,
        {"noise_multiplier": 0.0},
        arrays=("params", "key"),
        draws=drawn,
        tolerated=5,
        hostile=no_longer_than_honest,
        translation=False,
        duplicates=True,
        accepts=averages_a_majority,
        largest=300,
    ),
    RuleCase(
        "flame",
        flame,
        {"on": "updates"},
        arrays=("params", "key"),
        draws=drawn,
        translation=False,
        # The noise keeps its sign.
        scaling=(1e-30, 1e-8, 2.0**40, 1e30),
        identical=False,
        accepts=averages_a_majority,
        largest=300,
    ),
]


MUTANTS = {
    "flame": {
        "median norm of the kept rows": flame_with(),
        "lower median": flame_with(lambda norms: np.sort(norms)[(len(norms) - 1) // 2], over="all"),
        "mean norm": flame_with(np.mean, over="all"),
        "not clipped": flame_with(over="all", clipped=False),
        "variance for the deviation": flame_with(over="all", deviation=2),
        "no noise": lambda updates, params, noise=None, **options: flame(updates, params, None, **options),
        "half is enough": flame_with(over="all", select=at_least_half),
        "everybody": flame_with(over="all", select=lambda distances: np.arange(len(distances))),
        "angles of updates": flame_with(over="all", origin=0.0),
        "angles from the negative model": flame_with(over="all", origin=-1.0),
    },
}
