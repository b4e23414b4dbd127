"""Every update attack of the registry as (updates, malicious) -> updates, with arguments that make it act."""

from functools import partial

import jax
import jax.numpy as jnp

from fljax.aggregators import Context, median
from fljax.attacks import (
    Knowledge,
    alie,
    constant,
    fltrust_attack,
    free_rider,
    gaussian,
    ipm,
    krum_attack,
    mimic,
    mimic_warmup,
    min_max,
    min_sum,
    optimize_attack,
    optimized_alie,
    optimized_ipm,
    scale,
    sign_flip,
    trim_attack,
)

KEY = jax.random.key(0)
# Compiled once, not again at every call of a test.
ADAPTIVE = {
    probes: jax.jit(partial(fltrust_attack, probes=probes, start="honest", sweeps=1, steps=2))
    for probes in ("projected", "drawn")
}
OPTIMUM = jax.jit(partial(fltrust_attack, search="optimum"))
OPTIMIZED = jax.jit(partial(optimize_attack, rule=median, key=KEY, steps=2))


def _third_round(attack, updates, malicious):
    """What an attack with a state sends after two rounds with the same updates and a moving model."""
    n, d = updates.shape
    state = attack.init(n, d)
    for r in range(3):
        context = Context(KEY, round=r, client_ids=jnp.arange(n), params=0.5 * r**2 + jnp.zeros(d))
        sent, state = attack.corrupt(updates, malicious, state, Knowledge(context))
    return sent


# The first word is the registry name.
UPDATE_ATTACKS = {
    "scale": lambda u, m: scale(u, m),
    "sign_flip": lambda u, m: sign_flip(u, m, of="mean", factor=2.0),
    "krum_attack": lambda u, m: krum_attack(u, m, KEY),
    "krum_attack partial": lambda u, m: krum_attack(u, m, KEY, knowledge="partial"),
    "krum_attack copies": lambda u, m: krum_attack(u, m, KEY, direction="sum", supporters="copies", power=1),
    "trim_attack": lambda u, m: trim_attack(u, m, KEY),
    "trim_attack demo": lambda u, m: trim_attack(u, m, KEY, pool="all", law="divide"),
    "trim_attack fixed": lambda u, m: trim_attack(u, m, KEY, law="fixed"),
    "trim_attack through the rule": lambda u, m: trim_attack(u, m, KEY, median, direction="rule"),
    "trim_attack partial": lambda u, m: trim_attack(u, m, KEY, knowledge="partial"),
    "gaussian": lambda u, m: gaussian(u, m, KEY, std=2.0),
    "constant": lambda u, m: constant(u, m, value=3.0),
    "alie": lambda u, m: alie(u, m, z=1.5),
    "alie full": lambda u, m: alie(u, m, knowledge="full", ddof=1),
    "optimized_alie": lambda u, m: optimized_alie(u, m, median, evaluations=5),
    "ipm": lambda u, m: ipm(u, m, epsilon=0.5),
    "optimized_ipm": lambda u, m: optimized_ipm(u, m, median, evaluations=5),
    "min_max": lambda u, m: min_max(u, m),
    "min_max std": lambda u, m: min_max(u, m, direction="std", knowledge="partial"),
    "min_sum": lambda u, m: min_sum(u, m),
    "mimic": lambda u, m: mimic(u, m, target=2),
    "mimic_warmup": lambda u, m: _third_round(mimic_warmup(warmup=2), u, m),
    "fltrust_attack": lambda u, m: ADAPTIVE["projected"](u, u.mean(0), m, KEY),
    "fltrust_attack drawn": lambda u, m: ADAPTIVE["drawn"](u, u.mean(0), m, KEY),
    "fltrust_attack optimum": lambda u, m: OPTIMUM(u, u.mean(0), m, KEY),
    "optimize_attack": lambda u, m: OPTIMIZED(u, m),
    "free_rider": lambda u, m: _third_round(free_rider(), u, m),
    "free_rider noise": lambda u, m: _third_round(free_rider(kind="noise", multiplier=2.0), u, m),
    "free_rider delta": lambda u, m: _third_round(free_rider(kind="delta"), u, m),
}

# Rows that are meant to break what is not robust.
BREAKING_ATTACKS = {
    f"constant {value}": lambda u, m, value=value: constant(u, m, value=value)
    for value in (float("nan"), float("inf"), float("-inf"), 1e38)
}
