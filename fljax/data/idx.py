"""Reading and checking the idx files in which MNIST and Fashion-MNIST are published."""

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fljax.errors import DataError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


class ImageArrays(NamedTuple):
    """Grey images and their labels as stored, all uint8: x (N, height, width), y (N,)."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


class ImageSpec(NamedTuple):
    """What identifies a published image data set, whatever the order of its examples."""

    image_shape: tuple[int, int]
    train_counts: tuple[int, ...]  # examples of each class
    test_counts: tuple[int, ...]
    train_pixel_sum: int  # of all grey levels, 0..255
    test_pixel_sum: int


# Counted and summed over files whose sha256 are the ones TensorFlow Datasets 4.9.10 (2026) registers.
SPECS = {
    "mnist": ImageSpec(
        (28, 28),
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        1_567_298_545,
        264_923_200,
    ),
    "fashion_mnist": ImageSpec((28, 28), (6000,) * 10, (1000,) * 10, 3_431_114_169, 573_469_082),
}


def find_files(folder: Path) -> dict[str, Path] | None:
    """Where the four files lie in a folder, plain or with `.gz`.

    Args:
        folder: the folder of one data set; it need not exist.

    Returns:
        `{name without .gz: path}`, or None where the folder holds none of the four.

    Raises:
        DataError: some, but not all of the four files are there.
    """
    found = {}
    for name in FILES:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                found[name] = path
                break
    missing = [name for name in FILES if name not in found]
    if not found:
        return None
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} not found, plain or .gz (all four files are needed)")
    return found


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read one idx file of unsigned bytes whose size is known beforehand.

    The format (LeCun, Cortes and Burges, 1998): two zero bytes, one byte for the type (8: unsigned
    byte), one for the number of dimensions, the dimensions as big-endian 32-bit integers, the values.

    Args:
        path: the file; gzip-compressed where its name ends in `.gz`.
        shape: the dimensions that the file must have.

    Returns:
        uint8 array of that shape, read-only.

    Raises:
        DataError: the file cannot be read or unpacked, or its header or length is not the expected one.
    """
    header, size = 4 + 4 * len(shape), math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(header + size + 1)  # one more, to notice what follows and check gzip's CRC
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, truncated or corrupt ({error})") from None
    magic = bytes([0, 0, 8, len(shape)])
    if data[:4] != magic:
        raise DataError(
            f"{path}: starts with the bytes '{data[:4].hex(' ')}', expected '{magic.hex(' ')}' "
            f"(idx file of unsigned bytes, {len(shape)} dimensions)"
        )
    dims = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else ()
    if dims != shape:
        raise DataError(f"{path}: its header announces dimensions {dims}, expected {shape}")
    if len(data) != header + size:
        present = f"{len(data) - header:,}" if len(data) < header + size else "more"
        raise DataError(f"{path}: {present} bytes follow the header, expected {size:,}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def check_labels(where: object, labels: np.ndarray, counts: tuple[int, ...]) -> None:
    """Check how often each class occurs.

    Args:
        where: what the message names, usually the label file.
        labels: (N,) integers.
        counts: expected number of examples of class 0, 1, ...

    Raises:
        DataError: a label is outside the classes, or a class has another number of examples.

    Example:
        >>> check_labels("labels", np.array([0, 1, 1]), (1, 2))
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < len(counts):
        raise DataError(
            f"{where}: labels from {labels.min()} to {labels.max()}, expected 0 to {len(counts) - 1}"
        )
    got = tuple(np.bincount(labels, minlength=len(counts)).tolist())
    if got != counts:
        raise DataError(f"{where}: examples of each class {got}, expected {counts}{_whose(got)}")


def check_pixels(where: object, images: np.ndarray, pixel_sum: int) -> None:
    """Check the sum of all grey levels, which tells one data set's images from another's.

    Args:
        where: what the message names, usually the image file.
        images: uint8, any shape.
        pixel_sum: expected sum.

    Raises:
        DataError: the sum differs.

    Example:
        >>> check_pixels("images", np.full((2, 3), 7, np.uint8), 42)
    """
    got = int(images.sum(dtype=np.int64))
    if got != pixel_sum:
        raise DataError(f"{where}: the grey levels sum to {got:,}, expected {pixel_sum:,}{_whose(got)}")


def _whose(found: object) -> str:
    """A hint where what was found belongs to another known data set."""
    names = [name for name, spec in SPECS.items() if found in spec]
    return f" (that is {names[0]})" if names else ""


def read_folder(folder: Path, spec: ImageSpec) -> ImageArrays | None:
    """Read and check the four files of one data set.

    Args:
        folder: the folder with the four files, plain or with `.gz`; it need not exist.
        spec: the data set that they must hold.

    Returns:
        The arrays in file order, or None where the folder holds none of the four files.

    Raises:
        DataError: a file is missing, truncated, corrupt, or another data set's.
    """
    paths = find_files(folder)
    if paths is None:
        return None
    arrays = []
    for images, labels, counts, pixel_sum in (
        (TRAIN_IMAGES, TRAIN_LABELS, spec.train_counts, spec.train_pixel_sum),
        (TEST_IMAGES, TEST_LABELS, spec.test_counts, spec.test_pixel_sum),
    ):
        y = read_idx(paths[labels], (sum(counts),))
        check_labels(paths[labels], y, counts)
        x = read_idx(paths[images], (sum(counts), *spec.image_shape))
        check_pixels(paths[images], x, pixel_sum)
        arrays += [x, y]
    return ImageArrays(*arrays)
