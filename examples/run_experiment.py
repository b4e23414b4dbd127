"""A whole experiment in Python: FLTrust under the Trim attack on the digits."""

import fljax

config = fljax.load_config(
    {
        "rounds": 20,
        "eval_every": 10,
        "num_clients": 10,
        "data": {"name": "digits"},
        "aggregator": {"name": "fltrust"},
        "attack": {"name": "trim_attack", "fraction": 0.2},
    }
)
result = fljax.run(config, progress=False)
for round_, error in zip(result.metrics["round"], result.metrics["test_error"], strict=True):
    print(f"round {int(round_)}: test error {error:.3f}")
