"""What a configuration makes of its data, without a model: the data set, and who holds what."""

from typing import NamedTuple

import numpy as np

from fljax.config.components import dataset_options, partition_options
from fljax.config.plugins import load_plugins
from fljax.config.schema import ExperimentConfig
from fljax.data import PARTITIONS, Dataset, load
from fljax.simulation.clients import make_clients


class Holdings(NamedTuple):
    """Who holds what.

    Attributes:
        clients: (n, M) examples of each client and class.
        root: (M,) examples of each class in the root dataset.
        malicious: (n,) bool.
    """

    clients: np.ndarray
    root: np.ndarray
    malicious: np.ndarray


def draw(config: ExperimentConfig) -> tuple[Dataset, Holdings]:
    """Load the data and deal it out, exactly as a run of this configuration does.

    Args:
        config: the configuration; of its parts only data, partition, root, seeds and the attack's fraction
            matter.

    Returns:
        The data set and the `Holdings`. Labels are counted as the data set has them: an attack that flips
        them does so later.

    Raises:
        ConfigError: a component is unknown or does not fit the data.
        DataError: the data cannot be read.
    """
    load_plugins(config.plugins)
    options, partition = dataset_options(config.data), partition_options(config.partition)
    seed = config.seed_for("data")
    dataset = load(config.data.name, config.data.dir, seed=seed, **options)
    data = make_clients(
        dataset,
        seed,
        PARTITIONS.find(config.partition.name).function,
        partition,
        num_clients=config.num_clients,
        root=config.root.sample(),
        malicious_fraction=0.0 if config.attack.name == "none" else config.attack.fraction,
    )
    table, labels = np.asarray(data.table), dataset.train_y
    client, slot = np.nonzero(table >= 0)
    counts = np.zeros((len(table), dataset.num_classes), np.int64)
    np.add.at(counts, (client, labels[table[client, slot]]), 1)
    root = np.bincount(labels[np.asarray(data.root)], minlength=dataset.num_classes)
    return dataset, Holdings(counts, root, np.asarray(data.malicious))
