"""Every update attack of the registry as (updates, malicious) -> updates, with arguments that make it act."""

import jax

from fljax.aggregators import median
from fljax.attacks import krum_attack, scale, sign_flip, trim_attack

KEY = jax.random.key(0)

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
}
