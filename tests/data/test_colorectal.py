"""Colorectal histology: no file of it is at hand, so these are generated in the exact formats."""

import hashlib
import io
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from fljax.data import load
from fljax.data.readers import colorectal
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.idx import ImageArrays
from fljax.errors import DataError

TISSUES = ("TUMOR", "STROMA", "COMPLEX", "LYMPHO", "DEBRIS", "MUCOSA", "ADIPOSE", "EMPTY")
HEADER = ",".join([f"pixel{i:04d}" for i in range(4096)] + ["label"])
EACH = 3


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(colorectal, "PER_CLASS", EACH)
    monkeypatch.setattr(colorectal, "DIGEST", "none")
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "colorectal_histology").mkdir()
    return tmp_path


def table(random=None):
    """(N, 4097): grey levels, then labels 1 to 8 in mixed order."""
    random = random or np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(1, 9), EACH))
    return np.concatenate([random.integers(0, 256, (8 * EACH, 4096)), labels[:, None]], axis=1)


def write_table(root, values, header=HEADER):
    lines = [header, *(",".join(map(str, row)) for row in values)]
    path = root / "colorectal_histology" / colorectal.TABLE
    path.write_text("\n".join(lines) + "\n")
    return path


def tiles():
    """(8, EACH, 150, 150, 3): each tile of one colour, which its class and number decide."""
    colours = np.random.default_rng(1).integers(0, 256, (8, EACH, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (8, EACH, 150, 150, 3))


def write_archive(path, all_tiles, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        for c, name in enumerate(TISSUES):
            for k, tile in enumerate(all_tiles[c]):
                buffer = io.BytesIO()
                Image.fromarray(tile).save(buffer, "tiff")
                inside = f"Kather_texture_2016_image_tiles_5000/{c + 1:02d}_{name}/{k:03X}_CRC_Row_{k}.tif"
                archive.writestr(inside, buffer.getvalue())
        for name, data in extra:
            archive.writestr(name, data)


def test_table(small):
    values = table()
    path = write_table(small, values)
    data = load("colorectal_histology", small, seed=2)
    assert (data.train_x.shape, data.test_x.shape) == ((19, 64, 64, 1), (5, 64, 64, 1))
    assert (data.num_classes, data.source, data.notes) == (8, str(path), ())
    x = np.concatenate([data.train_x, data.test_x]).reshape(-1, 4096)
    y = np.concatenate([data.train_y, data.test_y])
    got = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    want = {(row[:-1].astype(np.float32) / np.float32(255)).tobytes(): row[-1] - 1 for row in values}
    assert got == want
    again = load("colorectal_histology", small, seed=2)
    assert again.label_hash() == data.label_hash()
    assert len({load("colorectal_histology", small, seed=s).label_hash() for s in range(4)}) > 1


def test_table_beside_the_other_folders(small):
    write_table(small, table()).rename(small / colorectal.TABLE)
    assert load("colorectal_histology", small).source == str(small / colorectal.TABLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:-1], "tiles of each class .*expected 3 of 8 classes"),
        (lambda v: np.where(v == v[3, -1], 9, v), "labels from 1 to 9, expected 1 to 8|to 9"),
        (lambda v: np.where(v == 255, 256, v), "grey levels from 0 to 256, expected 0 to 255"),
        (lambda v: v[:, 1:], "rows of 4096 values, expected 4097"),
        (lambda v: v[:0], "0 rows"),
    ],
)
def test_table_with_another_content(small, change, message):
    values = table()
    values[:, -1:] = np.where(values[:, -1:] == 0, 1, values[:, -1:])
    path = write_table(small, change(values))
    with pytest.raises(DataError, match=f"^{path}: .*({message})"):
        load("colorectal_histology", small)


def test_table_damaged(small):
    path = write_table(small, table(), header="label," + HEADER[:-6])
    with pytest.raises(DataError, match=f"^{path}: its header has 4097 columns, the first 'label'"):
        load("colorectal_histology", small)
    path.write_text(HEADER + "\n1,2,x\n")
    with pytest.raises(DataError, match="truncated or corrupt"):
        load("colorectal_histology", small)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(DataError, match="truncated or corrupt"):
        load("colorectal_histology", small)


def test_archive(small, monkeypatch):
    path = small / "colorectal_histology" / colorectal.ARCHIVE
    all_tiles = tiles()
    write_archive(path, all_tiles, extra=[("Kather_texture_2016_image_tiles_5000/readme.txt", b"")])
    data = load("colorectal_histology", small)
    assert (data.train_x.shape, data.source) == ((19, 64, 64, 1), str(path))
    assert data.notes == (f"not the original file: {colorectal.ARCHIVE}",)
    monkeypatch.setattr(colorectal, "DIGEST", hashlib.sha256(path.read_bytes()).hexdigest())
    assert load("colorectal_histology", small).notes == ()
    x = np.concatenate([data.train_x, data.test_x])
    y = np.concatenate([data.train_y, data.test_y])
    # One colour stays one colour: its luminance.
    got = sorted((int(label), float(tile.min()), float(tile.max())) for tile, label in zip(x, y, strict=True))
    luminance = np.rint(all_tiles[:, :, 0, 0] @ np.array([0.299, 0.587, 0.114]))
    want = sorted((c, luminance[c, k] / 255, luminance[c, k] / 255) for c in range(8) for k in range(EACH))
    np.testing.assert_allclose(got, want, atol=1.01 / 255)


def test_archive_damaged(small):
    path = small / "colorectal_histology" / colorectal.ARCHIVE
    write_archive(path, [*tiles()[:7], tiles()[7, 1:]], extra=[("x/08_EMPTY/zzz.tif", b"no picture")])
    with pytest.raises(DataError, match=r"08_EMPTY/zzz.tif: cannot be read"):
        load("colorectal_histology", small)
    write_archive(path, tiles()[:, :2])
    with pytest.raises(DataError, match=r"\[2, 2, 2, 2, 2, 2, 2, 2\], expected 3"):
        load("colorectal_histology", small)
    write_archive(path, tiles()[:, :, :100])
    with pytest.raises(DataError, match=r"150 × 100 pixels, expected 150 × 150"):
        load("colorectal_histology", small)
    write_archive(path, tiles()[..., 0])
    with pytest.raises(DataError, match=r"uint8 \(150, 150\), expected uint8 \(150, 150, 3\)"):
        load("colorectal_histology", small)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DataError, match="holds no tiles"):
        load("colorectal_histology", small)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="truncated or corrupt"):
        load("colorectal_histology", small)


def test_resizing_does_not_alias():
    # Stripes of one pixel: without a filter as wide as the scale they would become a strong moiré.
    stripes = np.zeros((150, 150, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = colorectal.to_grey(stripes)[4:-4, 4:-4].astype(int)
    assert abs(inner.mean() - 127.5) < 3
    assert np.ptp(inner) < 40
    # Orientation is kept.
    corner = np.zeros((150, 150, 3), np.uint8)
    corner[:75, 75:] = 255
    grey = colorectal.to_grey(corner)
    assert grey[:30, 34:].min() == 255
    assert grey[34:].max() == grey[:, :30].max() == 0


def test_from_tensorflow_datasets(small, monkeypatch):
    """The prepared copy itself needs TensorFlow to make; here only what becomes of its arrays."""
    x = tiles().reshape(-1, 150, 150, 3)
    y = np.repeat(np.arange(8, dtype=np.uint8), EACH)
    arrays = ImageArrays(x, y, x[:0], y[:0])
    monkeypatch.setattr(tfds_source, "read_or_prepare", lambda name, *_: (arrays, f"TFDS {name}"))
    data = load("colorectal_histology", small)
    assert (data.source, data.train_x.shape) == ("TFDS colorectal_histology", (19, 64, 64, 1))
    assert sorted([*data.train_y, *data.test_y]) == y.tolist()


def test_nothing_there(small):
    with pytest.raises(
        DataError, match="no hmnist_64_64_L.csv or Kather.*; colorectal_histology: not prepared"
    ):
        load("colorectal_histology", small)


def test_sizes_of_the_paper():
    train, test = colorectal.split(5000, 0)
    assert (len(train), len(test)) == (4000, 1000)
    assert sorted([*train, *test]) == list(range(5000))
    assert colorectal.split(5000, 1)[1].tolist() != test.tolist()
