"""A row of the table of rules: how to call one, what it survives, what holds of it, and data to try it on."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from fljax.aggregators import POST_AGGREGATORS, RULES, mean
from fljax.base import Head, Layers
from fljax.numerics.checks import compute_dtype, output_dtype
from tests.support.programs import optimized

N, D = 12, 37


# What calls a model with every row, which devices that hold columns must put together first.
CALLED = {"predict", "features", "root_loss"}


# Arrays with one entry per row of the updates: they move with the rows.
PER_ROW = ("weights", "history", "scores")


# Arrays in the space of the updates: they scale and shift with them.
IN_SPACE = ("root_update", "center", "history", "params")


EVERY_FACTOR = (-1.0, 1e-30, 1e-8, 2.0**40, 1e30)


def make(
    seed: int = 0, n: int = N, d: int = D, spread: float = 1.0, *, uneven: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray | jax.Array]]:
    """Updates around a common direction, and every other array a rule may take.

    `uneven` rows are of very different lengths, spreads and directions, so that near ties between a rule and
    its variants come apart.
    """
    random = np.random.default_rng(seed)
    center = random.normal(size=d)
    noise = spread * random.normal(size=(n, d))
    updates = center + noise
    if uneven:
        along = random.uniform(-1.0, 1.5, (n, 1))
        updates = random.uniform(0.1, 2.0, (n, 1)) * (along * center + random.uniform(0.1, 1, (n, 1)) * noise)
    updates = updates.astype(np.float32)
    others = {
        "weights": random.uniform(1, 5, n).astype(np.float32),
        "root_update": (center + 0.3 * random.normal(size=d)).astype(np.float32),
        "center": (center + 0.5 * random.normal(size=d)).astype(np.float32),
        "history": (updates + 2 * center + spread * random.normal(size=(n, d))).astype(np.float32),
        "key": jax.random.key(seed),
        "params": (center + 2.0 * random.normal(size=d)).astype(np.float32),
        "scores": (random.uniform(0.05, 0.1, n) + 0.2 * (np.arange(n) % 4 == 1)).astype(np.float32),
    }
    if uneven:
        others["scores"] = random.uniform(0.0, 0.2, n).astype(np.float32)
    others["root_x"] = random.uniform(size=(6, 2)).astype(np.float32)
    target = others["params"] + center.astype(np.float32)
    return updates, {**others, **model_of(d), "root_loss": Partial(quadratic, target)}


def model_of(d: int) -> dict[str, Any]:
    """What a round has of a model with d parameters: its last layer comes first, (M,) and (h, M)."""
    classes = 3 if d >= 12 else 1 + (d >= 5)
    features = min(3, (d - classes) // classes)
    rest = d - (features + 1) * classes
    inner = rest // 5
    shapes = [(classes,), (features, classes), (inner,), (4, inner), (rest - 5 * inner,)]
    head = Head(classes, features, classes, bias=0)
    called = {"predict": Partial(predict), "features": Partial(features_of)}
    return {"layers": Layers(shapes), "head": head, **called}


def quadratic(target: Any, params: Any) -> Any:
    """A loss that is smallest at the target."""
    return 0.5 * ((params - target) ** 2).sum()


def features_of(params: Any, x: Any) -> Any:
    """The inputs of the last layer of a small network, from arrays of NumPy or JAX."""
    xp = np if isinstance(params, np.ndarray) else jnp
    head = model_of(params.size)["head"]
    inner = xp.resize(params[(head.num_features + 1) * head.num_classes :], (2, head.num_features))
    return xp.tanh(x @ inner + 0.5 * xp.arange(head.num_features))


def predict(params: Any, x: Any) -> Any:
    """Its outputs."""
    head = model_of(params.size)["head"]
    kernel = params[head.kernel : (head.num_features + 1) * head.num_classes]
    return features_of(params, x) @ kernel.reshape(head.num_features, -1) + params[: head.num_classes]


# What every rule is compared with its reference on; test_mutants.py says that this tells rules apart.
SAMPLES = [*(make(seed) for seed in range(3)), *(make(seed, uneven=True) for seed in range(12))]


class Poisoned(NamedTuple):
    """What the hostile test shows to a criterion.

    `result` came out, `clean` comes out of the rows before `kept`'s complement was poisoned; `honest` are the
    rows `kept`, `updates` all of them with the hostile ones, `others` the arrays of `make`.
    """

    result: np.ndarray
    clean: np.ndarray
    honest: np.ndarray
    kept: np.ndarray
    updates: np.ndarray
    others: Mapping[str, Any]


def around_hull(widths: float) -> Callable[[Poisoned], bool]:
    """Per coordinate between the smallest and the largest honest value, or that many widths farther."""

    def criterion(seen: Poisoned) -> bool:
        low, high = seen.honest.min(0), seen.honest.max(0)
        slack = 1e-5 + widths * (high - low)
        return bool(((low - slack <= seen.result) & (seen.result <= high + slack)).all())

    return criterion


hull = around_hull(0.0)


def near(factor: float) -> Callable[[Poisoned], bool]:
    """No farther from the honest mean than `factor` times the farthest honest row."""

    def criterion(seen: Poisoned) -> bool:
        mean = seen.honest.astype(np.float64).mean(0)
        radius = np.linalg.norm(seen.honest - mean, axis=1).max()
        return bool(np.linalg.norm(seen.result - mean) <= factor * radius)

    return criterion


def within(radius: float, of: str) -> Callable[[Poisoned], bool]:
    """In the ball of `radius` around the array `of`, whatever the hostile rows are."""
    return lambda seen: bool(np.linalg.norm(seen.result - seen.others[of]) <= radius * (1 + 1e-5))


def norm(factor: float, of: str) -> Callable[[Poisoned], bool]:
    """No longer than `factor` times the array `of`, whatever the hostile rows are."""
    return lambda seen: bool(
        np.linalg.norm(seen.result) <= factor * np.linalg.norm(seen.others[of]) * (1 + 1e-5)
    )


def behind_the_mean(piece: Callable[..., Any]) -> Callable[..., Any]:
    """A post-aggregator as a rule."""
    reads = ["updates"] if "updates" in inspect.signature(piece).parameters else []

    def rule(updates: Any, *arrays: Any, **hyper: Any) -> Any:
        update = mean(updates.astype(compute_dtype(updates)))
        return piece(update, *[updates] * len(reads), *arrays, **hyper).astype(output_dtype(updates))

    return rule


@dataclass(frozen=True, eq=False)
class RuleCase:
    """A rule with its arguments for n = 12 rows and what is to hold for it.

    Attributes:
        name: its name in the registry.
        reference: the float64 version, called with the same arguments.
        hyper: keyword arguments.
        traced: which of them may be traced.
        arrays: arrays by position after the updates, names of `make`'s.
        draws: for a reference that takes what the rule drew with its key: `draws(updates, *arrays, **hyper)`
            gives the arrays for the reference in place of `arrays`.
        rtol: tolerance of the comparison with the reference, float32 and float64; relative, and a tenth of it
            absolute.
        tolerated: how many hostile rows the hostile test may put in; none of them among the rows `honest`.
        hostile: what must be true of the result then, besides being finite where `finite`.
        permutation: the order of the rows does not matter (a pre-aggregator's rows move along).
        translation: moves with the updates and the arrays in their space.
        scaling: factors that the result follows when the updates, the arrays in their space and the
            hyper-parameters `units` are multiplied by them (those by the magnitude).
        degree: 0 for rules whose result does not follow but keeps its length: it takes the factor's sign.
        duplicates: repeating the whole stack leaves the result alone.
        identical: equal rows come out as that row; otherwise as the reference has it.
        differentiable: the gradient is that of finite differences at a generic point.
        accepts: what must hold of a result on any finite input; see py.
        largest: how many rows its reference, or its own search, can take.
        twins: names of other entries that these arguments make the same rule.
        mapped_rtol: how far a vmapped call may be from single ones, as for attacks.
    """

    name: str
    reference: Callable[..., Any]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    traced: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    draws: Callable[..., tuple[Any, ...]] | None = None
    rtol: tuple[float, float] = (2e-5, 1e-12)
    tolerated: int = 0
    honest: tuple[int, ...] = ()
    hostile: Callable[[Poisoned], bool] = hull
    finite: bool = True
    permutation: bool = True
    translation: bool = True
    scaling: tuple[float, ...] = EVERY_FACTOR
    units: tuple[str, ...] = ()
    degree: int = 1
    duplicates: bool = False
    identical: bool = True
    differentiable: bool = True
    accepts: Callable[..., bool] | None = None
    largest: int = 1000
    twins: tuple[str, ...] = ()
    mapped_rtol: float = 1e-5
    registry: Mapping[str, Any] = field(default_factory=lambda: RULES)

    @property
    def function(self) -> Callable[..., Any]:
        function = self.registry[self.name].function
        return behind_the_mean(function) if self.registry is POST_AGGREGATORS else function

    @property
    def id(self) -> str:
        shown = ",".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.name}({shown})" + (f"+{'+'.join(self.arrays)}" if self.arrays else "")

    def call(self, updates: Any, others: Mapping[str, Any], **changed: Any) -> Any:
        """The rule's result."""
        return self.function(updates, *(others[name] for name in self.arrays), **{**self.hyper, **changed})

    def expected(self, updates: Any, others: Mapping[str, Any], **changed: Any) -> np.ndarray:
        """The reference's result."""
        arrays = [others[name] for name in self.arrays]
        hyper = {**self.hyper, **changed}
        if self.draws is not None:
            arrays = list(self.draws(updates, *arrays, **hyper))
        return self.reference(updates, *arrays, **hyper)


@lru_cache
def compiled(case: RuleCase) -> Callable[..., Any]:
    """The rule, compiled once for all tests, as users compile it."""
    return optimized(lambda updates, others: case.call(updates, others))


def first_rows(cases: Sequence[RuleCase]) -> list[RuleCase]:
    """One row of each registry entry."""
    return list({(case.name, id(case.registry)): case for case in reversed(cases)}.values())[::-1]


@lru_cache
def on_samples(case: RuleCase) -> list[np.ndarray]:
    """The rule's results on `SAMPLES`."""
    return [np.asarray(compiled(case)(updates, others)) for updates, others in SAMPLES]


@lru_cache
def expected_on_samples(case: RuleCase) -> list[np.ndarray]:
    """The reference's, for which nothing is compiled."""
    return [case.expected(updates, others) for updates, others in SAMPLES]
