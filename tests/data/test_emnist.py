"""EMNIST from generated idx files in the published format: exchanged axes, letters from 1, two versions."""

import gzip
import struct
import sys

import numpy as np
import pytest

from fljax.data import load
from fljax.data.readers import emnist
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.idx import ImageArrays
from fljax.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)


def idx_bytes(values):
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A folder whose splits are small; FLJAX_DATA and TensorFlow Datasets point nowhere."""
    sizes = {"balanced": ((94, 47),), "letters": ((104, 52), (52, 26)), "byclass": ((70, 62),)}
    splits = {name: emnist.SPLITS[name]._replace(sizes=each) for name, each in sizes.items()}
    monkeypatch.setattr(emnist, "SPLITS", splits)
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    return tmp_path


def write(root, split, version=0, folder="emnist", **changes):
    """The four files of a split; returns images and labels as they are stored."""
    kind, arrays = emnist.SPLITS[split], {}
    (root / folder).mkdir(parents=True, exist_ok=True)
    for part, size in zip(("train", "test"), kind.sizes[version], strict=True):
        labels = (np.arange(size) % kind.num_classes + kind.first).astype(np.uint8)
        images = RANDOM.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays |= {f"{part}-images-idx3": images, f"{part}-labels-idx1": labels}
    arrays |= changes
    for name, values in arrays.items():
        path = root / folder / f"emnist-{split}-{name}-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(values), 1))
    return arrays


@pytest.mark.parametrize("folder", emnist.FOLDERS)
@pytest.mark.parametrize(
    ("split", "version"), [("balanced", 0), ("letters", 0), ("letters", 1), ("byclass", 0)]
)
def test_splits(small, split, version, folder):
    stored = write(small, split, version, folder)
    data = load("emnist", small, split=split)
    kind = emnist.SPLITS[split]
    assert (data.num_classes, data.notes) == (kind.num_classes, ())
    assert data.source == f"idx files in {small / folder}"
    for part in ("train", "test"):
        images = stored[f"{part}-images-idx3"]
        x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
        assert x.shape == (*images.shape, 1)
        assert x[3, 5, 20, 0] == images[3, 20, 5] / np.float32(255)  # stood on its side
        np.testing.assert_array_equal(y, np.arange(len(y)) % kind.num_classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train-labels-idx1": np.ones(103, np.uint8)}, r"dimensions \(103,\), expected \(52,\)"),
        ({"train-labels-idx1": np.zeros(104, np.uint8)}, "labels from 0 to 0, expected 1 to 26"),
        ({"test-images-idx3": np.zeros((52, 27, 28), np.uint8)}, r"dimensions \(52, 27, 28\)"),
    ],
)
def test_other_files(small, change, message):
    write(small, "letters", **change)
    with pytest.raises(DataError, match=message):
        load("emnist", small, split="letters")


def test_uneven_classes_are_noted(small):
    write(small, "letters", **{"train-labels-idx1": np.ones(104, np.uint8)})
    (note,) = load("emnist", small, split="letters").notes
    assert note.startswith("not the original file: emnist-letters-train-labels-idx1-ubyte.gz")


def test_what_is_missing(small):
    write(small, "letters")
    with pytest.raises(
        DataError, match=f"no idx files of the split balanced in {small}/emnist; emnist/balanced: "
    ):
        load("emnist", small)
    (small / "emnist" / "emnist-letters-test-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="emnist-letters-test-labels-idx1-ubyte not found, plain or .gz"):
        load("emnist", small, split="letters")
    with pytest.raises(ConfigError, match="unknown split 'leters'; did you mean 'letters'"):
        load("emnist", small, split="leters")


def test_from_tensorflow_datasets(small, monkeypatch):
    """The prepared copy itself needs TensorFlow to make; here only what becomes of its arrays."""
    images, labels = (
        RANDOM.integers(0, 256, (5, 28, 28), dtype=np.uint8),
        np.array([1, 26, 3, 4, 5], np.uint8),
    )
    asked = []

    def read_or_prepare(name, tfds_dir, label):
        asked.append((name, label))
        return ImageArrays(images, labels, images[:2], labels[:2]), "TensorFlow Datasets"

    monkeypatch.setattr(tfds_source, "read_or_prepare", read_or_prepare)
    data = load("emnist", split="letters")
    assert asked == [("emnist/letters", "label")]
    assert data.train_y.tolist() == [0, 25, 2, 3, 4]
    assert data.train_x[1, 2, 3, 0] == images[1, 3, 2] / np.float32(255)
    kind = tfds_source.facts_of("emnist/letters")
    kind.check("x", ImageArrays(images, labels, images, labels))
    with pytest.raises(DataError, match=r"x \(train\): labels from 0 to 25, expected 1 to 26"):
        kind.check("x", ImageArrays(images, labels - 1, images, labels))
