"""A rule of your own, registered by name and used in a configuration."""

import jax.numpy as jnp

import fljax


@fljax.register_rule(title="Shortest", assumes="n > 2f; bounds the length")
def shortest(updates, *, share: float = 0.5):
    """The mean of the shortest updates.

    Args:
        updates: (n, d).
        share: of the updates that count.
    """
    count = max(1, int(share * len(updates)))
    kept = jnp.argsort(jnp.linalg.norm(updates, axis=1))[:count]
    return updates[kept].mean(0)


config = fljax.load_config(
    {
        "rounds": 20,
        "num_clients": 10,
        "aggregator": {"name": "shortest", "share": 0.6},
        "attack": {"name": "scale", "fraction": 0.2},
    }
)
print("test error", fljax.run(config, progress=False).summary["test_error"])
