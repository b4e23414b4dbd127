"""Reading and checking the idx files in which MNIST and Fashion-MNIST are published."""

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.data.readers.packed import gunzip
from fljax.errors import DataError
from fljax.files import read_regular, reading

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
# Bytes a file may have; the largest of them, unpacked, has half of that.
MOST = 100_000_000


class ImageArrays(NamedTuple):
    """Grey images and their labels as stored, all uint8: x (N, height, width), y (N,)."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    notes: tuple[str, ...] = ()  # what a report on these files has to say


class ImageSpec(NamedTuple):
    """Marks of a published image data set: its files, and counts that no order of its examples changes."""

    image_shape: tuple[int, int]
    train_counts: tuple[int, ...]  # examples of each class
    test_counts: tuple[int, ...]
    train_pixel_sum: int  # of all grey levels, 0..255
    test_pixel_sum: int
    digests: tuple[str, ...]  # sha256 of the unpacked FILES


# Counted, summed and hashed over files whose sha256 are the ones TensorFlow Datasets 4.9.10 (2026) registers.
SPECS = {
    "mnist": ImageSpec(
        (28, 28),
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        1_567_298_545,
        264_923_200,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": ImageSpec(
        (28, 28),
        (6000,) * 10,
        (1000,) * 10,
        3_431_114_169,
        573_469_082,
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def find_files(folder: Path) -> dict[str, Path] | None:
    """The paths of the four files in a folder, plain or with `.gz`.

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


def read_idx(path: Path, shape: tuple[int, ...], most: int = MOST) -> np.ndarray:
    """Read one idx file of unsigned bytes whose size is known beforehand.

    The format (LeCun, Cortes and Burges, 1998): two zero bytes, one byte for the type (8: unsigned
    byte), one for the number of dimensions, the dimensions as big-endian 32-bit integers, the values.

    Args:
        path: the file; gzip-compressed where its name ends in `.gz`.
        shape: the dimensions that the file must have.
        most: bytes that the file may have.

    Returns:
        uint8 array of that shape, read-only.

    Raises:
        DataError: the file cannot be read or unpacked, or its header or length is not the expected one.
    """
    header, size = 4 + 4 * len(shape), math.prod(shape)
    with reading(path):
        data = read_regular(path, most)
        if path.suffix == ".gz":
            data = gunzip(data, header + size + 1)  # one more, to notice what follows and check gzip's CRC
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
    check_range(where, labels, len(counts))
    got = tuple(np.bincount(labels, minlength=len(counts)).tolist())
    if got != counts:
        raise DataError(f"{where}: examples of each class {got}, expected {counts}{_whose(got)}")


def check_range(where: object, labels: np.ndarray, num_classes: int, first: int = 0) -> None:
    """Check that labels are `num_classes` numbers from `first`.

    Raises:
        DataError: one is not.

    Example:
        >>> check_range("labels", np.array([1, 26]), 26, first=1)
    """
    last = first + num_classes - 1
    if labels.size and not first <= labels.min() <= labels.max() <= last:
        raise DataError(f"{where}: labels from {labels.min()} to {labels.max()}, expected {first} to {last}")


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

    A file of the right kind that is not the original one is noted, another known data set's is refused.

    Args:
        folder: the folder with the four files, plain or with `.gz`; it need not exist.
        spec: the data set that they must hold.

    Returns:
        The arrays in file order with notes, or None where the folder holds none of the four files.

    Raises:
        DataError: a file is missing, truncated, corrupt, or another data set's.
    """
    paths = find_files(folder)
    if paths is None:
        return None
    arrays: list[Any] = []
    others = []
    for name, original in zip(FILES, spec.digests, strict=True):
        counts = spec.train_counts if name in (TRAIN_IMAGES, TRAIN_LABELS) else spec.test_counts
        is_images = name in (TRAIN_IMAGES, TEST_IMAGES)
        array = read_idx(paths[name], (sum(counts), *(spec.image_shape if is_images else ())))
        if not is_images:
            check_range(paths[name], array, len(counts))
        if (found := digest(array)) != original:
            if whose := [known for known, other in SPECS.items() if found in other.digests]:
                raise DataError(f"{paths[name]}: is another data set's (that is {whose[0]})")
            others.append(paths[name].name)
        arrays.append(array)
    notes = (f"not the original file: {', '.join(others)}",) if others else ()
    return ImageArrays(*arrays)._replace(notes=notes)


def digest(array: np.ndarray) -> str:
    """The sha256 of the idx file, unpacked, of an array of bytes.

    Example:
        >>> digest(np.arange(3, dtype=np.uint8))[:16]
        'b42326e576482897'
    """
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    found = hashlib.sha256(header)
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
