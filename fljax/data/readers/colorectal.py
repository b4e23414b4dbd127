"""Reading the colorectal histology tiles of Kather et al. (2016), which Kaggle distributes as "CH-MNIST".

5,000 tiles of 150×150 in colour, 625 of each of eight tissues. The paper's experiments use them as 64×64 grey
levels. From colour tiles these are made here: luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, Pillow's
mode "L"), then Pillow's bilinear resize, whose filter is widened to the scale and so does not alias. Kaggle's
table comes resized; its maker's filter is not documented, so that pixels differ in detail between the two.
"""

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fljax.data.readers.packed import open_zip, read_entry
from fljax.errors import DataError
from fljax.files import open_regular, reading

NUM_CLASSES = 8  # tumour, stroma, complex, lympho, debris, mucosa, adipose, empty
PER_CLASS = 625
SIDE = 64
TILE = (150, 150, 3)

FOLDERS = ("colorectal_histology", ".")  # under the folder of all data sets
TABLE = "hmnist_64_64_L.csv"
ARCHIVE = "Kather_texture_2016_image_tiles_5000.zip"
# As TensorFlow Datasets 4.9.10 (2026) registers it. Of the table no digest is published.
DIGEST = "936d0b95ae0f04f1f7b18a2b7e8c55776c3e887d102f645bcee752d1a6626a32"
# Bytes each may have; the archive has 258 million, the table 82 million at most, a tile 74 thousand.
MOST, MOST_TABLE, MOST_TILE = 300_000_000, 100_000_000, 200_000


class Tiles(NamedTuple):
    """All tiles, in file order."""

    x: np.ndarray  # (N, 64, 64) uint8
    y: np.ndarray  # (N,) uint8, 0..7
    notes: tuple[str, ...] = ()  # what a report on this file has to say


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
    with reading(path), open_regular(path, MOST_TABLE) as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NumPy's for an empty table, an error below
        with io.TextIOWrapper(raw, encoding="utf-8") as file:
            header = file.readline().strip().split(",")
            if header != expected:
                raise DataError(
                    f"{path}: its header has {len(header)} columns, the first {header[0][:40]!r}, expected "
                    f"{len(expected)}: pixel0000 to pixel{SIDE * SIDE - 1}, label"
                )
            values = np.loadtxt(file, np.int32, delimiter=",", ndmin=2)
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
    with reading(path), open_regular(path, MOST) as file:
        with open_zip(file) as archive:
            archive.filename = str(path)
            found = [re.search(r"(?:^|/)0([1-8])_[A-Z]+/[^/]+\.tif$", name) for name in archive.namelist()]
            tiles = {match.string: int(match[1]) - 1 for match in found if match}
            if not tiles:
                raise DataError(f"{path}: holds no tiles 01_…/*.tif to 08_…/*.tif")
            labels = np.array([label for _, label in sorted(tiles.items())], np.uint8)
            check(path, labels)
            images = [
                to_grey(_tile(f"{path}/{name}", read_entry(archive, name, MOST_TILE)))
                for name in sorted(tiles)
            ]
        file.seek(0)
        is_original = hashlib.file_digest(file, "sha256").hexdigest() == DIGEST
    return Tiles(np.stack(images), labels, () if is_original else (f"not the original file: {path.name}",))


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
        from PIL import Image
    except ImportError:
        raise DataError(f"{where}: reading it needs Pillow; pip install pillow adds it") from None
    with reading(where), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # one is refused here
        picture = Image.open(io.BytesIO(data))
        if picture.size != TILE[:2]:
            raise DataError(
                f"{where}: {picture.size[0]} × {picture.size[1]} pixels, expected {TILE[0]} × {TILE[1]}"
            )
        tile = np.asarray(picture)
    if tile.shape != TILE or tile.dtype != np.uint8:
        raise DataError(f"{where}: {tile.dtype} {tile.shape}, expected uint8 {TILE}")
    return tile
