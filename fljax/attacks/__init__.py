"""Attacks as pure functions over the (n, d) stack of updates and a boolean mask of malicious rows.

Example:
    >>> import jax.numpy as jnp
    >>> from fljax.attacks import sign_flip
    >>> sign_flip(jnp.ones((2, 1)), jnp.array([False, True])).tolist()
    [[1.0], [-1.0]]
"""

from fljax.attacks.backdoor import (
    distributed_backdoor,
    model_replacement,
    replace_model,
    scaling_attack,
)
from fljax.attacks.base import (
    NO_ATTACK,
    Attack,
    AttackEntry,
    Task,
    Trigger,
    from_factory,
    on_labels,
    on_updates,
)
from fljax.attacks.data import feature_trigger, label_flip, pattern_trigger
from fljax.attacks.fang_krum import krum_attack
from fljax.attacks.fang_trim import trim_attack
from fljax.attacks.schedules import SCHEDULES, Schedule, at_random, between, periodic, scheduled
from fljax.attacks.simple import scale, sign_flip
from fljax.attacks.surrogates import SURROGATES
from fljax.attacks.worst_case import WorstCaseState, worst_case

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
    "trim_attack": AttackEntry(
        trim_attack, "Trim attack", "all updates", "error of trimmed mean", "Fang et al. 2020", on_updates
    ),
}

__all__ = [
    "ATTACKS",
    "NO_ATTACK",
    "SCHEDULES",
    "SURROGATES",
    "Attack",
    "AttackEntry",
    "Schedule",
    "Task",
    "Trigger",
    "WorstCaseState",
    "at_random",
    "between",
    "distributed_backdoor",
    "feature_trigger",
    "krum_attack",
    "label_flip",
    "model_replacement",
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
