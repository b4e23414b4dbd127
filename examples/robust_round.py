"""One robust aggregation in JAX code of your own: rules and attacks are functions on a stack of updates."""

import jax
import jax.numpy as jnp

from fljax.aggregators import fltrust, mean, multi_krum, trimmed_mean
from fljax.attacks import ipm

honest = 1.0 + jax.random.normal(jax.random.key(0), (20, 1_000))
malicious = jnp.arange(20) < 4
updates = ipm(honest, malicious, epsilon=10.0)
root_update = 1.0 + jax.random.normal(jax.random.key(1), (1_000,))

results = {
    "mean": mean(updates),
    "trimmed mean": trimmed_mean(updates, trim=4),
    "multi-Krum": multi_krum(updates, num_malicious=4),
    "FLTrust": fltrust(updates, root_update),
}
for name, update in results.items():
    print(f"{name:14} {float(jnp.linalg.norm(update - honest[4:].mean(0))):8.2f} from the honest mean")
