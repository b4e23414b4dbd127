"""Image data sets through TensorFlow Datasets, where the original files are not at hand.

Preparing a data set (downloading, converting) needs TensorFlow; reading a prepared one does not. The
examples come in TensorFlow Datasets' own fixed order, not in that of the original files, so that the
same seed picks other examples than with the idx files.
"""

import contextlib
import importlib
import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urljoin

import numpy as np

from fljax.data.readers import cifar10, cifar100, colorectal, emnist, idx
from fljax.errors import ConfigError, DataError, unknown_name

INSTALL = 'pip install "fljax[prepare]"'
_READ_PACKAGES = ("tensorflow_datasets", "importlib_resources", "PIL")  # TFDS 4.9.10 needs all of them


class _Kind(NamedTuple):
    """Facts about a data set that are known beforehand."""

    shape: tuple[int, ...]  # of one image
    splits: tuple[str, ...]
    files: tuple[str, ...]  # the originals that it can be prepared from
    check: Callable[[str, idx.ImageArrays], None]


def _check_idx(name: str) -> Callable[[str, idx.ImageArrays], None]:
    def check(where: str, arrays: idx.ImageArrays) -> None:
        spec = idx.SPECS[name]
        idx.check_labels(f"{where} (train)", arrays.train_y, spec.train_counts)
        idx.check_labels(f"{where} (test)", arrays.test_y, spec.test_counts)
        idx.check_pixels(f"{where} (train)", arrays.train_x, spec.train_pixel_sum)
        idx.check_pixels(f"{where} (test)", arrays.test_x, spec.test_pixel_sum)

    return check


def _check_cifar10(where: str, arrays: idx.ImageArrays) -> None:
    idx.check_labels(f"{where} (train)", arrays.train_y, (5000,) * 10)
    idx.check_labels(f"{where} (test)", arrays.test_y, (1000,) * 10)
    cifar10.check_means(f"{where} (train)", arrays.train_x, cifar10.TRAIN_MEANS)
    cifar10.check_means(f"{where} (test)", arrays.test_x, cifar10.MEANS["test_batch"])


def _check_colorectal(where: str, arrays: idx.ImageArrays) -> None:
    colorectal.check(where, arrays.train_y)


def _check_cifar100(where: str, arrays: idx.ImageArrays) -> None:
    for part, labels in (("train", arrays.train_y), ("test", arrays.test_y)):
        kind = "coarse" if labels.max() < cifar100.NUM_CLASSES["coarse"] else "fine"
        cifar100.check_even(f"{where} ({part})", labels, cifar100.NUM_CLASSES[kind])
    cifar10.check_means(f"{where} (train)", arrays.train_x, cifar100.TRAIN_MEANS)


def _check_emnist(name: str) -> Callable[[str, idx.ImageArrays], None]:
    def check(where: str, arrays: idx.ImageArrays) -> None:
        split = emnist.SPLITS[name]
        for part, labels in (("train", arrays.train_y), ("test", arrays.test_y)):
            idx.check_range(f"{where} ({part})", labels, split.num_classes, split.first)

    return check


_EMNIST = {f"emnist/{name}": name for name in emnist.SPLITS}
NAMES = (*idx.SPECS, "cifar10", "cifar100", "colorectal_histology", *_EMNIST)


def facts_of(name: str) -> _Kind:
    """The facts about a data set.

    Raises:
        ConfigError: another name.
    """
    if name == "cifar10":
        return _Kind(cifar10.SHAPE, ("train", "test"), ("cifar-10-binary.tar.gz",), _check_cifar10)
    if name == "cifar100":
        return _Kind(cifar10.SHAPE, ("train", "test"), ("cifar-100-binary.tar.gz",), _check_cifar100)
    if name in _EMNIST:
        return _Kind(emnist.SHAPE, ("train", "test"), ("gzip.zip",), _check_emnist(_EMNIST[name]))
    if name == "colorectal_histology":
        return _Kind(colorectal.TILE, ("train",), (colorectal.ARCHIVE,), _check_colorectal)
    if name not in idx.SPECS:
        raise ConfigError(unknown_name("TensorFlow Datasets name", name, NAMES))
    files = tuple(f"{file}.gz" for file in idx.FILES)
    return _Kind(idx.SPECS[name].image_shape, ("train", "test"), files, _check_idx(name))


def tfds_root(tfds_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of prepared data sets.

    Args:
        tfds_dir: the folder; None stands for TensorFlow Datasets' own default, the environment variable
            TFDS_DATA_DIR or else `~/tensorflow_datasets`.

    Returns:
        The folder, which need not exist.

    Example:
        >>> tfds_root("data").name
        'data'
    """
    return Path(tfds_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _import_tfds(name: str) -> ModuleType:
    """TensorFlow Datasets, or the sentence that says what is missing."""
    missing = [package for package in _READ_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise DataError(f"{name}: {' and '.join(missing)} not installed; {INSTALL} adds what is needed")
    tfds = importlib.import_module("tensorflow_datasets")
    if not hasattr(tfds, "builder"):  # its __init__ logs an ImportError and goes on
        raise DataError(f"{name}: tensorflow_datasets is installed, but importing it failed, see its log")
    return tfds


def _first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its text, cut to a readable length."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:200]}"


def _without_gpu(name: str) -> None:
    """Import TensorFlow and keep it off the GPUs, whose whole memory it would take from JAX."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(f"{name}: TensorFlow cannot be imported ({_first_line(error)})") from None
    with contextlib.suppress(RuntimeError):  # TensorFlow was in use before, and keeps what it has
        tf.config.set_visible_devices([], "GPU")


def has_tensorflow() -> bool:
    """True where TensorFlow, which prepares data sets, is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def prepared_path(name: str, tfds_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder in which TensorFlow Datasets has a data set completely prepared.

    Args:
        name: one of `NAMES`.
        tfds_dir: the folder of prepared data sets, see `tfds_root`.

    Returns:
        The folder of the version that the installed TensorFlow Datasets reads, or None.

    Raises:
        ConfigError: another name.
        DataError: TensorFlow Datasets is not installed or cannot be imported.
    """
    facts_of(name)
    if not (tfds_root(tfds_dir) / name).is_dir():
        return None
    version = _builder_class(_import_tfds(name), name).VERSION
    path = tfds_root(tfds_dir) / name / str(version)
    # Written last, in a folder "incomplete.*" that is then renamed: what has it is complete.
    return path if (path / "dataset_info.json").is_file() else None


def _builder_class(tfds: ModuleType, name: str) -> Any:
    """The class that prepares a data set, of which `emnist/letters` is one of several."""
    return tfds.builder_cls(name.partition("/")[0])


def address_of(builder: Any, file: str) -> str:
    """The address from which TensorFlow Datasets would download a file."""
    addresses = [builder.URL] if hasattr(builder, "URL") else list(getattr(builder, "url_infos", {}))
    return next((url for url in addresses if url.endswith(file)), urljoin(addresses[0], file))


def check_reachable(name: str, url: str) -> None:
    """Ask for the first file's header: TensorFlow Datasets itself retries for minutes before it gives up."""
    import requests

    try:
        requests.head(url, timeout=30)
    except requests.RequestException as error:
        raise DataError(
            f"{name}: cannot be downloaded, {url} is out of reach ({type(error).__name__}); without a "
            f"network, put the original files into <data_dir>/{name}"
        ) from None


def prepare(
    name: str,
    *,
    tfds_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Download a data set, or take its original files, and convert it for TensorFlow Datasets.

    Needs TensorFlow, which is kept off the GPUs for the rest of the process. Either the whole data set is
    prepared or nothing; downloads are checked against registered checksums and removed afterwards. One
    already prepared is left as it is.

    Args:
        name: one of `NAMES`.
        tfds_dir: the folder of prepared data sets, see `tfds_root`; made if it does not exist.
        manual_dir: folder with the original files as they are downloaded, to work without a network.

    Returns:
        The folder of the prepared data set.

    Raises:
        ConfigError: another name.
        DataError: TensorFlow is missing, a file is missing or not the original, or the download failed.
    """
    files = facts_of(name).files
    if (ready := prepared_path(name, tfds_dir)) is not None:
        return ready
    if manual_dir is not None:
        missing = [file for file in files if not (Path(manual_dir) / file).is_file()]
        if missing:
            raise DataError(f"{manual_dir}: {', '.join(missing)} not found (the original files of {name})")
    if not has_tensorflow():
        raise DataError(f"{name}: preparing it needs TensorFlow, which is not installed; {INSTALL} adds it")
    tfds = _import_tfds(name)
    if manual_dir is None:
        check_reachable(name, address_of(_builder_class(tfds, name), files[0]))
    _without_gpu(name)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    root = tfds_root(tfds_dir)
    downloads = ""
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A folder of its own for every call: the cache goes by file name, and MNIST's and Fashion-MNIST's
        # files have the same names, so that a shared one can yield the other data set's images.
        downloads = tempfile.mkdtemp(prefix=f"fljax_{name.replace('/', '_')}_", dir=root)
        config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
        with contextlib.redirect_stdout(sys.stderr):  # it prints its progress
            tfds.builder(name, data_dir=root).download_and_prepare(
                download_dir=downloads, download_config=config, file_format="array_record"
            )
    except Exception as error:
        if (ready := prepared_path(name, root)) is None:  # else another process was faster
            raise DataError(
                f"{name}: TensorFlow Datasets could not prepare it ({_first_line(error)})"
            ) from None
        return ready
    finally:
        if downloads:
            shutil.rmtree(downloads, ignore_errors=True)
    path = prepared_path(name, root)
    if path is None:
        raise DataError(f"{name}: TensorFlow Datasets left nothing in {root}")
    return path


def _read_split(
    tfds: ModuleType, builder: Any, split: str, shape: tuple[int, ...], label: str
) -> list[np.ndarray]:
    """Images (N, *shape) and labels (N,) of one split, both uint8, in the order they are stored."""
    number = builder.info.splits[split].num_examples
    if builder.info.file_format.value == "array_record":
        source, step = builder.as_data_source(split=split), 1000  # one at a time takes three times as long
        starts = range(0, number, step)
        blocks = (source.__getitems__(range(start, min(start + step, number))) for start in starts)
        examples = itertools.chain.from_iterable(blocks)
    else:  # prepared by something else, usually as TFRecord, which only TensorFlow reads
        _without_gpu(builder.name)
        examples = tfds.as_numpy(builder.as_dataset(split=split))
    x, y = np.empty((number, *shape), np.uint8), np.empty(number, np.uint8)
    for row, example in enumerate(examples):
        x[row], y[row] = np.reshape(example["image"], shape), example[label]
    return [x, y]


def read(
    name: str, tfds_dir: str | os.PathLike[str] | None = None, label: str = "label"
) -> tuple[idx.ImageArrays, str]:
    """Read a prepared data set and check that it is the one its name says.

    TensorFlow is not needed (except for a data set that something else prepared as TFRecord).

    Args:
        name: one of `NAMES`.
        tfds_dir: the folder of prepared data sets, see `tfds_root`.
        label: the feature that holds the labels.

    Returns:
        The arrays, in TensorFlow Datasets' order (the test part empty where there is a single split), and a
        text that names the versions.

    Raises:
        ConfigError: another name.
        DataError: it is not prepared, cannot be read, or is not what its name says.
    """
    path, kind = prepared_path(name, tfds_dir), facts_of(name)
    if path is None:
        raise DataError(f"{name}: TensorFlow Datasets has no prepared copy in {tfds_root(tfds_dir)}")
    tfds = _import_tfds(name)
    try:
        builder = tfds.builder(name, data_dir=tfds_root(tfds_dir))
        file_format = builder.info.file_format.value
        if file_format != "array_record" and not has_tensorflow():
            raise DataError(
                f"{path}: prepared as {file_format}, which only TensorFlow reads; {INSTALL} adds it, "
                "or set TFDS_DATA_DIR to another folder"
            )
        parts: list[Any] = [_read_split(tfds, builder, split, kind.shape, label) for split in kind.splits]
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read ({_first_line(error)}); delete it to prepare it again"
        ) from None
    test = parts[1] if len(parts) > 1 else [part[:0] for part in parts[0]]
    arrays = idx.ImageArrays(*parts[0], *test)
    kind.check(str(path), arrays)
    return arrays, f"TensorFlow Datasets {tfds.__version__} ({name} {builder.version})"


def read_or_prepare(
    name: str, tfds_dir: str | os.PathLike[str] | None = None, label: str = "label"
) -> tuple[idx.ImageArrays, str]:
    """Read a data set, after preparing it (a download of 12 to 562 MB) where that was not done before.

    Args:
        name: one of `NAMES`.
        tfds_dir: the folder of prepared data sets, see `tfds_root`.
        label: the feature that holds the labels.

    Returns:
        The arrays, in TensorFlow Datasets' order (the test part empty where there is a single split), and a
        text that names the versions.

    Raises:
        ConfigError: another name.
        DataError: it is neither there nor can be prepared, or is not what its name says.
    """
    if prepared_path(name, tfds_dir) is None:
        if not has_tensorflow():
            raise DataError(
                f"{name}: not prepared in {tfds_root(tfds_dir)}, and TensorFlow is not installed; "
                f"{INSTALL} lets TensorFlow Datasets download it"
            )
        prepare(name, tfds_dir=tfds_dir)
    return read(name, tfds_dir, label)
