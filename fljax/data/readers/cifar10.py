"""Reading and checking CIFAR-10: the two original containers and a lossless repacking of the images.

All three hold five training batches and a test batch of 10,000 images each, in the same order.
"""

import hashlib
import io
import warnings
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fljax.data.readers.packed import read_npz
from fljax.data.readers.pickles import read_pickle
from fljax.errors import DataError, listed
from fljax.files import read_regular, reading

NUM_CLASSES = 10  # airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck
SHAPE = (32, 32, 3)
SIZE = 10_000  # images in a batch
MOST = 40_000_000  # bytes of a file; the batches have 31 million at most

# CRC-32 of each batch's labels as bytes, which tells the batches apart, and what the channels' means tell:
# that red, green and blue are where they should be. Both from the repacked files, whose labels and 59,902 of
# 60,000 images are exact; the other images move a mean by less than a hundredth of the tolerance.
LABELS = {
    "data_batch_1": 2397213619,
    "data_batch_2": 467822317,
    "data_batch_3": 1823371802,
    "data_batch_4": 314618780,
    "data_batch_5": 2753823613,
    "test_batch": 3134871753,
}
MEANS = {
    "data_batch_1": (0.49346, 0.48337, 0.44718),
    "data_batch_2": (0.49214, 0.48260, 0.44684),
    "data_batch_3": (0.48910, 0.47991, 0.44415),
    "data_batch_4": (0.49112, 0.48236, 0.44673),
    "data_batch_5": (0.49118, 0.48254, 0.44775),
    "test_batch": (0.49422, 0.48513, 0.45041),
}
MEAN_TOLERANCE = 5e-4
# The images whose exact pixels are not known, and the sha256 of the pixels of all others, in order.
UNKNOWN: dict[str, tuple[int, ...]] = {
    "data_batch_1": (4298, 5949, 7066, 7237, 7248, 7630, 8006, 8831, 8968, 9415),
    "data_batch_2": (336, 408, 2762, 2834, 3546),
    "data_batch_3": (1493, 5728, 6098, 6927, 7621, 8435, 8728, 9694, 9747),
    "data_batch_4": (
        *(329, 1066, 1367, 1462, 1625, 1663, 2777, 3641, 3661, 4067, 4276, 4387, 4825, 5160, 5646, 6733),
        *(7329, 7474, 7567, 8384, 8925, 9358, 9385, 9613, 9840, 9888, 9971),
    ),
    "data_batch_5": (
        *(805, 1779, 2004, 2389, 2611, 3357, 3883, 4882, 5168, 5240, 6175, 6435, 6538, 6624, 7393, 7597),
        *(8081, 8124, 8333, 8821, 8836, 9321, 9429, 9631, 9830, 9857),
    ),
    "test_batch": (
        *(722, 1259, 1369, 1422, 2245, 2737, 2935, 3695, 3718, 4085, 4496, 5791, 5896, 6286, 7580, 7707),
        *(7724, 7832, 8117, 8551, 9254),
    ),
}
DIGESTS = {
    "data_batch_1": "6985c0d9c3f7f081995c25b12b8f4c0ba2f23a4268d4314b9f12917fb10093be",
    "data_batch_2": "7c9e8175718c8011b8191f846b820f5a34b48589f5e3c38be93fb6ddeb0c70e7",
    "data_batch_3": "74519d467efbf6247210b2d694219b0f443e62d591f3844b21753e76bca9d5dc",
    "data_batch_4": "258476e275ff9bded1ab07fc94918373b6280a19bb22dcfe43ff53a54db32eef",
    "data_batch_5": "42686246b8cfa3f3a897a14eba9ed4645b7ffc0e64b3feecdf475efb0988d91f",
    "test_batch": "5993e9031f207848c0c17f9ac827c7cc11d8d6679a6d7134e109b4d6e9791955",
}
TRAIN_MEANS = (0.49140, 0.48216, 0.44653)


class Batch(NamedTuple):
    """One file."""

    x: np.ndarray  # (N, 32, 32, 3) uint8
    y: np.ndarray  # (N,) uint8
    exact: np.ndarray  # (N,) bool, False where the pixels come from a lossy copy


class CifarArrays(NamedTuple):
    """All files, in file order."""

    train: Batch
    test: Batch
    notes: tuple[str, ...] = ()  # what a report on these files has to say


class Container(NamedTuple):
    """One way in which the batches are stored."""

    folders: tuple[str, ...]  # under the folder of all data sets
    suffix: str
    read: Callable[[Path], Batch]
    what: str


def read_pickled(path: Path) -> Batch:
    """Read one batch of `cifar-10-batches-py`: a dictionary with `data` (N, 3072) and `labels`.

    Args:
        path: the file; it is read without running any code it may hold.

    Returns:
        The batch, every image exact.

    Raises:
        DataError: the file is no such pickle, or its arrays have other sizes.
    """
    values = read_pickle(path, _bytes(path))
    data, labels = values.get("data"), values.get("labels")
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        raise DataError(f"{path}: holds {listed(values)}, expected arrays data and labels")
    if data.ndim != 2 or data.shape[1] != 3072 or len(labels) != len(data):
        raise DataError(f"{path}: data {data.shape} and {len(labels)} labels, expected (N, 3072) and N")
    if not all(isinstance(label, int) and 0 <= label < NUM_CLASSES for label in labels):
        raise DataError(f"{path}: labels must be whole numbers from 0 to {NUM_CLASSES - 1}")
    return Batch(channels_last(data), np.array(labels, np.uint8), np.ones(len(labels), bool))


def read_binary(path: Path) -> Batch:
    """Read one batch of `cifar-10-batches-bin`: a label and 3 × 32 × 32 pixels for each image, all bytes.

    Args:
        path: the file.

    Returns:
        The batch, every image exact.

    Raises:
        DataError: the file's length is no multiple of 3,073, or a label is outside the classes.
    """
    data = np.frombuffer(_bytes(path), np.uint8)
    if not data.size or data.size % 3073:
        raise DataError(f"{path}: {data.size:,} bytes, expected a multiple of 3,073")
    rows = data.reshape(-1, 3073)
    return Batch(channels_last(rows[:, 1:]), _checked(path, rows[:, 0]), np.ones(len(rows), bool))


def read_repacked(path: Path) -> Batch:
    """Read one batch of the repacking: `labels`, `exact`, and images stacked into lossless WebP pictures.

    `webp` holds the pictures' bytes one after the other, `offsets` where each begins and the last one ends.
    A picture is 32 wide and has its images below each other. `exact` is False where the pixels were only to
    be had from a lossy copy.

    Args:
        path: the `.npz` file.

    Returns:
        The batch.

    Raises:
        DataError: the file is damaged, or Pillow cannot read WebP.
    """
    try:
        from PIL import Image, features
    except ImportError:
        raise DataError(f"{path}: reading it needs Pillow; pip install pillow adds it") from None
    if not features.check("webp"):
        raise DataError(f"{path}: reading it needs a Pillow that can read WebP")
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # one is refused below
        arrays = read_npz(path, {"labels": SIZE, "exact": SIZE, "webp": MOST, "offsets": 8 * SIZE})
        labels, exact, webp, offsets = (arrays[key] for key in ("labels", "exact", "webp", "offsets"))
        if offsets.ndim != 1 or not offsets.size or offsets[0] < 0 or (offsets[1:] < offsets[:-1]).any():
            # Every piece could be the whole file.
            raise DataError(f"{path}: its offsets do not ascend from 0")
        pieces = [webp[start:end].tobytes() for start, end in pairwise(offsets)]
        pictures = [Image.open(io.BytesIO(piece)) for piece in pieces]
        if sum(width * height for width, height in (each.size for each in pictures)) > SIZE * 32 * 32:
            raise DataError(f"{path}: its pictures have more than {SIZE:,} images")
        x = np.concatenate([np.asarray(each.convert("RGB")).reshape(-1, *SHAPE) for each in pictures])
    if labels.dtype != np.uint8 or exact.dtype != bool or not x.shape[:1] == labels.shape == exact.shape:
        raise DataError(f"{path}: {len(x)} images, labels {labels.shape} and exact {exact.shape} do not fit")
    return Batch(x, _checked(path, labels), exact)


# The originals come first: in them every image is exact.
CONTAINERS = (
    Container(
        ("cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"), ".bin", read_binary, "binary batches"
    ),
    Container(("cifar10/cifar-10-batches-py", "cifar-10-batches-py"), "", read_pickled, "Python batches"),
    Container(("cifar10",), ".npz", read_repacked, "repacked batches"),
)


def read(root: Path) -> tuple[CifarArrays, str] | None:
    """Read and check the first container that is there.

    Args:
        root: the folder of all data sets.

    Returns:
        The arrays in file order and a text that says where they came from, or None where there is no file of
        any of the containers.

    Raises:
        DataError: a file is missing, damaged, or holds another batch than its name says.
    """
    for container in CONTAINERS:
        for folder in (root / name for name in container.folders):
            paths = {name: folder / f"{name}{container.suffix}" for name in LABELS}
            missing = [path.name for path in paths.values() if not path.is_file()]
            if len(missing) == len(paths):
                continue
            if missing:
                raise DataError(f"{folder}: {', '.join(missing)} not found (all six batches are needed)")
            batches, others = [], []
            for name, path in paths.items():
                batches.append(container.read(path))
                check_batch(path, batches[-1], name)
                if digest(batches[-1], name) != DIGESTS[name]:
                    others.append(path.name)
            notes = (f"not the original file: {', '.join(others)}",) if others else ()
            train = Batch(*(np.concatenate(part) for part in zip(*batches[:-1], strict=True)))
            return CifarArrays(train, batches[-1], notes), f"{container.what} in {folder}"
    return None


def digest(batch: Batch, name: str) -> str:
    """The sha256 of the pixels of all images but those in `UNKNOWN`."""
    known = np.ones(len(batch.y), bool)
    known[list(UNKNOWN[name])] = False
    return hashlib.sha256(batch.x[known].data).hexdigest()


def check_batch(where: object, batch: Batch, name: str) -> None:
    """Check that a batch is the one its name says.

    Args:
        where: what the message names, usually the file.
        batch: what was read.
        name: a key of `LABELS`.

    Raises:
        DataError: the labels or the channels' means are others.
    """
    found = zlib.crc32(batch.y.tobytes())
    if found != LABELS[name]:
        whose = [f" (they are those of {other})" for other, crc in LABELS.items() if crc == found]
        hint = whose[0] if whose else ""
        raise DataError(f"{where}: its {len(batch.y):,} labels are not those of {name}{hint}")
    check_means(where, batch.x, MEANS[name])


def check_means(where: object, x: np.ndarray, expected: tuple[float, ...]) -> None:
    """Check the mean of each colour.

    Args:
        where: what the message names.
        x: (N, 32, 32, 3) uint8.
        expected: means of red, green and blue, in [0, 1].

    Raises:
        DataError: a mean differs by more than `MEAN_TOLERANCE`.

    Example:
        >>> check_means("x", np.full((2, 32, 32, 3), 51, np.uint8), (0.2, 0.2, 0.2))
    """
    # Over the images first: summing along an axis of length 3 only is several times slower.
    sums = x.reshape(len(x), -1).sum(0, dtype=np.int64).reshape(-1, 3).sum(0)
    means = sums / (255 * x.size / 3)
    if np.abs(means - expected).max() > MEAN_TOLERANCE:
        shown = ", ".join(f"{mean:.4f}" for mean in means)
        wanted = ", ".join(f"{mean:.4f}" for mean in expected)
        raise DataError(f"{where}: mean red, green and blue are {shown}, expected {wanted}")


def _bytes(path: Path) -> bytes:
    with reading(path):
        return read_regular(path, MOST)


def channels_last(rows: np.ndarray) -> np.ndarray:
    """(N, 3072), all red, all green, all blue, to (N, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _checked(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.max() >= NUM_CLASSES:
        raise DataError(f"{path}: labels go up to {labels.max()}, expected 0 to {NUM_CLASSES - 1}")
    return labels.copy()
