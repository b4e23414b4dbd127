"""`fljax.build` gives one round as a pure function, for a loop of your own."""

import jax

import fljax

config = fljax.load_config(
    {
        "rounds": 10,
        "num_clients": 10,
        "aggregator": {"name": "median"},
        "attack": {"name": "sign_flip", "fraction": 0.2},
    }
)
round_fn, state = fljax.build(config)
state, metrics = jax.jit(lambda state: jax.lax.scan(round_fn, state, length=10))(state)
print("loss of every round:", [round(float(loss), 2) for loss in metrics.loss])
