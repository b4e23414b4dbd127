"""Attacks as pure functions over the (n, d) stack of updates and a boolean mask of malicious rows.

An update is what a client adds to the model, −β times a gradient. Attacks published on gradients are turned:
what follows the sign of the honest rows is the same on both; what is added to them whatever their sign, as
zσ, changes its own. Docstrings say which call is which library's.

Example:
    >>> import jax.numpy as jnp
    >>> from fljax.attacks import sign_flip
    >>> sign_flip(jnp.ones((2, 1)), jnp.array([False, True])).tolist()
    [[1.0], [-1.0]]
"""

from fljax.aggregators.registry import SURROGATES as SURROGATES

# Lists and tables show the attacks in this order.
# isort: off
from fljax.attacks._label_flip import label_flip as label_flip
from fljax.attacks._label_flip import random_label_flip as random_label_flip
from fljax.attacks._dynamic_label_flip import dynamic_label_flip as dynamic_label_flip
from fljax.attacks._sign_flip import sign_flip as sign_flip
from fljax.attacks._scale import scale as scale
from fljax.attacks._badnets import badnets as badnets
from fljax.attacks._blended import blended as blended
from fljax.attacks._blended import blended_trigger as blended_trigger
from fljax.attacks._sinusoidal import sinusoidal as sinusoidal
from fljax.attacks._sinusoidal import sinusoidal_trigger as sinusoidal_trigger
from fljax.attacks._edge_case import edge_case as edge_case
from fljax.attacks._scaling_attack import scaling_attack as scaling_attack
from fljax.attacks._model_replacement import model_replacement as model_replacement
from fljax.attacks._model_replacement import replace_model as replace_model
from fljax.attacks._distributed_backdoor import distributed_backdoor as distributed_backdoor
from fljax.attacks._train_and_scale import train_and_scale as train_and_scale
from fljax.attacks._constrain_and_scale import constrain_and_scale as constrain_and_scale
from fljax.attacks._projected_gradient import projected_gradient as projected_gradient
from fljax.attacks._alternating_minimisation import alternating_minimisation as alternating_minimisation
from fljax.attacks._neurotoxin import NeurotoxinState as NeurotoxinState
from fljax.attacks._neurotoxin import neurotoxin as neurotoxin
from fljax.attacks._gradient_ascent import gradient_ascent as gradient_ascent
from fljax.attacks._pga import pga as pga
from fljax.attacks._chameleon import chameleon as chameleon
from fljax.attacks._layer_backdoor import layer_backdoor as layer_backdoor
from fljax.attacks._alie_backdoor import alie_backdoor as alie_backdoor
from fljax.attacks._iba import IBAState as IBAState
from fljax.attacks._iba import iba as iba
from fljax.attacks._a3fl import A3FLState as A3FLState
from fljax.attacks._a3fl import a3fl as a3fl
from fljax.attacks._worst_case import WorstCaseState as WorstCaseState
from fljax.attacks._worst_case import worst_case as worst_case
from fljax.attacks._krum_attack import krum_attack as krum_attack
from fljax.attacks._gaussian import gaussian as gaussian
from fljax.attacks._constant import constant as constant
from fljax.attacks._alie import alie as alie
from fljax.attacks._alie import alie_factor as alie_factor
from fljax.attacks._optimized_alie import optimized_alie as optimized_alie
from fljax.attacks._byz_mean import byz_mean as byz_mean
from fljax.attacks._hybrid_sparse import HybridSparseState as HybridSparseState
from fljax.attacks._hybrid_sparse import hybrid_sparse as hybrid_sparse
from fljax.attacks._ipm import ipm as ipm
from fljax.attacks._optimized_ipm import optimized_ipm as optimized_ipm
from fljax.attacks._min_max import min_max as min_max
from fljax.attacks._min_sum import min_sum as min_sum
from fljax.attacks._dyn_opt import dyn_opt as dyn_opt
from fljax.attacks._stat_opt import stat_opt as stat_opt
from fljax.attacks._drive_to import drive_to as drive_to
from fljax.attacks._distance_fitted import distance_fitted as distance_fitted
from fljax.attacks._sybil_noise import SybilState as SybilState
from fljax.attacks._sybil_noise import sybil_noise as sybil_noise
from fljax.attacks._mimic import mimic as mimic
from fljax.attacks._mimic_warmup import MimicState as MimicState
from fljax.attacks._mimic_warmup import mimic_warmup as mimic_warmup
from fljax.attacks._mpaf import mpaf as mpaf
from fljax.attacks._poisoned_fl import PoisonedFLState as PoisonedFLState
from fljax.attacks._poisoned_fl import poisoned_fl as poisoned_fl
from fljax.attacks._rop import ROPState as ROPState
from fljax.attacks._rop import rop as rop
from fljax.attacks._free_rider import FreeRiderState as FreeRiderState
from fljax.attacks._free_rider import ReplayState as ReplayState
from fljax.attacks._free_rider import ScaledDeltaState as ScaledDeltaState
from fljax.attacks._free_rider import free_rider as free_rider
from fljax.attacks._trim_attack import trim_attack as trim_attack
from fljax.attacks._fltrust_attack import fltrust_attack as fltrust_attack
from fljax.attacks._optimize_attack import optimize_attack as optimize_attack

# isort: on
from fljax.attacks.base_model import BaseModel as BaseModel
from fljax.attacks.registry import (
    ATTACKS,
    SCHEDULES,
    attack_from_registry,
    register_attack,
    register_schedule,
    schedule_from_registry,
)
from fljax.attacks.schedules import Schedule, scheduled
from fljax.attacks.schedules import at_random as at_random
from fljax.attacks.schedules import between as between
from fljax.attacks.schedules import periodic as periodic
from fljax.attacks.triggers import feature_trigger, pattern_trigger
from fljax.attacks.wrappers import NO_ATTACK, from_factory, on_labels, on_updates
from fljax.base import Attack, Context, Knowledge, Task, Trigger
from fljax.registry import Entry as AttackEntry

__all__ = [
    *ATTACKS,
    *SCHEDULES,
    "ATTACKS",
    "NO_ATTACK",
    "SCHEDULES",
    "SURROGATES",
    "Attack",
    "BaseModel",
    "Context",
    "AttackEntry",
    "FreeRiderState",
    "HybridSparseState",
    "Knowledge",
    "MimicState",
    "NeurotoxinState",
    "PoisonedFLState",
    "ROPState",
    "ReplayState",
    "ScaledDeltaState",
    "Schedule",
    "SybilState",
    "Task",
    "Trigger",
    "WorstCaseState",
    "alie_factor",
    "attack_from_registry",
    "blended_trigger",
    "feature_trigger",
    "from_factory",
    "on_labels",
    "on_updates",
    "pattern_trigger",
    "register_attack",
    "register_schedule",
    "replace_model",
    "schedule_from_registry",
    "scheduled",
]
