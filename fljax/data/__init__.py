"""Data sets, partitions over clients, and the root dataset."""

from fljax.data.partition import PARTITIONS, by_client, iid, partition_by_label_bias
from fljax.data.root import root_dataset
from fljax.data.sources import DATASETS, Dataset, load

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "Dataset",
    "by_client",
    "iid",
    "load",
    "partition_by_label_bias",
    "root_dataset",
]
