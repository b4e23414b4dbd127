"""A grid of rules, attacks and seeds, and its table in pandas."""

import fljax
from fljax.sweeps import make_sweep

base = {"rounds": 10, "num_clients": 10, "attack": {"name": "none", "fraction": 0.2}}
axes = {"aggregator": ["mean", "median"], "attack": ["none", "sign_flip"]}
results = fljax.sweep(make_sweep(base, {"seeds": 2, "axes": axes}), progress=False)
print(results.pivot_table(index="attack", columns="aggregator", values="test_error").round(3))
