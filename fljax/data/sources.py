"""Data sets by name: from original files, installed packages or a generator, as arrays in memory."""

import hashlib
import inspect
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.data import idx, tfds_source, uci_har
from fljax.errors import ConfigError, DataError, unknown_name

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set in memory.

    Args:
        train_x: (N_train, *input_shape) float32.
        train_y: (N_train,) int32, 0 to num_classes - 1.
        test_x: (N_test, *input_shape) float32.
        test_y: (N_test,) int32, 0 to num_classes - 1.
        num_classes: number of classes.
        name: short name.
        client_ids: (N_train,) int32, the natural client of each training example, 0 to k - 1; None where
            there are no natural clients.
        source: where the arrays came from, for the record.
        notes: what a report on this data set has to say.

    Raises:
        DataError: the arrays do not fit together.

    Example:
        >>> x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1], np.int32)
        >>> data = Dataset(x, y, x[:2], y[:2], num_classes=2, name="mine")
        >>> data.input_shape
        (3,)
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int
    name: str
    client_ids: np.ndarray | None = None
    source: str = "arrays"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.dtype != np.float32 or y.dtype != np.int32:
                types = f"{part}_x and {part}_y are {x.dtype} and {y.dtype}"
                raise DataError(f"{self.name}: {types}, expected float32 and int32")
            if y.ndim != 1 or x.ndim < 2 or len(x) != len(y) or len(y) == 0:
                raise DataError(f"{self.name}: {part}_x {x.shape} and {part}_y {y.shape} do not fit together")
            if y.min() < 0 or y.max() >= self.num_classes:
                labels = f"{part}_y goes from {y.min()} to {y.max()}"
                raise DataError(f"{self.name}: {labels}, expected 0 to {self.num_classes - 1}")
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise DataError(
                f"{self.name}: inputs {self.train_x.shape[1:]} in train_x, {self.test_x.shape[1:]} in test_x"
            )
        ids = self.client_ids
        if ids is None:
            return
        if ids.dtype != np.int32 or ids.shape != self.train_y.shape:
            given = f"client_ids are {ids.dtype} {ids.shape}"
            raise DataError(f"{self.name}: {given}, expected int32 {self.train_y.shape}")
        users = np.unique(ids)
        if users[0] != 0 or users[-1] != len(users) - 1:
            raise DataError(f"{self.name}: client_ids must be 0 to k - 1, each of them used at least once")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train_x.shape[1:]

    def label_hash(self) -> str:
        """A fingerprint of all labels in their order, to tell whether two runs saw the same examples.

        Returns:
            The first 16 hex digits of the sha256 of train_y, then test_y, as little-endian int32.

        Example:
            >>> load("synthetic", seed=1).label_hash() == load("synthetic", seed=1).label_hash()
            True
        """
        data = self.train_y.astype("<i4").tobytes() + self.test_y.astype("<i4").tobytes()
        return hashlib.sha256(data).hexdigest()[:16]


class DatasetEntry(NamedTuple):
    """One known data set: its keyword-only arguments are the options that `load` accepts for it."""

    load: Callable[..., Dataset]  # load(data_dir, seed, *, options)
    summary: str
    citation: str
    seeded: bool = True  # whether the seed changes what is loaded


def _data_root(name: str, data_dir: PathLike | None) -> Path | None:
    """The folder that holds one folder per data set, or None where none was given."""
    given = data_dir or os.environ.get("FLJAX_DATA")
    if not given:
        return None
    root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: {'data_dir' if data_dir else 'FLJAX_DATA'} {str(root)!r} is not a folder")
    return root


def _load_digits(data_dir: PathLike | None, seed: int) -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("digits: scikit-learn is not installed; pip install scikit-learn adds it") from None
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = labels[order].astype(np.int32)
    return Dataset(x[:1437], y[:1437], x[1437:], y[1437:], 10, "digits", source="scikit-learn")


def _load_idx(
    name: str, data_dir: PathLike | None, seed: int, *, tfds_dir: PathLike | None = None
) -> Dataset:
    root, spec = _data_root(name, data_dir), idx.SPECS[name]
    arrays = idx.read_folder(root / name, spec) if root else None
    if arrays is not None:
        source = f"idx files in {root}/{name}"
    else:
        try:
            arrays, source = tfds_source.read_or_prepare(name, tfds_dir)
        except DataError as error:
            tried = f"no idx files in {root / name}" if root else "neither data_dir nor FLJAX_DATA is given"
            raise DataError(f"{tried}; {error}") from None

    def scaled(images: np.ndarray) -> np.ndarray:
        x = images[..., None].astype(np.float32)
        x /= 255
        return x

    return Dataset(
        scaled(arrays.train_x),
        arrays.train_y.astype(np.int32),
        scaled(arrays.test_x),
        arrays.test_y.astype(np.int32),
        num_classes=len(spec.train_counts),
        name=name,
        source=source,
    )


def _load_uci_har(data_dir: PathLike | None, seed: int) -> Dataset:
    root = _data_root("uci_har", data_dir)
    folder = (
        next((root / inner for inner in uci_har.FOLDERS if (root / inner).is_dir()), None) if root else None
    )
    if folder is None:
        places = " or ".join(repr(str((root or Path("<data_dir>")) / inner)) for inner in uci_har.FOLDERS)
        raise DataError(
            "uci_har: not found; unpack the archive of the UCI Machine Learning Repository (data set 240) "
            f"to {places}" + ("" if root else ", and give data_dir or set FLJAX_DATA")
        )
    har = uci_har.read(folder, uci_har.CLASS_COUNTS)
    train, test = uci_har.split_users(har.subjects, seed)
    users, client_ids = np.unique(har.subjects[train], return_inverse=True)
    notes = (f"{len(users)} of {uci_har.NUM_SUBJECTS} subjects (test/X_test.txt not found)",)
    return Dataset(
        har.x[train],
        har.y[train],
        har.x[test],
        har.y[test],
        num_classes=uci_har.NUM_CLASSES,
        name="uci_har",
        client_ids=client_ids.astype(np.int32),
        source=f"text files in {folder}",
        notes=() if har.complete else notes,
    )


def _load_synthetic(
    data_dir: PathLike | None,
    seed: int,
    *,
    num_train: int = 2000,
    num_test: int = 500,
    num_features: int = 20,
    num_classes: int = 10,
    separation: float = 4.0,
) -> Dataset:
    """Class centres at distance `separation` from the origin, and standard normal noise around them."""
    sizes = {
        "num_train": num_train,
        "num_test": num_test,
        "num_features": num_features,
        "num_classes": num_classes,
    }
    for option, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"synthetic: {option} must be an integer of at least 1, got {value!r}")
    if not 0 <= separation < float("inf"):
        raise ConfigError(f"synthetic: separation must be finite and at least 0, got {separation!r}")
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_classes, num_features))
    centres *= separation / np.linalg.norm(centres, axis=1, keepdims=True)

    def examples(number: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(number) % num_classes)  # class sizes differ by one at most
        x = centres[y] + rng.standard_normal((number, num_features))
        return x.astype(np.float32), y.astype(np.int32)

    return Dataset(*examples(num_train), *examples(num_test), num_classes, "synthetic", source="generated")


DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        _load_digits,
        "1,797 handwritten digits of 8x8 grey levels, shuffled into 1,437 / 360",
        "Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository, "
        "1998",
    ),
    "mnist": DatasetEntry(
        partial(_load_idx, "mnist"),
        "handwritten digits, 28x28 grey levels, 60,000 / 10,000",
        "LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        seeded=False,
    ),
    "fashion_mnist": DatasetEntry(
        partial(_load_idx, "fashion_mnist"),
        "articles of clothing, 28x28 grey levels, 60,000 / 10,000",
        "Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms, arXiv:1708.07747, 2017",
        seeded=False,
    ),
    "uci_har": DatasetEntry(
        _load_uci_har,
        "activities from smartphone sensors, 561 features, 30 subjects as clients, 3/4 of each for training",
        "Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, A public domain dataset for human activity recognition "
        "using smartphones, ESANN 2013",
    ),
    "synthetic": DatasetEntry(
        _load_synthetic, "Gaussian clusters, one per class, of any size", "generated by fljax, 2026"
    ),
}


def load(name: str, data_dir: PathLike | None = None, *, seed: int = 0, **options: Any) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of `DATASETS`.
        data_dir: folder with one folder per data set, used by "mnist", "fashion_mnist" and "uci_har";
            None stands for the environment variable FLJAX_DATA.
        seed: of the split ("digits", "uci_har") or of the generator ("synthetic"), at least 0.
        **options: the data set's own. "mnist" and "fashion_mnist": `tfds_dir`, the folder of TensorFlow
            Datasets, which are used where the original files are not there. "synthetic": `num_train`,
            `num_test`, `num_features`, `num_classes`, and `separation`, the distance of the class centres
            from the origin in standard deviations of an example.

    Returns:
        The data set; pixels are scaled to [0, 1].

    Raises:
        ConfigError: an unknown name or option, or an option's value that is not allowed.
        DataError: a file is missing, truncated, corrupt or not what its name says.

    Example:
        >>> load("synthetic", num_train=6, num_classes=3).train_x.shape
        (6, 20)
    """
    if name not in DATASETS:
        raise ConfigError(unknown_name("dataset", name, DATASETS))
    loader = DATASETS[name].load
    parameters = inspect.signature(loader).parameters.values()
    allowed = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in allowed and not allowed:
            raise ConfigError(f"dataset {name!r} takes no options, got {option!r}")
        if option not in allowed:
            raise ConfigError(unknown_name(f"option of dataset {name!r}", option, allowed))
    if operator.index(seed) < 0:
        raise ConfigError(f"dataset {name!r}: seed must be at least 0, got {seed}")
    return loader(data_dir, operator.index(seed), **options)
