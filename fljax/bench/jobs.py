"""The work of a benchmark of rounds: presets on made-up data, a configuration of one's own, what varies."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.config.loading import apply_overrides, read_with
from fljax.config.plugins import load_plugins
from fljax.config.schema import ExperimentConfig, parse_config
from fljax.data import Dataset
from fljax.errors import ConfigError, unknown_name

# The most rounds in a call of the program; short ones are timed several at once.
ROUNDS = 100


class Made(NamedTuple):
    """Random data in place of a data set: the same work without its files.

    Attributes:
        shape: of an example.
        classes: number of classes.
        each: examples of a client.
        test: examples of the test set.
    """

    shape: tuple[int, ...]
    classes: int
    each: int = 200
    test: int = 10_000


class Job(NamedTuple):
    """One configuration to measure.

    Attributes:
        name: for tables.
        values: the configuration's tables.
        made: the data that are made up; None for those of the configuration.
        vary: the key that varies among this and other jobs, or "".
        value: what it is here.
    """

    name: str
    values: Mapping[str, Any]
    made: Made | None = None
    vary: str = ""
    value: Any = None

    def config(self, **overrides: Any) -> ExperimentConfig:
        """The checked configuration, with dotted keys set in it."""
        return parse_config(
            apply_overrides(self.values, {"rounds": ROUNDS, "eval_every": ROUNDS, **overrides})
        )

    def dataset(self) -> Dataset | None:
        """The data that are made up; None for the configuration's own."""
        if self.made is None:
            return None
        config = self.config()
        return made_up(self.made, (config.num_clients or 100) * self.made.each + config.root.size)


@lru_cache(maxsize=1)
def made_up(made: Made, examples: int) -> Dataset:
    """Random examples in [0, 1) with classes in turn."""
    draw = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        return draw.random((count, *made.shape), np.float32), np.arange(count, dtype=np.int32) % made.classes

    return Dataset(*part(examples), *part(made.test), made.classes, "made up")


MNIST, CIFAR, HAR, DIGITS = (
    Made((28, 28, 1), 10),
    Made((32, 32, 3), 10),
    Made((561,), 6),
    Made((8, 8, 1), 10, 70, 400),
)
_PAPER: dict[str, Any] = {
    "num_clients": 100,
    "model": {"name": "cnn"},
    "local": {"batch_size": 32, "learning_rate": 0.01},
    "root": {"size": 100, "batch_size": "full"},
    "aggregator": {"name": "fltrust"},
    "attack": {"name": "trim_attack", "fraction": 0.2},
}
_HONEST = {"aggregator": {"name": "mean"}, "attack": {"name": "none"}}
_PERCEPTRON = {**_PAPER, **_HONEST, "model": {"name": "mlp", "hidden": [128]}, "root": {"size": 1}}
# The jobs of the published benchmarks are in configs/regimes; here the number of local steps is fixed.
PRESETS: Mapping[str, Sequence[Job]] = {
    "paper": [
        Job("CNN, FLTrust, Trim attack", _PAPER, MNIST),
        Job("CNN, FedAvg", {**_PAPER, **_HONEST}, MNIST),
        Job("CNN, Median, Trim attack", {**_PAPER, "aggregator": {"name": "median"}}, MNIST),
        Job("CNN, FLTrust, Trim attack, 5 steps", apply_overrides(_PAPER, {"local.steps": 5}), MNIST),
        Job(
            "ResNet20, FLTrust, Trim attack",
            apply_overrides(_PAPER, {"num_clients": 20, "model.name": "resnet20", "local.batch_size": 64}),
            CIFAR,
        ),
        Job(
            "logistic regression on HAR, FLTrust, Trim attack",
            apply_overrides(_PAPER, {"num_clients": 21, "model.name": "logistic_regression"}),
            HAR,
        ),
        Job(
            "MLP on the digits, FLTrust, Trim attack",
            apply_overrides(_PAPER, {"num_clients": 20, "model.name": "mlp"}),
            DIGITS,
        ),
    ],
    "blazefl": [
        Job(
            "LeNet, 20 clients, 20 steps of 50",
            {
                "num_clients": 20,
                "model": {"name": "lenet"},
                "local": {"steps": 20, "batch_size": 50, "learning_rate": 0.1},
                "root": {"size": 1},
                **_HONEST,
            },
            CIFAR._replace(each=500),
        )
    ],
    "pfl": [
        Job(
            "CNN with dropout, 50 of 1,000 clients, 5 steps of 10",
            {
                "num_clients": 1000,
                "cohort_size": 50,
                "model": {"name": "dropout_cnn"},
                "local": {"steps": 5, "batch_size": 10, "learning_rate": 0.1},
                "root": {"size": 1},
                "aggregator": {"name": "mean", "weights": "uniform"},
                "attack": {"name": "none"},
            },
            CIFAR._replace(each=50),
        )
    ],
    "scaling": [
        Job(f"{key} = {value}", apply_overrides(_PERCEPTRON, {key: value}), MNIST, key, value)
        for key, values in {
            "num_clients": (25, 50, 100, 200),
            "model.hidden": ([32], [128], [512]),
            "local.batch_size": (8, 32, 128),
            "local.steps": (1, 4, 16),
        }.items()
        for value in values
    ],
}


def plan(
    config: str | Path | None = None,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    vary: Mapping[str, Any] | None = None,
) -> list[Job]:
    """All jobs.

    Args:
        config: a configuration's file, whose data are used.
        preset: one of PRESETS instead; by neither, "paper".
        overrides: dotted keys to values, for every job.
        vary: dotted keys to lists of values; each is varied alone.

    Raises:
        ConfigError: one sentence, if there is no such preset, or a value is not allowed.
    """
    overrides = overrides or {}
    if config is not None and preset is not None:
        raise ConfigError(f"--preset {preset} is work of its own; leave out {config}")
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset: {unknown_name('preset', preset, PRESETS)}")
    if config is not None:
        base: Sequence[Job] = [Job(Path(config).stem, read_with(config, overrides))]
    else:
        base = [
            job._replace(values=apply_overrides(job.values, overrides)) for job in PRESETS[preset or "paper"]
        ]
    jobs = list(base) if not vary else []
    for key, values in (vary or {}).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"--vary {key}: a list of values is needed, for example {key}=[1, 2], got {values!r}"
            )
        jobs += [
            Job(
                f"{job.name}, {key} = {value}",
                apply_overrides(job.values, {key: value}),
                job.made,
                key,
                value,
            )
            for job in base
            for value in values
        ]
    for job in jobs:
        load_plugins(job.config().plugins)
    return jobs
