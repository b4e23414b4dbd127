"""Arrays of your own as a data set, whose users are the clients, and a network of your own."""

import flax.linen as nn
import numpy as np

import fljax
from fljax.data import from_arrays

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 600)
inputs = (np.eye(8)[labels] + 0.3 * rng.normal(size=(600, 8))).astype(np.float32)
users = [f"user {i % 12}" for i in range(600)]
dataset = from_arrays(inputs, labels, client_ids=users)

model = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(3)])
config = fljax.load_config(
    {
        "rounds": 20,
        "partition": {"name": "by_client"},
        "aggregator": {"name": "trimmed_mean", "trim": 2},
        "attack": {"name": "label_flip", "fraction": 0.1},
    }
)
result = fljax.run(config, dataset=dataset, model=model, progress=False)
print("clients", result.summary["clients"]["num_clients"], "test error", result.summary["test_error"])
