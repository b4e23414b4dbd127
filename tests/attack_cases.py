"""Every update attack of the registry as (updates, malicious) -> updates, with arguments that make it act."""

import jax

from fljax.attacks import scale, sign_flip, trim_attack

KEY = jax.random.key(0)

# The first word is the registry name.
UPDATE_ATTACKS = {
    "scale": lambda u, m: scale(u, m),
    "sign_flip": lambda u, m: sign_flip(u, m, of="mean", factor=2.0),
    "trim_attack": lambda u, m: trim_attack(u, m, KEY),
    "trim_attack partial": lambda u, m: trim_attack(u, m, KEY, knowledge="partial"),
}
