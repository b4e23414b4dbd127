"""Reading and checking the UCI data set 'Human Activity Recognition Using Smartphones', unpacked or not."""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.data.readers.packed import open_zip, read_entry, read_some, unxz
from fljax.errors import DataError
from fljax.files import open_regular, read_regular, reading

INNER = "UCI HAR Dataset"  # the folder inside the published archive
FOLDERS = ("uci_har", INNER)
# The archive as it is downloaded today holds the second one, which was once published by itself.
ARCHIVES = ("human+activity+recognition+using+smartphones.zip", f"{INNER}.zip", "uci_har.zip")
# Bytes that a file or an archive may have; the archives have about 60 million, the largest text 66 million.
MOST = 100_000_000
NUM_FEATURES = 561
NUM_CLASSES = 6  # walking, walking upstairs, walking downstairs, sitting, standing, laying
NUM_SUBJECTS = 30
# sha256 of the published texts, unpacked; that of X_test.txt is not known here.
DIGESTS = {
    "X_train.txt": "9c1246099c8d5463779eec5a3845cc3898df9d8c715441ab2a1232d4421fc42f",
    "y_train.txt": "415b3357e2e2d5e70a45c781947c6bdd80e0410a579d862eedcd6bbce3c694ef",
    "subject_train.txt": "66e1e2fbe9b396fa5155f531dc3348c803f503be663e2318772d49947db9153a",
    "y_test.txt": "2a94cb53ca46b956c1b2aebd4a09a72badd8a8e9ea9cdfe9f31b3306a08666bb",
    "subject_test.txt": "63b8c577f4a85431c06bd87f6384608c90a9f72f05c7956dd21255dc63515c07",
}
# Windows of each activity in the published parts, which hold 21 and 9 subjects (Anguita et al., 2013).
CLASS_COUNTS = {
    "train": (1226, 1073, 986, 1286, 1374, 1407),
    "test": (496, 471, 420, 491, 532, 537),
}


Folder = Path | zipfile.Path


class HarArrays(NamedTuple):
    """Windows of all parts that were read, in file order."""

    x: np.ndarray  # (N, 561) float32 in [-1, 1]
    y: np.ndarray  # (N,) int32, 0..5
    subjects: np.ndarray  # (N,) int32, 1..30
    complete: bool  # False where the published test part has no features
    others: tuple[str, ...] = ()  # the files that are not the published ones


def find(root: Path) -> Folder | None:
    """The place of the data set: an archive, which always holds all of it, or else an unpacked folder.

    Args:
        root: the folder of all data sets.

    Returns:
        The folder, perhaps inside an archive, or None.

    Raises:
        DataError: an archive is there, but damaged or another one.
    """
    for folder in (root, *(root / name for name in FOLDERS)):
        for name in ARCHIVES:
            if (folder / name).is_file():
                return open_archive(folder / name)
    return next((root / name for name in FOLDERS if (root / name).is_dir()), None)


def open_archive(path: Path) -> zipfile.Path:
    """The data set's folder inside the published archive, or inside the archive in that one.

    Args:
        path: the zip file.

    Returns:
        The folder as a path that can be read from.

    Raises:
        DataError: the file is damaged, or holds neither the folder nor the archive with it.
    """
    with reading(path):
        archive = open_zip(open_regular(path, MOST))
        archive.filename = str(path)
        inner = next((name for name in archive.namelist() if name.split("/")[-1] == f"{INNER}.zip"), None)
        if inner is not None:
            archive = open_zip(io.BytesIO(read_entry(archive, inner, MOST)))
            archive.filename = f"{path}/{inner}"  # for messages: bytes have no name
    for folder in (zipfile.Path(archive, f"{INNER}/"), zipfile.Path(archive)):
        if (folder / "train").is_dir():
            return folder
    raise DataError(f"{path}: holds no folder {INNER}/train and no archive {INNER}.zip")


def _file(folder: Folder, name: str) -> Folder | None:
    """The file, plain or with `.xz`, or None."""
    return next((path for path in (folder / name, folder / f"{name}.xz") if path.is_file()), None)


def _text(path: Folder) -> bytes:
    """One text file, unpacked."""
    if isinstance(path, zipfile.Path):
        with path.open("rb") as file:
            data = read_some(file, MOST)
    else:
        data = read_regular(path, MOST)
    data = unxz(data, MOST + 1) if path.suffix == ".xz" else data
    if len(data) > MOST:
        raise DataError(f"{path}: more than {MOST:,} bytes")
    return data


def _table(folder: Folder, name: str, dtype: type[np.generic], columns: int) -> tuple[np.ndarray, bool]:
    """The numbers of one text file, (rows, columns), and whether it may be the published one."""
    path = _file(folder, name)
    if path is None:
        raise DataError(f"{folder / name}: not found, plain or .xz")
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NumPy's for an empty file, an error below
        text = _text(path)
        values: np.ndarray[Any, Any] = np.loadtxt(io.BytesIO(text), dtype=dtype, ndmin=2)
    if values.size == 0 or values.shape[1] != columns:
        raise DataError(
            f"{path}: {values.shape[0]} rows of {values.shape[1]} values, expected {columns} in each"
        )
    found = hashlib.sha256(text).hexdigest()
    return values, DIGESTS.get(name, found) == found


def read_part(folder: Folder, part: str, class_counts: tuple[int, ...] | None) -> HarArrays:
    """Read `<part>/X_<part>.txt`, `y_<part>.txt` and `subject_<part>.txt`, each plain or with `.xz`.

    Args:
        folder: the data set's folder.
        part: "train" or "test".
        class_counts: expected windows of each activity; None leaves the counts unchecked.

    Returns:
        The arrays of this part, in file order.

    Raises:
        DataError: a file is missing, truncated or corrupt, or its values are not the data set's.
    """
    inside = folder / part
    names = [f"{kind}_{part}.txt" for kind in ("X", "y", "subject")]
    y, same_y = _table(inside, names[1], np.int32, 1)
    subjects, same_subjects = _table(inside, names[2], np.int32, 1)
    x, same_x = _table(inside, names[0], np.float32, NUM_FEATURES)
    y, subjects = y[:, 0], subjects[:, 0]
    same = (same_x, same_y, same_subjects)
    others = tuple(name for name, original in zip(names, same, strict=True) if not original)
    if not len(x) == len(y) == len(subjects):
        rows = f"{len(x)}, {len(y)} and {len(subjects)} rows in {', '.join(names)}"
        raise DataError(f"{inside}: {rows}, expected as many in each")
    for name, values, top in ((names[1], y, NUM_CLASSES), (names[2], subjects, NUM_SUBJECTS)):
        if values.min() < 1 or values.max() > top:
            raise DataError(
                f"{inside / name}: values from {values.min()} to {values.max()}, expected 1 to {top}"
            )
    if not np.abs(x).max() <= 1 + 1e-4:  # also true of NaN
        raise DataError(f"{inside / names[0]}: a value is not finite or outside [-1, 1]")
    counts = tuple(np.bincount(y - 1, minlength=NUM_CLASSES).tolist())
    if class_counts is not None and counts != class_counts:
        raise DataError(f"{inside / names[1]}: windows of each activity {counts}, expected {class_counts}")
    return HarArrays(x, y - np.int32(1), subjects, True, others)


def read(folder: Folder, class_counts: Mapping[str, tuple[int, ...]] | None = None) -> HarArrays:
    """Read the published training part and, where its features are there, the published test part.

    Args:
        folder: the data set's folder.
        class_counts: expected windows of each activity in "train" and "test" (`CLASS_COUNTS` for the
            published files); None leaves the counts unchecked.

    Returns:
        Both parts in one, training part first; `complete` is False where `test/X_test.txt` is missing.

    Raises:
        DataError: a file is missing, truncated or corrupt, or its values are not the data set's.
    """
    expected = class_counts or {}
    train = read_part(folder, "train", expected.get("train"))
    if _file(folder / "test", "X_test.txt") is None:
        return train._replace(complete=False)
    test = read_part(folder, "test", expected.get("test"))
    x, y, subjects = (np.concatenate(pair) for pair in zip(train[:3], test[:3], strict=True))
    return HarArrays(x, y, subjects, True, train.others + test.others)


def split_users(subjects: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split every user's examples at random into ceil(3/4) for training and the rest for testing.

    A user's split depends on `seed`, the user's number and its number of examples only. The fractions
    are those of SAFEFL's loader for this data set (Gehlhar et al., "SAFEFL", 2023).

    Args:
        subjects: (N,) the user of each example, at least 0.
        seed: at least 0.

    Returns:
        Positions of the training and of the test examples, by user, ascending inside each user.

    Example:
        >>> train, test = split_users(np.array([4, 9, 9, 9, 9, 9]), seed=0)
        >>> len(train), len(test), train[0]
        (5, 1, np.int64(0))
    """
    train, test = [], []
    for user in np.unique(subjects):
        mine = np.flatnonzero(subjects == user)
        shuffled = np.random.default_rng([seed, int(user)]).permutation(mine)
        cut = -(-3 * len(mine) // 4)
        train.append(np.sort(shuffled[:cut]))
        test.append(np.sort(shuffled[cut:]))
    return np.concatenate(train), np.concatenate(test)
