"""Reading columns of a Hugging Face data set: one of the Hub, or a local folder or file, as arrays."""

import importlib
import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fljax.data.readers.packed import check_fits
from fljax.errors import DataError, listed
from fljax.files import read_regular, reading, reason

INSTALL = 'pip install "fljax[huggingface]"'
FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}
MOST_IMAGE = 100_000_000  # bytes of one image's file
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def _package(path: str) -> ModuleType:
    try:
        package = importlib.import_module("datasets")
    except ImportError:
        raise DataError(f"{path}: reading it needs the package datasets; {INSTALL} adds it") from None
    return package


@contextmanager
def _silent(package: ModuleType) -> Iterator[None]:
    """Without the package's bars and logs: what goes wrong is said in one sentence."""
    bars, level = not package.are_progress_bars_disabled(), package.logging.get_verbosity()
    package.disable_progress_bars()
    package.logging.set_verbosity(package.logging.CRITICAL)
    try:
        yield
    finally:
        package.logging.set_verbosity(level)
        if bars:
            package.enable_progress_bars()


@contextmanager
def opened(path: str, folder: Path | None, subset: str | None) -> Iterator[Mapping[str, Any]]:
    """The splits of a data set, open for reading within a `with`.

    Args:
        path: a local folder or file, or a name on the Hub.
        folder: where a relative path is looked for first.
        subset: one of the data sets under one name on the Hub.

    Yields:
        `{name of the split: datasets.Dataset}`.

    Raises:
        DataError: it is not there, or cannot be read; a folder's own code is never run.
    """
    package = _package(path)
    places = [place / Path(path).expanduser() for place in (folder, Path()) if place is not None]
    local = next((place for place in places if place.exists()), None)
    with tempfile.TemporaryDirectory(prefix="fljax_datasets_") as cache, _silent(package):
        try:
            if local is None:
                found = _from_hub(package, path, subset)
            elif subset is not None:
                raise DataError(f"{path}: subset={subset!r} is for data sets of the Hub, not for local files")
            else:
                found = _from_disk(package, local, cache)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{local or path}: cannot be read as a data set ({type(error).__name__}: {reason(error)})"
            ) from None
        # What was saved without splits is the training part.
        yield found if isinstance(found, dict) else {"train": found}


def _from_hub(package: ModuleType, path: str, subset: str | None) -> Any:
    if not _HUB.fullmatch(path):
        raise DataError(f"{path}: is neither a folder nor a file, nor a name on the Hugging Face Hub")
    try:
        return package.load_dataset(path, subset)
    except Exception as error:
        raise DataError(
            f"{path}: is neither a folder nor a file here, and the Hugging Face Hub does not give it "
            f"({type(error).__name__}: {reason(error)})"
        ) from None


def _from_disk(package: ModuleType, path: Path, cache: str) -> Any:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return package.load_from_disk(str(path))
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    formats = {FORMATS[file.suffix] for file in files if file.suffix in FORMATS}
    if len(formats) != 1:
        found = " and ".join(sorted(formats)) or "no"
        raise DataError(
            f"{path}: {found} files found, expected those of one format ({', '.join(FORMATS)}) or a folder "
            "of save_to_disk"
        )
    where: dict[str, Any] = {"data_files": str(path)} if path.is_file() else {"data_dir": str(path)}
    # The copy that it makes is read and dropped.
    return package.load_dataset(formats.pop(), cache_dir=cache, **where)


def chosen(path: str, splits: Mapping[str, Any], name: str, columns: Sequence[str]) -> Any:
    """A split, of its columns those that are wanted.

    Raises:
        DataError: there is no such split, or no such column in it, or it does not fit the memory.
    """
    if name not in splits:
        raise DataError(f"{path}: has no split {name!r} (choose from {listed(splits)})")
    split = splits[name]
    for column in columns:
        if column not in split.column_names:
            raise DataError(f"{path}: has no column {column!r} (choose from {listed(split.column_names)})")
    if not len(split):
        raise DataError(f"{path}: its split {name!r} is empty")
    split = split.select_columns(list(dict.fromkeys(columns)))
    check_fits(f"{path}: its split {name!r} takes", 3 * split.data.nbytes)
    return split


def inputs(path: str, split: Any, columns: Sequence[str]) -> tuple[np.ndarray, bool]:
    """The inputs in a split.

    Args:
        path: for messages.
        split: of `chosen`.
        columns: one of images, of lists of numbers, or of numbers; or several of numbers.

    Returns:
        (N, *input_shape), uint8 for images and other bytes; and whether they are tokens, as lists of integers
        are.

    Raises:
        DataError: they hold text or something else, or are of several shapes.
    """
    if len(columns) > 1:
        parts = [_array(path, split, column) for column in columns]
        for column, part in zip(columns, parts, strict=True):
            if part.ndim != 1 or part.dtype.kind not in "biuf":
                raise DataError(f"{path}: column {column!r} must hold one number a row, as one of several")
        return np.stack(parts, axis=1).astype(np.float32), False
    (column,) = columns
    feature = split.features[column]
    if type(feature).__name__ == "Image":
        return _images(path, split, column), False
    kind = _inner(feature)
    if kind in ("string", "large_string"):
        raise DataError(
            f"{path}: column {column!r} holds text; tokenise it first, so that it holds lists of token "
            "numbers of one length"
        )
    values = _array(path, split, column)
    if values.ndim == 1:
        return values.astype(np.float32)[:, None], False
    if kind == "uint8":
        return values.astype(np.uint8), False
    return values, values.dtype.kind in "iu"


def labels(path: str, split: Any, column: str) -> tuple[np.ndarray, int | None]:
    """The labels in a split: numbers, or texts; and the number of classes where the data set says it.

    Raises:
        DataError: they are something else.
    """
    feature = split.features[column]
    return _array(path, split, column), getattr(feature, "num_classes", None)


def clients(path: str, split: Any, column: str) -> np.ndarray:
    """The clients of the examples: numbers or texts.

    Raises:
        DataError: they are something else.
    """
    return _array(path, split, column)


def numbered(train: np.ndarray, test: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels that are texts as numbers, in the order of the alphabet over both parts; others as they are.

    Example:
        >>> numbered(np.array(["dog", "cat"]), np.array(["eel"]))
        (array([1, 0]), array([2]))
    """
    if train.dtype.kind != "U":
        return train, test
    names = np.unique(train if test is None else np.concatenate([train, test.astype(str)]))
    return np.searchsorted(names, train), None if test is None else np.searchsorted(names, test.astype(str))


def _inner(feature: Any) -> str:
    """The type of the single values, of which a feature may be lists."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return str(getattr(feature, "dtype", type(feature).__name__))


def _array(path: str, split: Any, column: str) -> np.ndarray:
    """A column as one array of numbers or texts."""
    with reading(f"{path}: column {column!r}", "cannot be read as an array"):
        values = np.asarray(split.select_columns([column]).with_format("numpy")[:][column])
        if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
            values = values.astype(str)
    if values.dtype.kind in "biufU":
        return values
    sizes = sorted({np.shape(value) for value in values})
    if len(sizes) > 1:
        shown = " and ".join(map(str, (sizes[0], sizes[-1])))
        raise DataError(
            f"{path}: rows of column {column!r} have several shapes, such as {shown}; pad or cut them to one"
        )
    raise DataError(f"{path}: column {column!r} holds {split.features[column]}, no numbers")


def _images(path: str, split: Any, column: str) -> np.ndarray:
    """Images of one size: (N, height, width, 1) where the first one is grey, else in colour (…, 3)."""
    from PIL import Image

    package = importlib.import_module("datasets")
    rows = split.cast_column(column, package.Image(decode=False))
    x: np.ndarray | None = None
    mode, size = "L", (0, 0)
    for number in range(len(rows)):
        where = f"{path}: image {number} of column {column!r}"
        with reading(where, "cannot be read"):
            stored = rows[number][column]
            data = stored["bytes"] or read_regular(Path(stored["path"]), MOST_IMAGE)
            picture = Image.open(io.BytesIO(data))
            if x is None:
                mode, size = "L" if picture.mode in ("1", "L", "LA") else "RGB", picture.size
                shape = (size[1], size[0], len(mode))
                # Read as bytes, and then scaled.
                check_fits(f"{path}: its images take", 5 * len(rows) * size[0] * size[1] * len(mode))
                x = np.empty((len(rows), *shape), np.uint8)
            if picture.size != size:
                raise DataError(
                    f"{where} is {picture.size[0]}×{picture.size[1]}, the first one {size[0]}×{size[1]}; "
                    "make all of one size"
                )
            x[number] = np.asarray(picture.convert(mode)).reshape(x.shape[1:])
    assert x is not None  # `chosen` refuses an empty split
    return x
