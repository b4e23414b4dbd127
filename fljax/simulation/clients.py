"""From a data set to what a round reads: root dataset, clients' index tables, malicious clients."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fljax.data.dataset import Dataset
from fljax.data.partitions.index_table import IndexTable
from fljax.data.root import root_dataset
from fljax.engine.state import RoundData
from fljax.errors import ConfigError


def num_attackers(fraction: float, num_clients: int) -> int:
    """A share of the clients as a number: the nearest whole one, a half rounded up.

    Example:
        >>> num_attackers(0.2, 21), num_attackers(0.5, 21)
        (4, 11)
    """
    return int(fraction * num_clients + 0.5)


def choose_malicious(seed: int, num_clients: int, fraction: float) -> np.ndarray:
    """A mask of the malicious clients, the first of one seeded order; a larger share keeps a smaller one's.

    Args:
        seed: of the clients.
        num_clients: n.
        fraction: of the clients, rounded to a whole number.

    Returns:
        (n,) boolean.
    """
    _, _, stream = np.random.default_rng(seed).spawn(3)
    malicious = np.zeros(num_clients, bool)
    malicious[stream.permutation(num_clients)[: num_attackers(fraction, num_clients)]] = True
    return malicious


def make_clients(
    dataset: Dataset,
    seed: int,
    partition: Callable[..., IndexTable],
    options: Mapping[str, Any],
    *,
    num_clients: int | None,
    root: Mapping[str, Any],
    malicious_fraction: float,
    validation: int = 0,
) -> RoundData:
    """Draw validation examples and root dataset, deal the others out, and choose who is malicious.

    Each of the four has its own random stream, so that changing one leaves the others as they are.

    Args:
        dataset: the data.
        seed: of the four streams.
        partition: a function of `fljax.data.PARTITIONS`.
        options: its own parameters.
        num_clients: n, or None for natural clients.
        root: keyword arguments of `root_dataset`.
        malicious_fraction: as for `choose_malicious`.
        validation: how many validation examples the server holds back, uniformly from all.

    Returns:
        `RoundData` of NumPy arrays; the training inputs are not copied.

    Raises:
        ConfigError: if the partition needs what the data set or the configuration does not give.
    """
    root_stream, partition_stream, _, validation_stream = np.random.default_rng(seed).spawn(4)
    labels = dataset.train_y
    rest, held_back = np.arange(len(labels)), None
    if validation:
        if validation >= len(labels) - 1:
            raise ConfigError(
                f"validation.size={validation} must be between 1 and {len(labels) - 2}, so that examples for "
                "the root dataset and the clients are left"
            )
        held_back = np.sort(validation_stream.choice(len(labels), validation, replace=False)).astype(np.int32)
        rest = np.setdiff1d(rest, held_back)
    held_out = rest[root_dataset(labels[rest], root_stream, num_classes=dataset.num_classes, **root)]
    held_out = held_out.astype(np.int32)
    available = np.setdiff1d(rest, held_out)
    wanted = inspect.signature(partition).parameters
    facts: dict[str, Any] = {"num_clients": num_clients, "num_classes": dataset.num_classes}
    if "client_ids" in wanted:
        if dataset.client_ids is None:
            raise ConfigError(f"partition {partition.__name__}: {dataset.name} has no natural clients")
        facts["client_ids"] = dataset.client_ids[available]
        gone = np.setdiff1d(dataset.client_ids, facts["client_ids"])
        if len(gone):
            who = "root and validation: take" if validation else "root: takes"
            raise ConfigError(f"{who} every example of {len(gone)} natural clients (client {gone[0]} first)")
    elif num_clients is None:
        raise ConfigError("num_clients is required, unless the partition is by_client")
    facts = {name: value for name, value in facts.items() if name in wanted}
    table, counts = partition(labels[available], partition_stream, **facts, **options)
    malicious = choose_malicious(seed, len(counts), malicious_fraction)
    table = np.where(table >= 0, available[table], -1).astype(np.int32)
    arrays: Any = dataset.train_x, labels, table, counts, held_out, malicious, None, held_back
    return with_malicious(RoundData(*arrays), malicious)


def with_malicious(data: RoundData, malicious: np.ndarray) -> RoundData:
    """The same clients, of which those are malicious that a mask (n,) names."""
    chosen: Any = {"malicious": malicious, "attackers": np.flatnonzero(malicious).astype(np.int32)}
    return data._replace(**chosen)


def num_test_clients(dataset: Dataset) -> int:
    """The number of clients that may have test examples; 0 where it is not known whose they are."""
    known = dataset.test_client_ids is not None and dataset.client_ids is not None
    return int(dataset.client_ids.max()) + 1 if known else 0  # type: ignore[union-attr]


def describe(dataset: Dataset, data: RoundData, cohort_size: int, notes: Sequence[str]) -> dict[str, Any]:
    """The data and the clients as summary.json records them, with notes on both."""
    return {
        "data": {
            "name": dataset.name,
            "source": dataset.source,
            "notes": list(notes),
            "label_hash": dataset.label_hash(),
            "num_train": len(dataset.train_y),
            "num_test": len(dataset.test_y),
            "num_classes": dataset.num_classes,
            **({} if data.validation is None else {"num_validation": len(data.validation)}),
        },
        "clients": {
            "num_clients": len(data.counts),
            "cohort_size": cohort_size,
            "num_malicious": int(data.malicious.sum()),
            "smallest": int(data.counts.min()),
            "largest": int(data.counts.max()),
        },
    }
