"""Data sets by name: from original files, installed packages or a generator, as arrays in memory."""

import inspect
import operator
import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fljax.data.arrays import read_npz
from fljax.data.dataset import Dataset, scaled
from fljax.data.readers import cifar10, colorectal, idx, uci_har
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.cifar10 import Batch
from fljax.data.readers.packed import check_fits
from fljax.errors import ConfigError, DataError, unknown_name
from fljax.registry import Registry

PathLike = str | os.PathLike[str]
Loader = TypeVar("Loader", bound=Callable[..., Dataset])

DATASETS = Registry("data set", seeded=True)


def register_dataset(
    name: str | None = None, *, title: str | None = None, source: str = "", seeded: bool = True
) -> Callable[[Loader], Loader]:
    """Make a loader known under a name, for configurations, `fljax.data.load` and lists; a decorator.

    The loader is called as `loader(data_dir, seed, **options)`: the folder that holds the data sets' folders
    or None, a whole number, and its options, which are its keyword-only parameters.

    Args:
        name: what a configuration calls it; default the function's name.
        title: what tables and figures call it; default the name.
        source: where it was published, with the year.
        seeded: whether the seed changes what is loaded; a sweep over seeds loads it once if not.

    Returns:
        The decorator, which returns the loader as it is.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> @register_dataset(seeded=False)
        ... def two_points(data_dir, seed, *, distance: float = 1.0):
        ...     '''Two examples, one of each class.'''
        ...     x, y = np.array([[0], [distance]], np.float32), np.arange(2, dtype=np.int32)
        ...     return Dataset(x, y, x, y, 2, "two_points")
        >>> load("two_points", distance=3.0).train_x.tolist()
        [[0.0], [3.0]]
        >>> DATASETS.remove("two_points")
    """
    return DATASETS.register(name, title=title, source=source, seeded=seeded)


def _data_root(name: str, data_dir: PathLike | None) -> Path | None:
    """The folder that holds one folder per data set, or None where none was given."""
    given = data_dir or os.environ.get("FLJAX_DATA")
    if not given:
        return None
    root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: {'data_dir' if data_dir else 'FLJAX_DATA'} {str(root)!r} is not a folder")
    return root


@lru_cache(maxsize=1)
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, read once: a sweep over seeds splits them a thousand times."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("digits: scikit-learn is not installed; pip install scikit-learn adds it") from None
    return load_digits(return_X_y=True)


@register_dataset(
    "digits",
    source="Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository, "
    "1998",
)
def _load_digits(data_dir: PathLike | None, seed: int) -> Dataset:
    """1,797 handwritten digits of 8x8 grey levels, shuffled into 1,437 / 360."""
    images, labels = _all_digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = labels[order].astype(np.int32)
    return Dataset(x[:1437], y[:1437], x[1437:], y[1437:], 10, "digits", source="scikit-learn")


def _with_tfds(
    name: str, root: Path | None, found: Any, wanted: str, tfds_dir: PathLike | None
) -> tuple[Any, str]:
    """The arrays found among the files and their source, or else those of TensorFlow Datasets.

    Raises:
        DataError: neither is there; the sentence says what was tried.
    """
    if found is not None:
        return found
    try:
        return tfds_source.read_or_prepare(name, tfds_dir)
    except DataError as error:
        tried = f"no {wanted} in {root / name}" if root else "neither data_dir nor FLJAX_DATA is given"
        raise DataError(f"{tried}; {error}") from None


def _from_idx(name: str, data_dir: PathLike | None, tfds_dir: PathLike | None) -> Dataset:
    """A data set of original idx files, or of TensorFlow Datasets."""
    root, spec = _data_root(name, data_dir), idx.SPECS[name]
    arrays = idx.read_folder(root / name, spec) if root else None
    found = None if arrays is None else (arrays, f"idx files in {root}/{name}")
    arrays, source = _with_tfds(name, root, found, "idx files", tfds_dir)
    return Dataset(
        scaled(arrays.train_x)[..., None],
        arrays.train_y.astype(np.int32),
        scaled(arrays.test_x)[..., None],
        arrays.test_y.astype(np.int32),
        num_classes=len(spec.train_counts),
        name=name,
        source=source,
        notes=arrays.notes,
    )


@register_dataset(
    "mnist",
    title="MNIST",
    source="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
    seeded=False,
)
def _load_mnist(data_dir: PathLike | None, seed: int, *, tfds_dir: PathLike | None = None) -> Dataset:
    """Handwritten digits, 28x28 grey levels, 60,000 / 10,000.

    Args:
        data_dir, seed: as for `load`.
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there.
    """
    return _from_idx("mnist", data_dir, tfds_dir)


@register_dataset(
    "fashion_mnist",
    title="Fashion-MNIST",
    source="Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
    "algorithms, arXiv:1708.07747, 2017",
    seeded=False,
)
def _load_fashion_mnist(data_dir: PathLike | None, seed: int, *, tfds_dir: PathLike | None = None) -> Dataset:
    """Articles of clothing, 28x28 grey levels, 60,000 / 10,000.

    Args:
        data_dir, seed: as for `load`.
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there.
    """
    return _from_idx("fashion_mnist", data_dir, tfds_dir)


@register_dataset(
    "cifar10",
    title="CIFAR-10",
    source="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    seeded=False,
)
def _load_cifar10(
    data_dir: PathLike | None, seed: int, *, exact_only: bool = False, tfds_dir: PathLike | None = None
) -> Dataset:
    """Photographs of ten kinds of things, 32x32 in colour, 50,000 / 10,000.

    Args:
        data_dir, seed: as for `load`.
        exact_only: leave out images of which only a lossy copy is there.
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there.
    """
    root = _data_root("cifar10", data_dir)
    found = cifar10.read(root) if root else None
    notes: tuple[str, ...] = ()
    if found is not None:
        (train, test, notes), source = found
        lossy = [int((~part.exact).sum()) for part in (train, test)]
        if any(lossy):
            where = f"{lossy[0]} of {len(train.y):,} training and {lossy[1]} of {len(test.y):,} test images"
            if exact_only:
                train, test = (Batch(*(array[part.exact] for array in part)) for part in (train, test))
                notes += (f"{where} are left out, of which these files only have lossy copies",)
            else:
                notes += (f"{where} are lossy copies (exact_only = true leaves them out)",)
        parts = (train.x, train.y, test.x, test.y)
    else:
        arrays, source = _with_tfds("cifar10", root, None, "CIFAR-10 batches", tfds_dir)
        *parts, notes = arrays
    train_x, train_y, test_x, test_y = parts
    return Dataset(
        scaled(train_x),
        train_y.astype(np.int32),
        scaled(test_x),
        test_y.astype(np.int32),
        num_classes=cifar10.NUM_CLASSES,
        name="cifar10",
        source=source,
        notes=notes,
    )


@register_dataset(
    "colorectal_histology",
    title="CH-MNIST",
    source="Kather, Weis, Bianconi and others, Multi-class texture analysis in colorectal cancer histology, "
    "Scientific Reports, 2016",
)
def _load_colorectal(data_dir: PathLike | None, seed: int, *, tfds_dir: PathLike | None = None) -> Dataset:
    """CH-MNIST: tissue of eight kinds, 64x64 grey levels, shuffled into 4,000 / 1,000.

    Args:
        data_dir, seed: as for `load`.
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there.
    """
    name = "colorectal_histology"
    root = _data_root(name, data_dir)
    found = colorectal.read(root) if root else None
    wanted = f"{colorectal.TABLE} or {colorectal.ARCHIVE}"
    tiles, source = _with_tfds(name, root, found, wanted, tfds_dir)
    if found is None:
        tiles = colorectal.Tiles(np.stack([*map(colorectal.to_grey, tiles.train_x)]), tiles.train_y)
    x, y = scaled(tiles.x)[..., None], tiles.y.astype(np.int32)
    train, test = colorectal.split(len(y), seed)
    return Dataset(
        x[train], y[train], x[test], y[test], colorectal.NUM_CLASSES, name, source=source, notes=tiles.notes
    )


@register_dataset(
    "uci_har",
    title="UCI HAR",
    source="Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, A public domain dataset for human activity "
    "recognition using smartphones, ESANN 2013",
)
def _load_uci_har(data_dir: PathLike | None, seed: int) -> Dataset:
    """Activities from smartphone sensors, 561 features, 30 subjects as clients, 3/4 of each for training."""
    root = _data_root("uci_har", data_dir)
    folder = uci_har.find(root) if root else None
    if folder is None:
        places = " or ".join(repr(str((root or Path("<data_dir>")) / inner)) for inner in uci_har.FOLDERS)
        raise DataError(
            "uci_har: not found; put the archive of the UCI Machine Learning Repository (data set 240) into "
            f"the folder of the data sets, or unpack it to {places}"
            + ("" if root else ", and give data_dir or set FLJAX_DATA")
        )
    har = uci_har.read(folder, uci_har.CLASS_COUNTS)
    train, test = uci_har.split_users(har.subjects, seed)
    users, client_ids = np.unique(har.subjects[train], return_inverse=True)
    notes: tuple[str, ...] = ()
    if har.others:
        notes += (f"not the original file: {', '.join(har.others)}",)
    if not har.complete:
        notes += (f"{len(users)} of {uci_har.NUM_SUBJECTS} subjects (test/X_test.txt not found)",)
    return Dataset(
        har.x[train],
        har.y[train],
        har.x[test],
        har.y[test],
        num_classes=uci_har.NUM_CLASSES,
        name="uci_har",
        client_ids=client_ids.astype(np.int32),
        source=f"text files in {str(folder).rstrip('/')}",
        notes=notes,
    )


@register_dataset("synthetic", title="synthetic data", source="generated by fljax, 2026")
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
    """Gaussian clusters, one per class, of any size.

    Class centres lie at distance `separation` from the origin, with standard normal noise around them.

    Args:
        data_dir, seed: as for `load`.
        num_train: examples to train on.
        num_test: examples to test on.
        num_features: length of an example.
        num_classes: M; classes differ by one example at most.
        separation: how far a class centre is from the origin, in standard deviations of an example.
    """
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
    # Made in float64, from the centres and from noise, then float32.
    wanted = 20 * ((num_train + num_test) * (num_features + 1) + num_classes * num_features)
    check_fits("synthetic: num_train, num_test, num_features and num_classes ask for", wanted)
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_classes, num_features))
    centres *= separation / np.linalg.norm(centres, axis=1, keepdims=True)

    def examples(number: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(number) % num_classes)  # class sizes differ by one at most
        x = centres[y] + rng.standard_normal((number, num_features))
        return x.astype(np.float32), y.astype(np.int32)

    return Dataset(*examples(num_train), *examples(num_test), num_classes, "synthetic", source="generated")


@register_dataset("npz", source="read by fljax, 2026")
def _load_npz(
    data_dir: PathLike | None,
    seed: int,
    *,
    file: str,
    num_classes: int | None = None,
    test_share: float = 0.2,
    tokens: bool = False,
    regression: bool = False,
) -> Dataset:
    """Your own arrays train_x, train_y and perhaps test_x, test_y, client_ids from an .npz file.

    Args:
        data_dir, seed: as for `load`.
        file: the .npz file; a relative path is under `data.dir` or FLJAX_DATA, if one of them is given.
        num_classes: M; None for the largest label + 1.
        test_share: what is held out for testing, if the file has no test_x.
        tokens: True where train_x holds whole numbers that stay so.
        regression: True where train_y holds numbers to predict.
    """
    path = Path(file).expanduser()
    root = None if path.is_absolute() else _data_root("npz", data_dir)
    path = root / path if root else path
    data = read_npz(
        path,
        num_classes=num_classes,
        test_share=test_share,
        seed=seed,
        name=path.stem,
        tokens=tokens,
        regression=regression,
    )
    return replace(data, source=str(path))


def load(name: str, data_dir: PathLike | None = None, *, seed: int = 0, **options: Any) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of `DATASETS`.
        data_dir: folder with one folder per data set; None stands for the environment variable FLJAX_DATA.
        seed: of the split ("digits", "uci_har", "colorectal_histology", "npz") or of the generator
            ("synthetic"), at least 0.
        **options: the data set's own. "mnist", "fashion_mnist", "cifar10", "colorectal_histology":
            `tfds_dir`, the folder of TensorFlow Datasets, which are used where the original files are not
            there. "cifar10": `exact_only`, leave out images of which only a lossy copy is there. "npz":
            `file` (a relative path is under `data_dir`, if that is given), `num_classes`, `test_share`.
            "synthetic": `num_train`, `num_test`, `num_features`, `num_classes`, and `separation`, the
            distance of the class centres from the origin in standard deviations of an example.

    Returns:
        The data set; pixels are scaled to [0, 1].

    Raises:
        ConfigError: an unknown name or option, or an option's value that is not allowed.
        DataError: a file is missing, truncated, corrupt or not what its name says.

    Example:
        >>> load("synthetic", num_train=6, num_classes=3).train_x.shape
        (6, 20)
    """
    loader = DATASETS.find(name).function
    parameters = inspect.signature(loader).parameters.values()
    allowed = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in allowed and not allowed:
            raise ConfigError(f"dataset {name!r} takes no options, got {option!r}")
        if option not in allowed:
            raise ConfigError(unknown_name(f"option of dataset {name!r}", option, allowed))
    required = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    for option in required:
        if option not in options:
            raise ConfigError(f"dataset {name!r}: option {option!r} is required")
    if operator.index(seed) < 0:
        raise ConfigError(f"dataset {name!r}: seed must be at least 0, got {seed}")
    try:
        return loader(data_dir, operator.index(seed), **options)
    except MemoryError:
        raise DataError(f"{name}: does not fit into the memory that is free") from None
