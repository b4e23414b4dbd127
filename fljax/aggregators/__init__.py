"""Aggregation rules as pure functions, (n, d) updates to a (d,) update, and the pieces to compose them.

Nothing here needs more than jax: import it into any JAX code.

Example:
    >>> import jax, jax.numpy as jnp
    >>> from fljax.aggregators import krum
    >>> jax.jit(krum, static_argnames="num_malicious")(jnp.eye(5), num_malicious=1).shape
    (5,)
"""

from types import ModuleType

# In the order in which tables and figures have them. An import registers what its module defines.
# isort: off
from fljax.aggregators._mean import mean as mean
from fljax.aggregators._median import median as median
from fljax.aggregators._trimmed_mean import trimmed_mean as trimmed_mean
from fljax.aggregators._winsorized_mean import winsorized_mean as winsorized_mean
from fljax.aggregators._mean_around_median import mean_around_median as mean_around_median
from fljax.aggregators._phocas import phocas as phocas
from fljax.aggregators._krum_scores import krum_scores as krum_scores
from fljax.aggregators._krum import krum as krum
from fljax.aggregators._multi_krum import multi_krum as multi_krum
from fljax.aggregators._bulyan import bulyan as bulyan
from fljax.aggregators._gas import gas as gas
from fljax.aggregators._geometric_median import geometric_median as geometric_median
from fljax.aggregators._centered_clipping import centered_clipping as centered_clipping
from fljax.aggregators._centered_clipping import carried_clipping as carried_clipping
from fljax.aggregators._huber import huber as huber
from fljax.aggregators._aksel import aksel as aksel
from fljax.aggregators._faba import faba as faba
from fljax.aggregators._foundation import foundation as foundation
from fljax.aggregators._norm_filter import norm_filter as norm_filter
from fljax.aggregators._nearest_to_pivot import nearest_to_pivot as nearest_to_pivot
from fljax.aggregators._sign_majority import sign_majority as sign_majority
from fljax.aggregators._robust_learning_rate import robust_learning_rate as robust_learning_rate
from fljax.aggregators._fedseca import fedseca as fedseca
from fljax.aggregators._sign_guard import sign_guard as sign_guard
from fljax.aggregators._clustering import clustering as clustering
from fljax.aggregators._clipped_clustering import clipped_clustering as clipped_clustering
from fljax.aggregators._clipped_clustering import (
    clipped_clustering_aggregator as clipped_clustering_aggregator,
)
from fljax.aggregators._flame import flame as flame
from fljax.aggregators._auror import auror as auror
from fljax.aggregators._auror import auror_aggregator as auror_aggregator
from fljax.aggregators._rflbat import rflbat as rflbat
from fljax.aggregators._alignins import alignins as alignins
from fljax.aggregators._multi_metrics import multi_metrics as multi_metrics
from fljax.aggregators._fldetector import fldetector as fldetector
from fljax.aggregators._fldetector import fldetector_aggregator as fldetector_aggregator
from fljax.aggregators._afa import afa as afa
from fljax.aggregators._afa import remembering_clients as remembering_clients
from fljax.aggregators._foolsgold import foolsgold as foolsgold
from fljax.aggregators._foolsgold import foolsgold_aggregator as foolsgold_aggregator
from fljax.aggregators._foolsgold import foolsgold_mean as foolsgold_mean
from fljax.aggregators._residual_reweighting import residual_reweighting as residual_reweighting
from fljax.aggregators._minimum_diameter import minimum_diameter as minimum_diameter
from fljax.aggregators._smallest_spectrum import smallest_spectrum as smallest_spectrum
from fljax.aggregators._covariance_filter import covariance_filter as covariance_filter
from fljax.aggregators._crfl import crfl as crfl
from fljax.aggregators._sparse_fed import fed_back as fed_back
from fljax.aggregators._sparse_fed import sparse_fed as sparse_fed
from fljax.aggregators._spectral_filter import spectral_filter as spectral_filter
from fljax.aggregators._divide_and_conquer import divide_and_conquer as divide_and_conquer
from fljax.aggregators._fltrust import fltrust as fltrust
from fljax.aggregators._fltrust import trust_scores as trust_scores
from fljax.aggregators._flod import flod as flod
from fljax.aggregators._zeno_pp import zeno_pp as zeno_pp
from fljax.aggregators._root_only import root_only as root_only
from fljax.aggregators._deepsight import deepsight as deepsight
from fljax.aggregators._lasa import lasa as lasa
from fljax.aggregators._freq_fed import freq_fed as freq_fed
from fljax.aggregators._fl_defender import fl_defender as fl_defender
from fljax.aggregators._fl_defender import fl_defender_aggregator as fl_defender_aggregator
from fljax.aggregators._lfighter import lfighter as lfighter
from fljax.aggregators._flare import flare as flare
from fljax.aggregators._zeno import zeno as zeno
from fljax.aggregators._nnm import nnm as nnm
from fljax.aggregators._bucketing import bucketing as bucketing
from fljax.aggregators._clip import clip as clip
from fljax.aggregators._quantile_clip import quantile_clip as quantile_clip
from fljax.aggregators._quantile_clip import tracked_clipping as tracked_clipping
from fljax.aggregators._adaptive_clip import adaptive_clip as adaptive_clip
from fljax.aggregators._clip_coordinates import clip_coordinates as clip_coordinates
from fljax.aggregators._add_noise import add_noise as add_noise
from fljax.aggregators._flip_disputed import flip_disputed as flip_disputed

# isort: on
from fljax.aggregators.combining import chain as chain
from fljax.aggregators.combining import from_registry as from_registry
from fljax.aggregators.combining import post_from_registry as post_from_registry
from fljax.aggregators.combining import pre_from_registry as pre_from_registry
from fljax.aggregators.combining import stateless as stateless
from fljax.aggregators.combining import stateless_post as stateless_post
from fljax.aggregators.combining import stateless_pre as stateless_pre
from fljax.aggregators.pytrees import on_pytrees as on_pytrees
from fljax.aggregators.registry import POST_AGGREGATORS as POST_AGGREGATORS
from fljax.aggregators.registry import PRE_AGGREGATORS as PRE_AGGREGATORS
from fljax.aggregators.registry import RULES as RULES
from fljax.aggregators.registry import Rule as Rule
from fljax.aggregators.registry import register_post_aggregator as register_post_aggregator
from fljax.aggregators.registry import register_pre_aggregator as register_pre_aggregator
from fljax.aggregators.registry import register_rule as register_rule
from fljax.base import Aggregator as Aggregator
from fljax.base import Context as Context
from fljax.base import Head as Head
from fljax.base import Layers as Layers
from fljax.base import PostAggregator as PostAggregator
from fljax.base import PreAggregator as PreAggregator

__all__ = sorted(  # what was imported above
    name
    for name, value in globals().items()
    if not name.startswith("_") and value is not ModuleType and not isinstance(value, ModuleType)
)
