"""Data sets by name: from original files, installed packages or a generator, as arrays in memory."""

import inspect
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from fljax.data.arrays import from_arrays, read_npz
from fljax.data.dataset import Dataset, scaled
from fljax.data.readers import cifar10, cifar100, colorectal, emnist, hugging_face, idx, leaf, uci_har
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.cifar10 import Batch
from fljax.data.readers.packed import check_fits
from fljax.errors import ConfigError, DataError, unknown_name
from fljax.files import shown_name
from fljax.registry import Registry, with_options

PathLike = str | os.PathLike[str]
Loader = TypeVar("Loader", bound=Callable[..., Dataset])

DATASETS = Registry("data set", seeded=True)


@with_options
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
    """Images and labels, read once: a sweep over seeds splits them a thousand times.

    The file is read where scikit-learn keeps it, whose import takes ten times as long.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits: scikit-learn is not installed; pip install scikit-learn adds it")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():  # another version's place
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


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


def _check_choice(name: str, option: str, given: str, choices: Iterable[str]) -> None:
    if given not in choices:
        raise ConfigError(f"{name}: {unknown_name(option, given, choices)}")


def _with_tfds(
    name: str,
    root: Path | None,
    found: Any,
    wanted: str,
    tfds_dir: PathLike | None,
    label: str = "label",
) -> tuple[Any, str]:
    """The arrays found among the files and their source, or else those of TensorFlow Datasets.

    Raises:
        DataError: neither is there; the sentence says what was tried.
    """
    if found is not None:
        return found
    try:
        return tfds_source.read_or_prepare(name, tfds_dir, label)
    except DataError as error:
        tried = (
            f"no {wanted} in {root / name.partition('/')[0]}"
            if root
            else "neither data_dir nor FLJAX_DATA is given"
        )
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
    "cifar100",
    title="CIFAR-100",
    source="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    seeded=False,
)
def _load_cifar100(
    data_dir: PathLike | None,
    seed: int,
    *,
    labels: Literal["fine", "coarse"] = "fine",
    tfds_dir: PathLike | None = None,
) -> Dataset:
    """Photographs of 100 kinds of things in 20 groups, 32x32 in colour, 50,000 / 10,000.

    Args:
        data_dir, seed: as for `load`.
        labels: "fine" for the 100 classes, "coarse" for the 20 groups.
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there.
    """
    _check_choice("cifar100", "labels", labels, cifar100.NUM_CLASSES)
    root = _data_root("cifar100", data_dir)
    found = cifar100.read(root) if root else None
    if found is None:
        feature = "label" if labels == "fine" else "coarse_label"
        arrays, source = _with_tfds("cifar100", root, None, "CIFAR-100 files", tfds_dir, feature)
    else:
        parts, notes, source = found
        pairs = [(parts[part].x, getattr(parts[part], labels)) for part in ("train", "test")]
        arrays = idx.ImageArrays(*pairs[0], *pairs[1], notes)
    return Dataset(
        scaled(arrays.train_x),
        arrays.train_y.astype(np.int32),
        scaled(arrays.test_x),
        arrays.test_y.astype(np.int32),
        num_classes=cifar100.NUM_CLASSES[labels],
        name="cifar100",
        source=source,
        notes=arrays.notes,
    )


@register_dataset(
    "emnist",
    title="EMNIST",
    source="Cohen, Afshar, Tapson and van Schaik, EMNIST: extending MNIST to handwritten letters, IJCNN 2017",
    seeded=False,
)
def _load_emnist(
    data_dir: PathLike | None,
    seed: int,
    *,
    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced",
    tfds_dir: PathLike | None = None,
) -> Dataset:
    """Handwritten digits and letters, 28x28 grey levels, in the published splits, images upright.

    Args:
        data_dir, seed: as for `load`.
        split: the choice of examples and classes: "balanced" (47 classes, 112,800 / 18,800), "byclass" (62),
            "bymerge" (47), "letters" (26, numbered from 0), "digits" or "mnist" (10).
        tfds_dir: the folder of TensorFlow Datasets, which are used where the original files are not there; of
            the letters they have the first 88,800 / 14,800.
    """
    _check_choice("emnist", "split", split, emnist.SPLITS)
    root, kind = _data_root("emnist", data_dir), emnist.SPLITS[split]
    found = emnist.read(root, split) if root else None
    if found is None:
        wanted = f"idx files of the split {split}"
        found = _with_tfds(f"emnist/{split}", root, None, wanted, tfds_dir)
    arrays, source = found
    return Dataset(
        scaled(emnist.upright(arrays.train_x))[..., None],
        arrays.train_y.astype(np.int32) - kind.first,
        scaled(emnist.upright(arrays.test_x))[..., None],
        arrays.test_y.astype(np.int32) - kind.first,
        num_classes=kind.num_classes,
        name="emnist" if split == "balanced" else f"emnist_{split}",
        source=source,
        notes=arrays.notes,
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


def _from_leaf(name: str, data_dir: PathLike | None, convert: leaf.Convert, num_classes: int) -> Dataset:
    """A data set in LEAF's layout, whose users are its natural clients."""
    root = _data_root(name, data_dir)
    folder = leaf.find(root, name) if root else None
    if folder is None:
        place = (root or Path("<data_dir>")) / name
        raise DataError(
            f"{name}: not found; put the folders train and test that LEAF's preprocess.sh writes into {place}"
            + ("" if root else ", and give data_dir or set FLJAX_DATA")
        )
    train, test = leaf.read(folder, convert)
    number = {user: i for i, user in enumerate(train.users)}
    clients = np.array([number.get(user, -1) for user in test.users], np.int32)
    strangers = int((clients < 0).sum())
    notes: tuple[str, ...] = ()
    if strangers:
        notes = (f"{strangers} of {len(clients)} users in the test part are in no training part",)
    return Dataset(
        train.x,
        train.y,
        test.x,
        test.y,
        num_classes,
        name,
        client_ids=train.owners,
        source=f"LEAF's JSON files in {folder}",
        notes=notes,
        test_client_ids=clients[test.owners],
        num_tokens=num_classes if train.x.dtype == np.int32 else None,
    )


@register_dataset(
    "femnist",
    title="FEMNIST",
    source="Caldas, Duddu, Wu and others, LEAF: a benchmark for federated settings, arXiv:1812.01097, 2018",
    seeded=False,
)
def _load_femnist(data_dir: PathLike | None, seed: int) -> Dataset:
    """Handwritten digits and letters, 62 classes, 28x28 grey levels as LEAF makes them, writers as clients.

    Args:
        data_dir, seed: as for `load`. The files are LEAF's own, with whatever share of the data was sampled
            and however it was split; 1 is the white of the paper.
    """
    return _from_leaf("femnist", data_dir, leaf.images, leaf.NUM_CHARACTERS)


@register_dataset(
    "shakespeare",
    title="Shakespeare",
    source="Caldas, Duddu, Wu and others, LEAF: a benchmark for federated settings, arXiv:1812.01097, 2018",
    seeded=False,
)
def _load_shakespeare(data_dir: PathLike | None, seed: int) -> Dataset:
    """The next character after 80 of a play, 80 tokens as LEAF numbers them, roles as clients.

    Args:
        data_dir, seed: as for `load`. The files are LEAF's own. An example is a window of 80 characters and
            the one after it: one label an example, not one a position as in TensorFlow Federated.
    """
    return _from_leaf("shakespeare", data_dir, leaf.characters, len(leaf.LETTERS))


@lru_cache(maxsize=3)
def _table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one of scikit-learn's embedded tables, read once."""
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError(f"{name}: scikit-learn is not installed; pip install scikit-learn adds it") from None
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def _from_table(name: str, seed: int, num_classes: int | None) -> Dataset:
    """Four fifths to train on, one to test on; every column has mean 0 and variance 1 in the first part."""
    features, labels = _table(name)
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = int(0.8 * len(labels))

    def standardised(values: np.ndarray) -> np.ndarray:
        shuffled = values[order].astype(np.float64)
        mean, deviation = shuffled[:cut].mean(0), shuffled[:cut].std(0)
        return ((shuffled - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)

    x = standardised(features)
    y = standardised(labels) if num_classes is None else labels[order].astype(np.int32)
    return Dataset(x[:cut], y[:cut], x[cut:], y[cut:], num_classes, name, source="scikit-learn")


@register_dataset(
    "breast_cancer",
    title="breast cancer",
    source="Wolberg, Street and Mangasarian, Breast cancer Wisconsin (diagnostic), UCI Machine Learning "
    "Repository, 1995",
)
def _load_breast_cancer(data_dir: PathLike | None, seed: int) -> Dataset:
    """569 tumours of two kinds by 30 features, standardised by the training part, shuffled into 455 / 114."""
    return _from_table("breast_cancer", seed, 2)


@register_dataset("wine", source="Aeberhard and Forina, Wine, UCI Machine Learning Repository, 1991")
def _load_wine(data_dir: PathLike | None, seed: int) -> Dataset:
    """178 wines of 3 growers by 13 features, standardised by the training part, shuffled into 142 / 36."""
    return _from_table("wine", seed, 3)


@register_dataset("diabetes", source="Efron, Hastie, Johnstone and Tibshirani, Least angle regression, 2004")
def _load_diabetes(data_dir: PathLike | None, seed: int) -> Dataset:
    """Regression: how far the disease of 442 patients has gone after a year, by 10 features, 353 / 89.

    Args:
        data_dir, seed: as for `load`. Features and target are standardised by the training part: predicting
            its mean has a squared error of about 1.
    """
    return _from_table("diabetes", seed, None)


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
    mapped: bool = False,
) -> Dataset:
    """Your own arrays train_x, train_y and perhaps test_x, test_y, client_ids from an .npz file.

    Args:
        data_dir, seed: as for `load`.
        file: the .npz file; a relative path is under `data.dir` or FLJAX_DATA, if one of them is given.
        num_classes: M; None for the largest label + 1.
        test_share: what is held out for testing, if the file has no test_x.
        tokens: True where train_x holds whole numbers that stay so.
        regression: True where train_y holds numbers to predict.
        mapped: True to leave train_x (float32, with test_x beside it) in the file, which np.savez wrote, and
            read the examples of a round's clients when they train.
    """
    path = Path(file).expanduser()
    root = None if path.is_absolute() else _data_root("npz", data_dir)
    path = root / path if root else path
    data = read_npz(
        path,
        mapped,
        num_classes=num_classes,
        test_share=test_share,
        seed=seed,
        name=shown_name(path.stem),
        tokens=tokens,
        regression=regression,
    )
    return replace(data, source=str(path))


@register_dataset(
    "huggingface",
    title="Hugging Face",
    source="Lhoest, Villanova del Moral, Jernite and others, Datasets: a community library for natural "
    "language processing, EMNLP 2021",
)
def _load_huggingface(
    data_dir: PathLike | None,
    seed: int,
    *,
    path: str,
    input: str | Sequence[str],
    label: str = "label",
    client: str | None = None,
    subset: str | None = None,
    split: str = "train",
    test_split: str | None = None,
    test_share: float = 0.2,
    regression: bool = False,
) -> Dataset:
    """Columns of any Hugging Face data set, or of a local Parquet, Arrow, CSV or JSON file or folder.

    Args:
        data_dir, seed: as for `load`.
        path: a folder or file, looked for under `data.dir` or FLJAX_DATA first, or a name on the Hub.
        input: the column of the inputs: images of one size, lists of numbers of one length (integers are
            tokens, and bytes pixels), or numbers; several columns of numbers become one vector.
        label: the column of the labels: whole numbers, or texts, which are numbered in their sorted order.
        client: the column that says whose an example is.
        subset: one of the data sets under one name on the Hub.
        split: the split to train on.
        test_split: the split to test on; None for "test" where there is one, else a `test_share` held out.
        test_share: as for "npz".
        regression: True where the labels are numbers to predict.
    """
    inputs = [input] if isinstance(input, str) else list(input)
    columns = [*inputs, label, *([client] if client else [])]
    root = _data_root("huggingface", data_dir)
    with hugging_face.opened(path, root, subset) as splits:
        tested = test_split or ("test" if "test" in splits and split != "test" else None)
        arrays: dict[str, Any] = {}
        tokens, num_classes = False, None
        for part, name in (("train", split), ("test", tested)):
            if name is None:
                continue
            chosen = hugging_face.chosen(path, splits, name, columns)
            arrays[f"{part}_x"], tokens = hugging_face.inputs(path, chosen, inputs)
            arrays[f"{part}_y"], num_classes = hugging_face.labels(path, chosen, label)
            if client:
                ids = "client_ids" if part == "train" else "test_client_ids"
                arrays[ids] = hugging_face.clients(path, chosen, client)
    numbered = hugging_face.numbered(arrays["train_y"], arrays.get("test_y"))
    arrays |= {"train_y": numbered[0], "test_y": numbered[1]}
    data = from_arrays(
        **arrays,
        num_classes=None if regression else num_classes,
        tokens=tokens,
        regression=regression,
        test_share=test_share,
        seed=seed,
        name=Path(path).name,
    )
    return replace(data, source=f"Hugging Face datasets: {path}, split {split}")


def load(name: str, data_dir: PathLike | None = None, *, seed: int = 0, **options: Any) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of `DATASETS`.
        data_dir: folder with one folder per data set; None stands for the environment variable FLJAX_DATA.
        seed: of the split or of the generator, at least 0; nothing for data sets with a split of their own.
        **options: the data set's own (`fljax list datasets NAME`).

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
