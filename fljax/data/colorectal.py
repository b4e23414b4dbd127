"""Reading the colorectal histology tiles of Kather et al. (2016), which Kaggle distributes as "CH-MNIST".

5,000 tiles of 150×150 in colour, 625 of each of eight tissues. The paper's experiments use them as 64×64 grey
levels. From colour tiles these are made here: luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, Pillow's
mode "L"), then Pillow's bilinear resize, whose filter is widened to the scale and so does not alias. Kaggle's
table comes resized; its maker's filter is not documented, so that pixels differ in detail between the two.
"""

import io
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fljax.errors import DataError

NUM_CLASSES = 8  # tumour, stroma, complex, lympho, debris, mucosa, adipose, empty
PER_CLASS = 625
SIDE = 64
TILE = (150, 150, 3)

FOLDERS = ("colorectal_histology", ".")  # under the folder of all data sets
TABLE = "hmnist_64_64_L.csv"
ARCHIVE = "Kather_texture_2016_image_tiles_5000.zip"


class Tiles(NamedTuple):
    """All tiles, in file order."""

    x: np.ndarray  # (N, 64, 64) uint8
    y: np.ndarray  # (N,) uint8, 0..7


def read(root: Path) -> tuple[Tiles, str] | None:
    """Read and check Kaggle's table or, where it is not there, the original archive.

    Args:
        root: the folder of all data sets.

    Returns:
        The tiles and a text that says where they came from, or None where neither file is there.

    Raises:
        DataError: the file is damaged or not what its name says.
    """
    for folder in (root / name for name in FOLDERS):
        for name, reader in ((TABLE, read_table), (ARCHIVE, read_archive)):
            path = folder / name
            if path.is_file():
                tiles = reader(path)
                check(path, tiles.y)
                return tiles, str(path)
    return None


def read_table(path: Path) -> Tiles:
    """Read Kaggle's table: a header `pixel0000,…,pixel4095,label`, then a row of numbers for each tile.

    Args:
        path: the CSV file; its labels are 1 to 8.

    Returns:
        The tiles, labels 0 to 7.

    Raises:
        DataError: the header, a row or a number is not as it should be.
    """
    expected = [f"pixel{i:04d}" for i in range(SIDE * SIDE)] + ["label"]
    try:
        with path.open(encoding="utf-8") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's for an empty table, an error below
            header = file.readline().strip().split(",")
            if header != expected:
                raise DataError(
                    f"{path}: its header has {len(header)} columns, the first {header[0][:40]!r}, expected "
                    f"{len(expected)}: pixel0000 to pixel{SIDE * SIDE - 1}, label"
                )
            values = np.loadtxt(file, np.int32, delimiter=",", ndmin=2)
    except DataError:
        raise
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read, truncated or corrupt ({error})") from None
    if values.size == 0 or values.shape[1] != len(expected):
        raise DataError(
            f"{path}: {values.shape[0]} rows of {values.shape[1]} values, expected {len(expected)}"
        )
    pixels, labels = values[:, :-1], values[:, -1]
    for what, part, low, high in (("grey levels", pixels, 0, 255), ("labels", labels, 1, NUM_CLASSES)):
        if part.min() < low or part.max() > high:
            raise DataError(f"{path}: {what} from {part.min()} to {part.max()}, expected {low} to {high}")
    return Tiles(pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), (labels - 1).astype(np.uint8))


def read_archive(path: Path) -> Tiles:
    """Read the original archive: TIFF tiles in folders `01_TUMOR` to `08_EMPTY`, without unpacking it.

    Args:
        path: the zip file.

    Returns:
        The tiles as grey levels, by class and name.

    Raises:
        DataError: the archive or a tile is damaged or has another size, or Pillow is missing.
    """
    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                found = re.search(r"(?:^|/)0([1-8])_[A-Z]+/[^/]+\.tif$", name)
                if found:
                    images.append(to_grey(_tile(f"{path}/{name}", archive.read(name))))
                    labels.append(int(found[1]) - 1)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read, truncated or corrupt ({error})") from None
    if not images:
        raise DataError(f"{path}: holds no tiles 01_…/*.tif to 08_…/*.tif")
    return Tiles(np.stack(images), np.array(labels, np.uint8))


def to_grey(tile: np.ndarray) -> np.ndarray:
    """One tile as 64×64 grey levels: luminance first, then an antialiased bilinear resize.

    Args:
        tile: (height, width, 3) uint8.

    Returns:
        (64, 64) uint8.

    Raises:
        DataError: Pillow is not installed.

    Example:
        >>> to_grey(np.full((150, 150, 3), (255, 0, 0), np.uint8))[0, 0]
        np.uint8(76)
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError("colorectal_histology: resizing needs Pillow; pip install pillow adds it") from None
    grey = Image.fromarray(tile).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def check(where: object, labels: np.ndarray) -> None:
    """Check that every class has its 625 tiles.

    Raises:
        DataError: it has not.
    """
    counts = np.bincount(labels, minlength=NUM_CLASSES).tolist()
    if counts != [PER_CLASS] * NUM_CLASSES:
        raise DataError(
            f"{where}: tiles of each class {counts}, expected {PER_CLASS} of {NUM_CLASSES} classes"
        )


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of four fifths for training and one for testing, at random, each ascending.

    Args:
        count: N.
        seed: at least 0.

    Returns:
        Training and test positions; 4,000 and 1,000 of the 5,000 tiles, the sizes of the paper.

    Example:
        >>> [len(part) for part in split(5000, 0)]
        [4000, 1000]
    """
    order = np.random.default_rng(seed).permutation(count)
    cut = 4 * count // 5
    return np.sort(order[:cut]), np.sort(order[cut:])


def _tile(where: str, data: bytes) -> np.ndarray:
    """The pixels of one TIFF file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError(f"{where}: reading it needs Pillow; pip install pillow adds it") from None
    try:
        tile = np.asarray(Image.open(io.BytesIO(data)))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: cannot be read, truncated or corrupt ({error})") from None
    if tile.shape != TILE or tile.dtype != np.uint8:
        raise DataError(f"{where}: {tile.dtype} {tile.shape}, expected uint8 {TILE}")
    return tile
