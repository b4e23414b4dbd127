"""One row per registry entry: how to call it, how many malicious rows it survives, which properties hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS, RULES
from tests.rules import (
    properties,
    properties_similarity,
    properties_spectral,
    reference,
    reference_similarity,
    reference_spectral,
)
from tests.rules.properties import (
    equals_reference,
    of_bucket,
    of_clipped_steps,
    of_column,
    of_column_beside_usual_rows,
    of_kept_values,
    of_result,
    of_result_rows,
    of_trusted_share,
)
from tests.support.programs import optimized

N, D = 12, 37
# Arrays with one entry per row of the updates: they move with the rows.
PER_ROW = ("weights", "history")
# Arrays in the space of the updates: they scale and shift with them.
IN_SPACE = ("root_update", "center", "history")
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
    }
    return updates, others


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


def rows_stay(seen: Poisoned) -> bool:
    """For pre-aggregators: what became of an honest row does not depend on the hostile ones."""
    return np.allclose(seen.result[seen.kept], seen.clean[seen.kept], rtol=1e-5, atol=1e-6)


def mixed_with_neighbors(seen: Poisoned) -> bool:
    """For NNM: an honest row moves no farther than to the honest row farthest from it."""
    reach = [np.linalg.norm(seen.honest - row, axis=1).max() for row in seen.honest]
    moved = np.linalg.norm(seen.result[seen.kept] - seen.honest, axis=1)
    return bool((moved <= np.array(reach) * (1 + 1e-5)).all())


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


@lru_cache
def _buckets_of_identity(bucket_size: int) -> Callable[..., jax.Array]:
    bucketing = PRE_AGGREGATORS["bucketing"].function
    return jax.jit(lambda identity, key: bucketing(identity, key, bucket_size=bucket_size))


def bucket_members(updates: Any, key: jax.Array, *, bucket_size: int) -> tuple[np.ndarray]:
    """Which rows `bucketing` put into which bucket, read off the rows of the identity."""
    identity = np.eye(len(updates), dtype=np.float32)
    return (np.asarray(_buckets_of_identity(bucket_size)(identity, key)) > 0,)


def whole_buckets_stay(bucket_size: int) -> Callable[[Poisoned], bool]:
    """For bucketing: a bucket without a hostile row is what it was."""

    def criterion(seen: Poisoned) -> bool:
        (members,) = bucket_members(seen.updates, seen.others["key"], bucket_size=bucket_size)
        whole = ~np.delete(members, seen.kept, axis=1).any(1)
        return whole.any() and np.allclose(seen.result[whole], seen.clean[whole], rtol=1e-5, atol=1e-6)

    return criterion


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
        accepts: what must hold of a result on any finite input; see properties.py.
        largest: how many rows its reference, or its own search, can take.
        twins: names of other entries that these arguments make the same rule.
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
    registry: Mapping[str, Any] = field(default_factory=lambda: RULES)

    @property
    def function(self) -> Callable[..., Any]:
        return self.registry[self.name].function

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
    """The rule, compiled once for all tests."""
    return optimized(lambda updates, others: case.call(updates, others))


def first_rows(cases: Sequence[RuleCase]) -> list[RuleCase]:
    """One row of each registry entry."""
    return list({(case.name, id(case.registry)): case for case in reversed(cases)}.values())[::-1]


@lru_cache
def on_samples(case: RuleCase) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rule's and the reference's results on `SAMPLES`."""
    results = [np.asarray(compiled(case)(updates, others)) for updates, others in SAMPLES]
    return results, [case.expected(updates, others) for updates, others in SAMPLES]


RULE_CASES = [
    RuleCase("mean", reference.mean, duplicates=True, accepts=equals_reference(of_column)),
    RuleCase(
        "mean", reference.mean, arrays=("weights",), duplicates=True, accepts=equals_reference(of_column)
    ),
    RuleCase("median", reference.median, tolerated=5, duplicates=True, accepts=equals_reference(of_result)),
    RuleCase(
        "trimmed_mean",
        reference.trimmed_mean,
        {"trim": 3},
        ("trim",),
        tolerated=3,
        accepts=equals_reference(of_kept_values),
    ),
    RuleCase(
        "trimmed_mean",
        reference.trimmed_mean,
        {"trim": 0},
        ("trim",),
        twins=("mean",),
        accepts=equals_reference(of_kept_values),
    ),
    # The n − f honest values are all as near to the target as the honest range is wide, so nothing farther
    # is averaged.
    *(
        RuleCase(
            "mean_around_median",
            reference.mean_around_median,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=properties.averages_values_near_median,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "phocas",
            reference.phocas,
            {"trim": f},
            ("trim",),
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=properties.averages_values_near_trimmed_mean,
        )
        for f in (3, 4)
    ),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 4},
        ("num_malicious",),
        tolerated=4,
        hostile=near(3.0),
        accepts=properties.selects_a_row,
    ),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 3, "power": 1},
        ("num_malicious",),
        tolerated=3,
        hostile=near(3.0),
        accepts=properties.selects_a_row,
    ),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 3, "num_neighbors": 8},
        ("num_neighbors",),
        tolerated=3,
        hostile=near(3.0),
        accepts=properties.selects_a_row,
    ),
    # One neighbour: a nearest pair ties.
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 4, "num_neighbors": 1},
        ("num_malicious", "num_neighbors"),
        accepts=properties.selects_a_row,
    ),
    # A selected row lies within √((n−f−2) / (n−2f−2)) honest diameters of some honest row.
    RuleCase(
        "multi_krum",
        reference.multi_krum,
        {"num_malicious": 4},
        ("num_malicious",),
        tolerated=4,
        hostile=near(3.0),
        accepts=properties.averages_selected_rows,
    ),
    RuleCase(
        "multi_krum",
        reference.multi_krum,
        {"num_malicious": 3, "num_selected": 5},
        ("num_malicious", "num_selected"),
        tolerated=3,
        hostile=near(3.0),
        accepts=properties.averages_selected_rows,
    ),
    RuleCase(
        "multi_krum",
        reference.multi_krum,
        {"num_malicious": 3, "power": 1, "num_neighbors": 8, "num_selected": 4},
        ("num_neighbors",),
        tolerated=3,
        hostile=near(3.0),
        accepts=properties.averages_selected_rows,
    ),
    # The last picks have one neighbour each: for f = 2 one of them, for f = 1 two.
    *(
        RuleCase(
            "bulyan",
            reference.bulyan,
            {"num_malicious": f},
            ("num_malicious",),
            largest=300,
            tolerated=f,
            hostile=around_hull(1.0),
            accepts=properties.averages_values_near_median_of_picks,
        )
        for f in (2, 1)
    ),
    # Converged: the optimum to the iteration's tolerance. With W_h of the weight honest and W_m not, it lies
    # within 2 W_h / (W_h − W_m) of the honest rows (Pillutla et al. 2022).
    RuleCase(
        "geometric_median",
        reference.geometric_median,
        {"max_iterations": 1000},
        ("max_iterations",),
        tolerated=5,
        hostile=near(7.0),
        rtol=(1e-4, 1e-4),
        accepts=properties.nearly_minimizes_distances,
        duplicates=True,
    ),
    RuleCase(
        "geometric_median",
        reference.geometric_median,
        {"max_iterations": 1000},
        arrays=("weights",),
        tolerated=3,
        hostile=near(5.0),
        rtol=(1e-4, 1e-4),
        accepts=properties.nearly_minimizes_distances,
        duplicates=True,
    ),
    RuleCase(
        "geometric_median",
        reference.geometric_median,
        {"start": "zero", "smoothing": 0.1, "smoothing_unit": 1.0, "max_iterations": 3, "tolerance": 0.0},
        ("smoothing", "smoothing_unit"),
        translation=False,
        units=("smoothing_unit",),
        duplicates=True,
        differentiable=False,  # its gradient is that of the exact minimum
        accepts=equals_reference(of_column_beside_usual_rows),
    ),
    # Smoothing as large as the distances, so that it matters. 100 steps need not get to the minimum.
    RuleCase(
        "geometric_median",
        reference.geometric_median,
        {"smoothing": 1.1, "max_iterations": 1000},
        ("smoothing",),
        rtol=(1e-4, 1e-4),
        duplicates=True,
        accepts=properties.nearly_minimizes_distances,
    ),
    *(
        RuleCase(
            "centered_clipping",
            reference.centered_clipping,
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
    *(
        RuleCase(
            "norm_filter",
            reference_similarity.norm_filter,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=properties_similarity.no_longer_than_honest,
            translation=False,
            accepts=properties_similarity.averages_shortest_rows,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "nearest_to_pivot",
            reference_similarity.nearest_to_pivot,
            {"num_malicious": f, "pivot": pivot},
            ("num_malicious", "pivot"),
            tolerated=f,
            honest=(pivot,),
            hostile=properties_similarity.no_farther_from_pivot(pivot),
            permutation=False,
            accepts=properties_similarity.averages_rows_near_pivot,
        )
        for f, pivot in ((3, 0), (5, 7))
    ),
    RuleCase(
        "sign_majority",
        reference_similarity.sign_majority,
        tolerated=5,
        hostile=properties_similarity.clear_votes_stand,
        translation=False,
        degree=0,
        duplicates=True,
        identical=False,
        accepts=equals_reference(of_result),
    ),
    *(
        RuleCase(
            "sign_guard",
            reference_similarity.sign_guard,
            hyper,
            ("lower", "upper") if "lower" in hyper else (),
            arrays=("key",),
            draws=properties_similarity.drawn,
            tolerated=5,
            # Of 3 columns the signs say little.
            hostile=properties_similarity.honest_length_and_place
            if hyper
            else properties_similarity.no_longer_than_honest,
            translation=False,
            duplicates=True,
            accepts=properties_similarity.averages_a_largest_cluster,
        )
        for hyper in (
            {},
            {"coordinate_fraction": 0.5, "lower": 0.4, "upper": 1.5},
            {"coordinate_fraction": 1.0, "similarity": "cosine"},
            {"coordinate_fraction": 1.0, "similarity": "distance"},
        )
    ),
    *(
        RuleCase(
            "foolsgold",
            reference_similarity.foolsgold_mean,
            hyper,
            ("confidence",) if "confidence" in hyper else (),
            arrays=("history",),
            # Cosines near 1 lose digits in 1 − cos, all of them among many rows in few dimensions.
            rtol=(1e-4, 1e-12),
            largest=N,
            tolerated=0 if hyper else 3,
            hostile=properties_similarity.weighs_finite_rows,
            translation=False,
            identical=False,
            accepts=equals_reference(properties_similarity.of_weights),
        )
        for hyper in ({}, {"normalize": "weights", "confidence": 0.3}, {"normalize": "none"})
    ),
    # Of equally good subsets the first is taken, so the order of the rows matters.
    *(
        RuleCase(
            "minimum_diameter",
            reference_spectral.minimum_diameter,
            {"num_malicious": f},
            ("num_malicious",),
            largest=N,
            tolerated=f,
            hostile=near(3.0),
            permutation=False,
            accepts=properties_spectral.averages_a_closest_subset,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "smallest_spectrum",
            reference_spectral.smallest_spectrum,
            {"num_malicious": f},
            ("num_malicious",),
            largest=N,
            tolerated=f,
            hostile=near(3.0),
            accepts=properties_spectral.averages_a_narrowest_subset,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "covariance_filter",
            reference_spectral.covariance_filter,
            {"num_malicious": f},
            ("num_malicious",),
            tolerated=f,
            hostile=near(3.0),
            differentiable=False,  # its loop has no reverse mode
            accepts=properties_spectral.within_its_guarantee,
        )
        for f in (3, 5)
    ),
    *(
        RuleCase(
            "divide_and_conquer",
            reference_spectral.divide_and_conquer,
            {"num_malicious": 3, **hyper},
            ("num_malicious", *(name for name in hyper if name == "filter_fraction")),
            arrays=("key",),
            draws=properties_spectral.drawn_coordinates,
            tolerated=3,
            hostile=near(3.0),
            accepts=properties_spectral.averages_rows_off_the_axis,
        )
        for hyper in ({}, {"filter_fraction": 1.5}, {"num_iterations": 3, "subspace_size": 20})
    ),
    *(
        RuleCase(
            "fltrust",
            reference.fltrust,
            hyper,
            arrays=("root_update",),
            tolerated=tolerated,
            hostile=norm(longest, of="root_update"),
            translation=False,
            duplicates="include_root" not in hyper,
            identical=False,
            accepts=equals_reference(of_trusted_share),
        )
        # FLTrust promises the root update's length whatever the clients send; without ReLU scores cancel.
        for hyper, tolerated, longest in (
            ({}, 10, 1.0),
            ({"normalize": "shrink"}, 10, 1.0),
            ({"include_root": True}, 10, 1.0),
            ({"clip_negative": False}, 3, 3.0),
            ({"normalize": "none"}, 0, 0.0),
        )
    ),
    RuleCase(
        "root_only",
        reference.root_only,
        arrays=("root_update",),
        tolerated=12,
        hostile=norm(1.0, of="root_update"),
        duplicates=True,
        identical=False,
        accepts=equals_reference(of_result),
    ),
]

PRE_CASES = [
    RuleCase(
        "clip",
        reference.clip,
        {"radius": 2.0},
        ("radius",),
        tolerated=11,
        hostile=rows_stay,
        accepts=equals_reference(of_result_rows),
        translation=False,
        units=("radius",),
        identical=False,
        registry=PRE_AGGREGATORS,
    ),
    # f = 5: 5.8 of 12 rows, where rounding up or to the nearest would differ.
    *(
        RuleCase(
            "adaptive_clip",
            reference.adaptive_clip,
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
    RuleCase(
        "nnm",
        reference.nnm,
        {"num_malicious": 3},
        ("num_malicious",),
        tolerated=3,
        hostile=mixed_with_neighbors,
        accepts=properties.averages_neighbors,
        registry=PRE_AGGREGATORS,
    ),
    *(
        RuleCase(
            "bucketing",
            reference.bucketing,
            {"bucket_size": size},
            arrays=("key",),
            draws=bucket_members,
            tolerated=2,
            hostile=whole_buckets_stay(size),
            accepts=equals_reference(of_bucket),
            permutation=False,
            registry=PRE_AGGREGATORS,
        )
        for size in (2, 5)
    ),
]
