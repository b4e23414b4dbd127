"""Reading the splits of EMNIST from the idx files in which it is published.

The images lie on their side there: rows and columns are exchanged.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fljax.data.readers import idx
from fljax.data.readers.packed import check_fits
from fljax.errors import DataError

SHAPE = (28, 28)
FOLDERS = ("emnist", "emnist/gzip")  # the second as the published archive is unpacked
MOST = 600_000_000  # bytes of a file; 697,932 images have 547 million


class Split(NamedTuple):
    """One of the published choices of examples and classes.

    Attributes:
        num_classes: M.
        sizes: numbers of training and of test examples, newest version first.
        first: the first label in the files.
        even: whether all classes are equally frequent.
    """

    num_classes: int
    sizes: tuple[tuple[int, int], ...]
    first: int = 0
    even: bool = True


# As the page of NIST and the paper count them; of the letters there were two versions.
SPLITS = {
    "balanced": Split(47, ((112_800, 18_800),)),
    "byclass": Split(62, ((697_932, 116_323),), even=False),
    "bymerge": Split(47, ((697_932, 116_323),), even=False),
    "letters": Split(26, ((124_800, 20_800), (88_800, 14_800)), first=1),
    "digits": Split(10, ((240_000, 40_000),)),
    "mnist": Split(10, ((60_000, 10_000),)),
}


def read(root: Path, name: str) -> tuple[idx.ImageArrays, str] | None:
    """Read one split.

    Args:
        root: the folder of all data sets.
        name: a key of `SPLITS`.

    Returns:
        The arrays as they are stored, with notes, and a text that says where they came from; None where there
        is no file of the split.

    Raises:
        DataError: a file is missing, damaged, or of another size than was published.
    """
    files = [f"emnist-{name}-{part}-{kind}-ubyte" for part in ("train", "test") for kind in KINDS]
    for folder in (root / each for each in FOLDERS):
        paths = {file: _place(folder, file) for file in files}
        missing = [file for file, path in paths.items() if path is None]
        if len(missing) == len(files):
            continue
        if missing:
            raise DataError(f"{folder}: {', '.join(missing)} not found, plain or .gz (all four are needed)")
        found = [path for path in paths.values() if path is not None]
        return _read(found, SPLITS[name]), f"idx files in {folder}"
    return None


KINDS = ("images-idx3", "labels-idx1")


def _place(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _read(paths: list[Path], split: Split) -> idx.ImageArrays:
    train_x, train_y, test_x, test_y = paths
    for number, sizes in enumerate(split.sizes):
        try:
            labels = [
                idx.read_idx(path, (size,), MOST) for path, size in zip((train_y, test_y), sizes, strict=True)
            ]
            break
        except DataError:
            if number == len(split.sizes) - 1:
                raise
    check_fits(f"{train_x}: the images take", sum(sizes) * SHAPE[0] * SHAPE[1] * 5)
    notes: tuple[str, ...] = ()
    for path, found in zip((train_y, test_y), labels, strict=True):
        idx.check_range(path, found, split.num_classes, split.first)
        counts = np.bincount(found - split.first, minlength=split.num_classes)
        if split.even and counts.min() != counts.max():
            notes += (f"not the original file: {path.name} (its classes are not equally frequent)",)
    images = [
        idx.read_idx(path, (size, *SHAPE), MOST) for path, size in zip((train_x, test_x), sizes, strict=True)
    ]
    return idx.ImageArrays(images[0], labels[0], images[1], labels[1], notes)


def upright(images: np.ndarray) -> np.ndarray:
    """Images (N, 28, 28) with rows and columns exchanged."""
    return images.transpose(0, 2, 1)
