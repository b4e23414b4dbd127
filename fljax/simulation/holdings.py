"""The data of a configuration without a model: the data set, and who holds what."""

from typing import NamedTuple

import numpy as np

from fljax.config.plugins import load_plugins
from fljax.config.schema import ExperimentConfig
from fljax.data import Dataset
from fljax.simulation.assembly import deal, load_dataset


class Holdings(NamedTuple):
    """Examples of each client and class.

    Attributes:
        clients: (n, M) examples of each client and class.
        root: (M,) examples of each class in the root dataset.
        malicious: (n,) bool.
    """

    clients: np.ndarray
    root: np.ndarray
    malicious: np.ndarray


def load_holdings(config: ExperimentConfig) -> tuple[Dataset, Holdings]:
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
    dataset = load_dataset(config)
    data = deal(config, dataset, config.attack.name != "none")
    table, labels = np.asarray(data.table), dataset.train_y
    client, slot = np.nonzero(table >= 0)
    counts = np.zeros((len(table), dataset.num_classes), np.int64)
    np.add.at(counts, (client, labels[table[client, slot]]), 1)
    root = np.bincount(labels[np.asarray(data.root)], minlength=dataset.num_classes)
    return dataset, Holdings(counts, root, np.asarray(data.malicious))
