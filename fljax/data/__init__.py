"""Data sets, partitions over clients, the root dataset, and augmentation."""

from fljax.data.arrays import from_arrays
from fljax.data.augmentations.images import crop, cutout, flip
from fljax.data.augmentations.registry import AUGMENTATIONS, register_augmentation
from fljax.data.dataset import Dataset, Format

# Lists and tables show the partitions in this order.
# isort: off
from fljax.data.partitions._label_bias import partition_by_label_bias
from fljax.data.partitions._iid import iid
from fljax.data.partitions._by_client import by_client
from fljax.data.partitions.label_skew import dirichlet, shards, similarity
from fljax.data.partitions.size_skew import dirichlet_sizes, power_law_sizes

# isort: on
from fljax.data.partitions.registry import PARTITIONS, register_partition
from fljax.data.root import root_dataset
from fljax.data.sources import DATASETS, load, register_dataset

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "PARTITIONS",
    "Dataset",
    "Format",
    "by_client",
    "crop",
    "cutout",
    "dirichlet",
    "dirichlet_sizes",
    "flip",
    "from_arrays",
    "iid",
    "load",
    "partition_by_label_bias",
    "power_law_sizes",
    "register_augmentation",
    "register_dataset",
    "register_partition",
    "root_dataset",
    "shards",
    "similarity",
]
