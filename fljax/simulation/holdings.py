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
        clients: (n, M) examples of each client and class; (n, 1) where examples do not have one class each.
        root: (M,) examples of each class in the root dataset.
        malicious: (n,) bool.
        by_class: False where examples do not have one class each.
    """

    clients: np.ndarray
    root: np.ndarray
    malicious: np.ndarray
    by_class: bool = True


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
    table, by_class = np.asarray(data.table), dataset.format.one_class
    labels = dataset.train_y if by_class else np.zeros(len(dataset.train_y), np.int32)
    classes = (dataset.num_classes or 1) if by_class else 1
    client, slot = np.nonzero(table >= 0)
    counts = np.zeros((len(table), classes), np.int64)
    np.add.at(counts, (client, labels[table[client, slot]]), 1)
    root = np.bincount(labels[np.asarray(data.root)], minlength=classes)
    return dataset, Holdings(counts, root, np.asarray(data.malicious), by_class)
