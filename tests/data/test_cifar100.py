"""CIFAR-100 from both of its containers: generated files in the exact formats, and damaged ones."""

import hashlib
import pickle
import re
import sys

import numpy as np
import pytest

from fljax.data import load
from fljax.data.readers import cifar100
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.idx import ImageArrays
from fljax.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)
SIZES = {"train": 200, "test": 100}
FINE = {part: (np.arange(size) % 100).astype(np.uint8) for part, size in SIZES.items()}
COARSE = {part: (fine // 5).astype(np.uint8) for part, fine in FINE.items()}
IMAGES = {part: RANDOM.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for part, size in SIZES.items()}


def rows(part):
    return np.ascontiguousarray(IMAGES[part].transpose(0, 3, 1, 2).reshape(-1, 3072))


def pickled(part, changes=()):
    """As Python 2 pickled them, with bytes for texts, and what else the files hold."""
    content = {
        b"filenames": [b"image_%d.png" % i for i in range(SIZES[part])],
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": FINE[part].tolist(),
        b"coarse_labels": COARSE[part].tolist(),
        b"data": rows(part),
    } | dict(changes)
    return pickle.dumps(content, 2)


def binary(part, fine=None):
    fine = FINE[part] if fine is None else fine
    return np.concatenate([COARSE[part][:, None], fine[:, None], rows(part)], axis=1).tobytes()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A folder whose CIFAR-100 is small; FLJAX_DATA and TensorFlow Datasets point nowhere."""
    monkeypatch.setattr(cifar100, "SIZES", SIZES)
    monkeypatch.setattr(cifar100, "TRAIN_MEANS", tuple(IMAGES["train"].mean((0, 1, 2)) / 255))
    digests = {part: hashlib.md5(pickled(part)).hexdigest() for part in SIZES}
    monkeypatch.setattr(cifar100, "DIGESTS", digests)
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    return tmp_path


def write(root, kind, **changes):
    folder = root / "cifar100" / f"cifar-100-{kind}"
    folder.mkdir(parents=True)
    for part in SIZES:
        content = pickled(part) if kind == "python" else binary(part)
        (folder / (part if kind == "python" else f"{part}.bin")).write_bytes(changes.get(part, content))
    return folder


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize(("labels", "expected", "classes"), [("fine", FINE, 100), ("coarse", COARSE, 20)])
def test_load(small, kind, labels, expected, classes):
    folder = write(small, kind)
    data = load("cifar100", small, labels=labels)
    assert (data.num_classes, data.notes) == (classes, ())
    assert data.source.endswith(f"files in {folder}")
    for part in SIZES:
        np.testing.assert_array_equal(getattr(data, f"{part}_x"), IMAGES[part] / np.float32(255))
        assert getattr(data, f"{part}_y").tolist() == expected[part].tolist()


def test_other_pickles_are_noted(small):
    write(small, "python", test=pickled("test", {b"batch_label": b"mine"}))
    assert load("cifar100", small).notes == ("not the original file: test",)


class Runs:
    def __reduce__(self):
        return eval, ("1",)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("python", pickled("test")[:-400], "is not a pickle of plain values"),
        ("python", pickle.dumps({"data": Runs()}, 2), "it names "),
        ("python", pickled("test", {b"fine_labels": None}), "expected data, fine_labels and coarse_labels"),
        ("python", pickled("test", {b"fine_labels": [1]}), r"data \(100, 3072\) and 1 and 100 labels"),
        (
            "python",
            pickled("test", {b"fine_labels": [100] * 100}),
            "labels must be whole numbers from 0 to 99",
        ),
        ("python", pickled("train"), "200 images, expected 100"),
        ("binary", binary("test")[:-1], "bytes, expected a multiple of 3,074"),
        ("binary", b"", "0 bytes, expected a multiple"),
        ("binary", binary("test", np.zeros(100, np.uint8)), r"\(fine\): 0 to 100 examples of each of 100"),
    ],
)
def test_damaged_is_one_sentence(small, kind, content, message):
    folder = write(small, kind, test=content)
    with pytest.raises(DataError, match=f"^{re.escape(str(folder))}/test.*{message}"):
        load("cifar100", small)


def test_what_is_missing(small):
    folder = write(small, "python")
    (folder / "test").unlink()
    with pytest.raises(DataError, match="test not found .train and test are needed"):
        load("cifar100", small)
    (folder / "train").unlink()
    with pytest.raises(DataError, match=f"no CIFAR-100 files in {small}/cifar100; cifar100: not prepared"):
        load("cifar100", small)
    with pytest.raises(ConfigError, match="unknown labels 'fne'; did you mean 'fine'"):
        load("cifar100", small, labels="fne")


def test_a_fine_class_in_two_coarse_ones(small):
    part = cifar100.Part(IMAGES["train"], FINE["train"], np.roll(COARSE["train"], 100))
    cifar100.check("x", part, "train")
    split = COARSE["train"].copy()
    split[[0, 5]] = split[[5, 0]]
    with pytest.raises(DataError, match="x: a fine class lies in several coarse ones"):
        cifar100.check("x", part._replace(coarse=split), "train")
    with pytest.raises(DataError, match="mean red, green and blue"):
        cifar100.check("x", part._replace(x=part.x // 2), "train")


def test_from_tensorflow_datasets(small, monkeypatch):
    """The prepared copy itself needs TensorFlow to make; here only what becomes of its arrays."""
    asked = []

    def read_or_prepare(name, tfds_dir, label):
        asked.append((name, label))
        labels = COARSE if label == "coarse_label" else FINE
        pairs = [(IMAGES[part], labels[part]) for part in SIZES]
        return ImageArrays(*pairs[0], *pairs[1]), "TensorFlow Datasets"

    monkeypatch.setattr(tfds_source, "read_or_prepare", read_or_prepare)
    assert load("cifar100", labels="coarse").train_y.tolist() == COARSE["train"].tolist()
    assert load("cifar100").num_classes == 100
    assert asked == [("cifar100", "coarse_label"), ("cifar100", "label")]
    check = tfds_source.facts_of("cifar100").check
    check("x", read_or_prepare("", None, "label")[0])
    check("x", read_or_prepare("", None, "coarse_label")[0])
    with pytest.raises(DataError, match=r"x \(test\): "):
        check("x", read_or_prepare("", None, "label")[0]._replace(test_y=FINE["test"] // 2))
