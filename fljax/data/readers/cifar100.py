"""Reading and checking CIFAR-100 from its two original containers."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.data.readers.cifar10 import channels_last, check_means
from fljax.data.readers.pickles import read_pickle
from fljax.errors import DataError, listed
from fljax.files import read_regular, reading

NUM_CLASSES = {"fine": 100, "coarse": 20}
SIZES = {"train": 50_000, "test": 10_000}
MOST = 200_000_000  # bytes of a file; the training part has 156 million
MOST_STEPS = 1_000_000  # of its pickle: several opcodes for two labels and a file's name of each image
ROW = 2 + 3072  # bytes of an image in the binary version
# md5 of the pickles as they are published, and the mean red, green and blue of the training images.
DIGESTS = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
TRAIN_MEANS = (0.50708, 0.48655, 0.44092)
FOLDERS = ("cifar100/cifar-100-python", "cifar-100-python", "cifar100/cifar-100-binary", "cifar-100-binary")


class Part(NamedTuple):
    """One file."""

    x: np.ndarray  # (N, 32, 32, 3) uint8
    fine: np.ndarray  # (N,) uint8
    coarse: np.ndarray  # (N,) uint8


def read_pickled(path: Path) -> tuple[Part, bool]:
    """Read a part of `cifar-100-python`: a dictionary with `data`, `fine_labels` and `coarse_labels`.

    Args:
        path: the file; it is read without running any code it may hold.

    Returns:
        The part, and whether it is the published file.

    Raises:
        DataError: the file is no such pickle, or its arrays have other sizes.
    """
    data = _bytes(path)
    values = read_pickle(path, data, MOST_STEPS)
    found: list[Any] = [values.get(key) for key in ("data", "fine_labels", "coarse_labels")]
    x, *labels = found
    if not isinstance(x, np.ndarray) or not all(isinstance(each, list) for each in labels):
        raise DataError(f"{path}: holds {listed(values)}, expected data, fine_labels and coarse_labels")
    if x.ndim != 2 or x.shape[1] != 3072 or any(len(each) != len(x) for each in labels):
        sizes = " and ".join(str(len(each)) for each in labels)
        raise DataError(f"{path}: data {x.shape} and {sizes} labels, expected (N, 3072) and N")
    if not all(isinstance(label, int) and 0 <= label < 100 for each in labels for label in each):
        raise DataError(f"{path}: labels must be whole numbers from 0 to 99")
    fine, coarse = (np.array(each, np.uint8) for each in labels)
    original = hashlib.md5(data, usedforsecurity=False).hexdigest() == DIGESTS.get(path.name)
    return Part(channels_last(x), fine, coarse), original


def read_binary(path: Path) -> tuple[Part, bool]:
    """Read a part of `cifar-100-binary`: for each image a coarse label, a fine one and 3 × 32 × 32 pixels.

    Args:
        path: the file.

    Returns:
        The part, and True: its digest is not known here.

    Raises:
        DataError: the file's length is no multiple of 3,074.
    """
    data = np.frombuffer(_bytes(path), np.uint8)
    if not data.size or data.size % ROW:
        raise DataError(f"{path}: {data.size:,} bytes, expected a multiple of {ROW:,}")
    rows = data.reshape(-1, ROW)
    return Part(channels_last(rows[:, 2:]), rows[:, 1].copy(), rows[:, 0].copy()), True


def read(root: Path) -> tuple[dict[str, Part], tuple[str, ...], str] | None:
    """Read and check the first container that is there.

    Args:
        root: the folder of all data sets.

    Returns:
        "train" and "test", notes, and a text that says where they came from; None where there is no file.

    Raises:
        DataError: a file is missing or damaged, or not what its name says.
    """
    for folder in (root / name for name in FOLDERS):
        pickled = folder.name.endswith("python")
        paths = {part: folder / (part if pickled else f"{part}.bin") for part in SIZES}
        missing = [path.name for path in paths.values() if not path.is_file()]
        if len(missing) == len(paths):
            continue
        if missing:
            raise DataError(f"{folder}: {', '.join(missing)} not found (train and test are needed)")
        parts, others = {}, []
        for name, path in paths.items():
            parts[name], original = (read_pickled if pickled else read_binary)(path)
            check(path, parts[name], name)
            others += [] if original else [path.name]
        notes = (f"not the original file: {', '.join(others)}",) if others else ()
        return parts, notes, f"{'Python' if pickled else 'binary'} files in {folder}"
    return None


def check(where: object, part: Part, name: str) -> None:
    """Check that a part is what its name says.

    Args:
        where: what the message names, usually the file.
        part: what was read.
        name: "train" or "test".

    Raises:
        DataError: it has another size, its classes are not equally frequent, a fine class lies in several
            coarse ones, or the colours are exchanged.
    """
    if len(part.x) != SIZES[name]:
        raise DataError(f"{where}: {len(part.x):,} images, expected {SIZES[name]:,}")
    for kind, labels in (("fine", part.fine), ("coarse", part.coarse)):
        check_even(f"{where} ({kind})", labels, NUM_CLASSES[kind])
    pairs = np.unique(part.fine.astype(int) * 100 + part.coarse)
    if len(pairs) != NUM_CLASSES["fine"]:
        raise DataError(f"{where}: a fine class lies in several coarse ones")
    if name == "train":
        check_means(where, part.x, TRAIN_MEANS)


def check_even(where: object, labels: np.ndarray, num_classes: int) -> None:
    """Check that all classes are equally frequent.

    Raises:
        DataError: they are not, or a label is outside.

    Example:
        >>> check_even("labels", np.array([0, 1, 1, 0]), 2)
    """
    counts = np.bincount(labels, minlength=num_classes)
    if len(counts) != num_classes or counts.min() != counts.max():
        raise DataError(
            f"{where}: {counts.min():,} to {counts.max():,} examples of each of {len(counts)} classes, "
            f"expected {len(labels) // num_classes:,} of each of {num_classes}"
        )


def _bytes(path: Path) -> bytes:
    with reading(path):
        return read_regular(path, MOST)
