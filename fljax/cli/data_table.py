"""Tables of a partition for the terminal."""

from collections.abc import Iterator

import numpy as np

from fljax.config.schema import ExperimentConfig
from fljax.config.titles import axis_value, setting_titles
from fljax.data import Dataset
from fljax.host.terminal import Table
from fljax.simulation.holdings import Holdings

# More clients than this are summed up in groups.
MOST_CLIENTS = 30


def label_distance(counts: np.ndarray) -> np.ndarray:
    """Distance of each client's mix of classes from that of all clients together.

    The total variation distance ½ Σ_c |p_ic − p_c|: 0 for the same mix, near 1 for a client with rare classes
    only. A client of s examples dealt out at random is at about √(M / 2πs).

    Args:
        counts: (n, M) examples of each client and class; every client has one.

    Returns:
        (n,) in [0, 1].

    Example:
        >>> label_distance(np.array([[5, 0], [0, 5], [3, 3]])).tolist()
        [0.5, 0.5, 0.0]
    """
    own = counts / counts.sum(1, keepdims=True)
    return np.abs(own - counts.sum(0) / counts.sum()).sum(1) / 2


def title(config: ExperimentConfig, dataset: Dataset, holdings: Holdings) -> str:
    """The data set and its partition, in one line.

    Args:
        config: the configuration.
        dataset: the data set.
        holdings: who holds what.

    Returns:
        Data set, partition with its parameters, number of clients, seed.
    """
    partition = setting_titles(config.resolved())["partition"]
    clients, seed = f"{len(holdings.clients):,} clients", f"seed {config.seed_for('data')}"
    return " · ".join([axis_value("data", dataset.name), partition, clients, seed])


def sizes_table(dataset: Dataset, holdings: Holdings) -> Iterator[Table]:
    """Sizes of the clients, one by one where they are few, and of groups of clients.

    Args:
        dataset: the data set.
        holdings: who holds what.

    Yields:
        The tables to print.
    """
    counts, sizes, distance = holdings.clients, holdings.clients.sum(1), label_distance(holdings.clients)
    if len(counts) <= MOST_CLIENTS:
        table = Table(title="clients", title_justify="left")
        about_classes = ["classes", "most of one class", "distance"] if holdings.by_class else []
        for name in ("client", "examples", *about_classes):
            table.add_column(name, justify="right")
        table.add_column("")
        for i, row in enumerate(counts):
            share = f"{row.max() / sizes[i]:.0%} of class {row.argmax()}"
            who = "malicious" if holdings.malicious[i] else ""
            facts = [str((row > 0).sum()), share, f"{distance[i]:.2f}"] if holdings.by_class else []
            table.add_row(str(i), f"{sizes[i]:,}", *facts, who)
        yield table

    table = Table(title=f"{dataset.name}: {dataset.source}", title_justify="left")
    table.add_column("")
    about_classes = ["classes", "distance"] if holdings.by_class else []
    for name in ("clients", "examples", "smallest", "median", "largest", *about_classes):
        table.add_column(name, justify="right")
    everyone = np.ones(len(counts), bool)
    groups = {"all clients": everyone}
    if holdings.malicious.any():
        groups |= {"benign": ~holdings.malicious, "malicious": holdings.malicious}
    for name, group in groups.items():
        if not group.any():
            continue
        own = sizes[group]
        numbers = [group.sum(), own.sum(), own.min(), int(np.median(own)), own.max()]
        present = np.median((counts[group] > 0).sum(1))
        facts = [f"{present:g}", f"{distance[group].mean():.2f}"] if holdings.by_class else []
        table.add_row(name, *(f"{x:,}" for x in numbers), *facts)
    for name, size, present in (
        ("root dataset", holdings.root.sum(), (holdings.root > 0).sum()),
        ("test set", len(dataset.test_y), len(np.unique(dataset.test_y))),
    ):
        table.add_row(name, "", f"{size:,}", "", "", "", *([str(present)] if holdings.by_class else []))
    if holdings.by_class:
        table.caption = (
            "classes: median number a client has; distance: mean total variation distance of a client's "
            "classes from all clients' (0: the same mix)"
        )
        table.caption_justify = "left"
    yield table


def remarks(config: ExperimentConfig, holdings: Holdings) -> Iterator[str]:
    """Warnings on this partition.

    Args:
        config: the configuration.
        holdings: who holds what.

    Yields:
        Lines to print.
    """
    batch, sizes = config.local.batch_size, holdings.clients.sum(1)
    if isinstance(batch, int) and (sizes < batch).any():
        short = int((sizes < batch).sum())
        yield (
            f"note: {short} of {len(sizes)} clients have fewer examples than local.batch_size={batch} "
            "(partition.min_size can ask for more)"
        )
    missing = np.flatnonzero(holdings.root == 0)
    if len(missing):
        yield f"note: the root dataset has no example of class {', '.join(map(str, missing))}"
