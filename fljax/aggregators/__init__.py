"""Aggregation rules as pure functions, (n, d) updates to a (d,) update, and the pieces to compose them.

Nothing here needs more than jax: import it into any JAX code.

Example:
    >>> import jax, jax.numpy as jnp
    >>> from fljax.aggregators import krum
    >>> jax.jit(krum, static_argnames="num_malicious")(jnp.eye(5), num_malicious=1).shape
    (5,)
"""

from fljax.aggregators._bulyan import bulyan, bulyan_explained
from fljax.aggregators._centered_clipping import carried_clipping, centered_clipping
from fljax.aggregators._covariance_filter import covariance_filter, covariance_filter_explained
from fljax.aggregators._divide_and_conquer import divide_and_conquer, divide_and_conquer_explained
from fljax.aggregators._fltrust import fltrust, fltrust_explained, root_only, trust_scores
from fljax.aggregators._foolsgold import (
    foolsgold,
    foolsgold_aggregator,
    foolsgold_mean,
    foolsgold_mean_explained,
)
from fljax.aggregators._geometric_median import geometric_median
from fljax.aggregators._krum import krum, krum_explained, krum_scores, multi_krum, multi_krum_explained
from fljax.aggregators._minimum_diameter import minimum_diameter, minimum_diameter_explained
from fljax.aggregators._nearest import (
    nearest_to_pivot,
    nearest_to_pivot_explained,
    norm_filter,
    norm_filter_explained,
)
from fljax.aggregators._sign_guard import sign_guard, sign_guard_explained
from fljax.aggregators._sign_majority import sign_majority
from fljax.aggregators._smallest_spectrum import smallest_spectrum, smallest_spectrum_explained
from fljax.aggregators.combining import (
    Rule,
    chain,
    from_registry,
    pre_from_registry,
    stateless,
    stateless_pre,
)
from fljax.aggregators.coordinatewise import (
    mean,
    mean_around_median,
    mean_explained,
    median,
    phocas,
    trimmed_mean,
)
from fljax.aggregators.pre_aggregators import adaptive_clip, bucketing, clip, nnm
from fljax.aggregators.pytrees import on_pytrees
from fljax.base import Aggregator, Context, PreAggregator

RULES: dict[str, Rule] = {
    "mean": Rule(mean, "FedAvg", "f = 0", "McMahan et al. 2017", mean_explained),
    "median": Rule(median, "Median", "n > 2f", "Yin et al. 2018"),
    "trimmed_mean": Rule(trimmed_mean, "Trim-mean", "n > 2f, f = trim", "Yin et al. 2018"),
    "mean_around_median": Rule(mean_around_median, "MeaMed", "n > 2f", "Xie et al. 2018"),
    "phocas": Rule(phocas, "Phocas", "n > 2f, f = trim", "Xie et al. 2018"),
    "krum": Rule(krum, "Krum", "n > 2f + 2", "Blanchard et al. 2017", krum_explained),
    "multi_krum": Rule(multi_krum, "Multi-Krum", "n > 2f + 2", "Blanchard et al. 2017", multi_krum_explained),
    "bulyan": Rule(bulyan, "Bulyan", "n ≥ 4f + 3", "El Mhamdi et al. 2018", bulyan_explained),
    "geometric_median": Rule(geometric_median, "Geometric median", "n > 2f", "Pillutla et al. 2019"),
    "centered_clipping": Rule(
        centered_clipping,
        "Centred clipping",
        "n > 2f, with a good centre",
        "Karimireddy et al. 2021",
        make=carried_clipping,
    ),
    "norm_filter": Rule(
        norm_filter, "CGE", "n > 2f; bounds the length", "Gupta et al. 2020", norm_filter_explained
    ),
    "nearest_to_pivot": Rule(
        nearest_to_pivot,
        "MoNNA",
        "n > 2f, with an honest pivot",
        "Farhadkhani et al. 2023",
        nearest_to_pivot_explained,
    ),
    "sign_majority": Rule(sign_majority, "Majority vote", "n > 2f per coordinate", "Bernstein et al. 2019"),
    "sign_guard": Rule(
        sign_guard, "SignGuard", "n > 2f; bounds the length", "Xu et al. 2022", sign_guard_explained
    ),
    "foolsgold": Rule(
        foolsgold_mean,
        "FoolsGold",
        "any number of sybils, no lone attacker",
        "Fung et al. 2020",
        foolsgold_mean_explained,
        foolsgold_aggregator,
    ),
    "minimum_diameter": Rule(
        minimum_diameter, "MDA", "n > 2f", "El Mhamdi et al. 2020", minimum_diameter_explained
    ),
    "smallest_spectrum": Rule(
        smallest_spectrum, "SMEA", "n > 2f", "Allouah et al. 2023", smallest_spectrum_explained
    ),
    "covariance_filter": Rule(
        covariance_filter, "CAF", "n > 2f", "Allouah et al. 2025", covariance_filter_explained
    ),
    "divide_and_conquer": Rule(
        divide_and_conquer, "DnC", "n > 2f", "Shejwalkar and Houmansadr 2021", divide_and_conquer_explained
    ),
    "fltrust": Rule(fltrust, "FLTrust", "any f, with a clean root", "Cao et al. 2021", fltrust_explained),
    "root_only": Rule(root_only, "FLTrust-Server", "any f", "Cao et al. 2021"),
}

PRE_AGGREGATORS: dict[str, Rule] = {
    "nnm": Rule(nnm, "NNM", "n > 2f", "Allouah et al. 2023", mixes_rows=True),
    "bucketing": Rule(
        bucketing,
        "Bucketing",
        "f of ⌈n / bucket_size⌉, by the rule that follows",
        "Karimireddy et al. 2022",
        mixes_rows=True,
    ),
    "clip": Rule(clip, "Clipping", "bounds each row's influence", "Sun et al. 2019"),
    "adaptive_clip": Rule(adaptive_clip, "ARC", "n > 2f", "Allouah et al. 2024"),
}

__all__ = [
    "PRE_AGGREGATORS",
    "RULES",
    "Aggregator",
    "Context",
    "PreAggregator",
    "Rule",
    "adaptive_clip",
    "bucketing",
    "bulyan",
    "centered_clipping",
    "chain",
    "clip",
    "covariance_filter",
    "divide_and_conquer",
    "fltrust",
    "foolsgold",
    "foolsgold_aggregator",
    "foolsgold_mean",
    "from_registry",
    "geometric_median",
    "krum",
    "krum_scores",
    "mean",
    "mean_around_median",
    "median",
    "minimum_diameter",
    "multi_krum",
    "nearest_to_pivot",
    "nnm",
    "norm_filter",
    "on_pytrees",
    "phocas",
    "pre_from_registry",
    "root_only",
    "sign_guard",
    "sign_majority",
    "smallest_spectrum",
    "stateless",
    "stateless_pre",
    "trimmed_mean",
    "trust_scores",
]
