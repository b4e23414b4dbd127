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

from fljax.aggregators.registry import SURROGATES
from fljax.attacks._alie import alie, alie_factor
from fljax.attacks._fltrust_attack import fltrust_attack
from fljax.attacks._free_rider import FreeRiderState, free_rider
from fljax.attacks._ipm import ipm
from fljax.attacks._krum_attack import krum_attack
from fljax.attacks._label_flip import label_flip
from fljax.attacks._mimic import MimicState, mimic, mimic_warmup
from fljax.attacks._optimize_attack import optimize_attack
from fljax.attacks._trim_attack import trim_attack
from fljax.attacks._worst_case import WorstCaseState, worst_case
from fljax.attacks.backdoor import distributed_backdoor, model_replacement, replace_model, scaling_attack
from fljax.attacks.min_max import min_max, min_sum
from fljax.attacks.optimized_factor import optimized_alie, optimized_ipm
from fljax.attacks.schedules import SCHEDULES, Schedule, at_random, between, periodic, scheduled
from fljax.attacks.simple import constant, gaussian, scale, sign_flip
from fljax.attacks.triggers import feature_trigger, pattern_trigger
from fljax.attacks.wrappers import NO_ATTACK, AttackEntry, from_factory, on_labels, on_updates
from fljax.base import Attack, Task, Trigger

ATTACKS: dict[str, AttackEntry] = {
    "label_flip": AttackEntry(
        label_flip, "Label flipping", "own data", "untargeted error", "Fang et al. 2020", on_labels
    ),
    "sign_flip": AttackEntry(
        sign_flip, "Sign flipping", "own update", "untargeted error", "Li et al. 2019", on_updates
    ),
    "scale": AttackEntry(
        scale, "Scaling", "own update", "weight in the mean", "Bagdasaryan et al. 2020", on_updates
    ),
    "scaling_attack": AttackEntry(
        scaling_attack, "Scaling attack", "own data", "backdoor", "Bagdasaryan et al. 2020", from_factory
    ),
    "model_replacement": AttackEntry(
        model_replacement,
        "Model replacement",
        "own data",
        "backdoor",
        "Bagdasaryan et al. 2020",
        from_factory,
    ),
    "distributed_backdoor": AttackEntry(
        distributed_backdoor, "DBA", "own data", "backdoor", "Xie et al. 2020", from_factory
    ),
    "worst_case": AttackEntry(
        worst_case,
        "Worst case",
        "all updates, the rule",
        "the strongest of a list of attacks",
        "this library",
        from_factory,
    ),
    "krum_attack": AttackEntry(
        krum_attack, "Krum attack", "all updates", "error of Krum", "Fang et al. 2020", on_updates
    ),
    "gaussian": AttackEntry(
        gaussian, "Gaussian", "nothing", "disturbance", "Blanchard et al. 2017", on_updates
    ),
    "constant": AttackEntry(
        constant, "Constant", "nothing", "what rules do with 0, NaN, infinity", "this library", on_updates
    ),
    "alie": AttackEntry(
        alie, "ALIE", "attackers' updates", "error within the spread", "Baruch et al. 2019", on_updates
    ),
    "optimized_alie": AttackEntry(
        optimized_alie,
        "Optimised ALIE",
        "all updates, the rule",
        "deviation from the honest mean",
        "Allouah et al. 2023",
        on_updates,
    ),
    "ipm": AttackEntry(ipm, "IPM", "all updates", "negative inner product", "Xie et al. 2020", on_updates),
    "optimized_ipm": AttackEntry(
        optimized_ipm,
        "Optimised IPM",
        "all updates, the rule",
        "deviation from the honest mean",
        "Allouah et al. 2023",
        on_updates,
    ),
    "min_max": AttackEntry(
        min_max,
        "Min-Max",
        "all updates",
        "deviation within the largest distance",
        "Shejwalkar & Houmansadr 2021",
        on_updates,
    ),
    "min_sum": AttackEntry(
        min_sum,
        "Min-Sum",
        "all updates",
        "deviation within the sum of distances",
        "Shejwalkar & Houmansadr 2021",
        on_updates,
    ),
    "mimic": AttackEntry(
        mimic, "Mimic", "one update", "weight of one client", "Karimireddy et al. 2022", on_updates
    ),
    "mimic_warmup": AttackEntry(
        mimic_warmup,
        "Mimic (warm-up)",
        "all updates",
        "weight of the client that stands out most",
        "Karimireddy et al. 2022",
        from_factory,
    ),
    "free_rider": AttackEntry(
        free_rider,
        "Free-rider",
        "the global model",
        "the model without training",
        "Lin et al. 2019",
        from_factory,
    ),
    "trim_attack": AttackEntry(
        trim_attack, "Trim attack", "all updates", "error of trimmed mean", "Fang et al. 2020", on_updates
    ),
    "fltrust_attack": AttackEntry(
        fltrust_attack,
        "Adaptive attack",
        "all updates, root update",
        "error of FLTrust",
        "Cao et al. 2021",
        on_updates,
    ),
    "optimize_attack": AttackEntry(
        optimize_attack,
        "Optimised attack",
        "all updates, rule",
        "error of any rule",
        "Fang et al. 2020",
        on_updates,
    ),
}

__all__ = [
    "ATTACKS",
    "NO_ATTACK",
    "SCHEDULES",
    "SURROGATES",
    "Attack",
    "AttackEntry",
    "FreeRiderState",
    "MimicState",
    "Schedule",
    "Task",
    "Trigger",
    "WorstCaseState",
    "alie",
    "alie_factor",
    "at_random",
    "between",
    "constant",
    "distributed_backdoor",
    "feature_trigger",
    "fltrust_attack",
    "free_rider",
    "gaussian",
    "ipm",
    "krum_attack",
    "label_flip",
    "mimic",
    "mimic_warmup",
    "min_max",
    "min_sum",
    "model_replacement",
    "optimize_attack",
    "optimized_alie",
    "optimized_ipm",
    "pattern_trigger",
    "periodic",
    "replace_model",
    "scale",
    "scaling_attack",
    "scheduled",
    "sign_flip",
    "trim_attack",
    "worst_case",
]
