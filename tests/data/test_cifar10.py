"""CIFAR-10 from each of its containers: small files in the exact formats, damaged ones, and the real ones."""

import hashlib
import io
import os
import pickle
import re
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from fljax.config.schema import parse_config
from fljax.data import load
from fljax.data.readers import cifar10
from fljax.data.readers import tfds as tfds_source
from fljax.data.readers.idx import ImageArrays
from fljax.data.readers.pickles import read_pickle
from fljax.data.sources import DATASETS
from fljax.errors import ConfigError, DataError

COUNT = 12
RANDOM = np.random.default_rng(0)
IMAGES = {name: RANDOM.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8) for name in cifar10.LABELS}
LABELS = {name: RANDOM.integers(0, 10, COUNT).astype(np.uint8) for name in cifar10.LABELS}
EXACT = {name: np.arange(COUNT) != (3 if name in ("data_batch_2", "test_batch") else -1) for name in LABELS}


def python2_pickle(data, labels):
    """The opcodes that Python 2's cPickle writes at protocol 2 for such a dictionary."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + b"M" + struct.pack("<H", len(data)) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", data.size) + data.tobytes() + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def channels_first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2).reshape(len(x), 3072))


def write_binary(path, x, y, exact):
    rows = np.concatenate([y[:, None], channels_first(x)], axis=1)
    path.with_suffix(".bin").write_bytes(rows.tobytes())


def write_python(path, x, y, exact):
    path.write_bytes(python2_pickle(channels_first(x), y))


def write_repacked(path, x, y, exact):
    pieces = []
    for part in np.split(x, 3):
        buffer = io.BytesIO()
        Image.fromarray(part.reshape(-1, 32, 3)).save(buffer, "webp", lossless=True, exact=True)
        pieces.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, pieces)])
    webp = np.frombuffer(b"".join(pieces), np.uint8)
    np.savez(path.with_suffix(".npz"), webp=webp, offsets=offsets, labels=y, exact=exact)


FORMATS = {
    "binary": (write_binary, "cifar-10-batches-bin", ".bin"),
    "python": (write_python, "cifar-10-batches-py", ""),
    "repacked": (write_repacked, "cifar10", ".npz"),
}
formats = pytest.mark.parametrize("kind", FORMATS)


def write(root, kind, folder=None, images=IMAGES, labels=LABELS):
    writer, default, _ = FORMATS[kind]
    inside = root / (folder or default)
    inside.mkdir(parents=True)
    for name in cifar10.LABELS:
        writer(inside / name, images[name], labels[name], EXACT[name])
    return inside


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A folder whose CIFAR-10 is small; FLJAX_DATA and TensorFlow Datasets point nowhere."""
    monkeypatch.setattr(cifar10, "LABELS", {name: zlib.crc32(y.tobytes()) for name, y in LABELS.items()})
    means = {name: tuple(x.mean((0, 1, 2)) / 255) for name, x in IMAGES.items()}
    monkeypatch.setattr(cifar10, "MEANS", means)
    unknown = {name: tuple(np.flatnonzero(~exact).tolist()) for name, exact in EXACT.items()}
    monkeypatch.setattr(cifar10, "UNKNOWN", unknown)
    digests = {name: hashlib.sha256(x[EXACT[name]].tobytes()).hexdigest() for name, x in IMAGES.items()}
    monkeypatch.setattr(cifar10, "DIGESTS", digests)
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    return tmp_path


def expected(part, exact_only=False):
    names = [name for name in LABELS if name.startswith("test") == (part == "test")]
    keep = [EXACT[name] if exact_only else np.ones(COUNT, bool) for name in names]
    x = np.concatenate([IMAGES[name][mask] for name, mask in zip(names, keep, strict=True)])
    y = np.concatenate([LABELS[name][mask] for name, mask in zip(names, keep, strict=True)])
    return x.astype(np.float32) / np.float32(255), y


@formats
def test_load(small, kind):
    folder = write(small, kind)
    data = load("cifar10", small)
    for x, y, (want_x, want_y) in (
        (data.train_x, data.train_y, expected("train")),
        (data.test_x, data.test_y, expected("test")),
    ):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert (data.num_classes, data.name, data.client_ids) == (10, "cifar10", None)
    assert data.source.endswith(f"batches in {folder}")
    if kind == "repacked":
        assert data.notes == (
            "1 of 60 training and 1 of 12 test images are lossy copies (exact_only = true leaves them out)",
        )
    else:
        assert data.notes == ()


@formats
def test_exchanged_images_are_noted(small, kind):
    """Neither the labels nor the means tell."""
    images = IMAGES | {"data_batch_4": IMAGES["data_batch_4"][[1, 0, *range(2, COUNT)]]}
    write(small, kind, images=images)
    notes = load("cifar10", small).notes
    assert notes[0] == f"not the original file: data_batch_4{FORMATS[kind][2]}"


def test_exact_only(small):
    write(small, "repacked")
    data = load("cifar10", small, exact_only=True)
    for x, y, (want_x, want_y) in (
        (data.train_x, data.train_y, expected("train", True)),
        (data.test_x, data.test_y, expected("test", True)),
    ):
        np.testing.assert_array_equal(x, want_x)
        np.testing.assert_array_equal(y, want_y)
    assert (len(data.train_y), len(data.test_y)) == (59, 11)
    assert "1 of 60 training and 1 of 12 test images are left out" in data.notes[0]


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_originals_have_nothing_to_leave_out(small, kind):
    write(small, kind)
    data = load("cifar10", small, exact_only=True)
    assert (len(data.train_y), data.notes) == (60, ())


def test_originals_come_first(small):
    write(small, "repacked")
    assert "repacked" in load("cifar10", small).source
    write(small, "python", "cifar10/cifar-10-batches-py")
    assert "Python" in load("cifar10", small).source
    write(small, "binary", "cifar10/cifar-10-batches-bin")
    assert "binary" in load("cifar10", small).source


def test_nothing_there(small):
    (small / "cifar10").mkdir()
    with pytest.raises(DataError, match=f"no CIFAR-10 batches in {small}/cifar10; cifar10: not prepared in"):
        load("cifar10", small)


@formats
def test_a_batch_is_missing(small, kind):
    folder = write(small, kind)
    name = f"data_batch_4{FORMATS[kind][2]}"
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"^{folder}: {name} not found .all six"):
        load("cifar10", small)


@formats
def test_batches_in_another_order(small, kind):
    names = list(LABELS)
    shifted = dict(zip(names, [names[1], names[0], *names[2:]], strict=True))
    write(small, kind, labels={name: LABELS[other] for name, other in shifted.items()})
    with pytest.raises(
        DataError, match=r"12 labels are not those of data_batch_1 \(they are those of data_b.*2"
    ):
        load("cifar10", small)


@formats
def test_channels_in_another_order(small, kind):
    reddish = {name: np.minimum(x, [255, 200, 150]).astype(np.uint8) for name, x in IMAGES.items()}
    cifar10.MEANS.update({name: tuple(x.mean((0, 1, 2)) / 255) for name, x in reddish.items()})
    write(small, kind, images={name: x[..., ::-1] for name, x in reddish.items()})
    with pytest.raises(DataError, match=r"mean red, green and blue are 0\.41.* expected 0\.49"):
        load("cifar10", small)


@formats
@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: b"", lambda data: b"<html>"])
def test_damaged(small, kind, damage):
    folder = write(small, kind)
    path = folder / f"data_batch_3{FORMATS[kind][2]}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: ") as error:
        load("cifar10", small)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(COUNT, 10, np.uint8)}, "labels go up to 10"),
        ({"labels": LABELS["test_batch"][:-1]}, "12 images, labels .11,."),
        ({"exact": np.ones(COUNT)}, "do not fit"),
        ({"webp": np.zeros(30, np.uint8)}, "truncated or corrupt"),
        ({"offsets": np.array(["a", "b"])}, "truncated or corrupt"),
        ({"offsets": np.array([None], object)}, "offsets.npy' holds object, no numbers or text"),
    ],
)
def test_repacked_with_another_content(small, change, message):
    path = write(small, "repacked") / "test_batch.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | change))
    with pytest.raises(DataError, match=message):
        load("cifar10", small)


# ------------------------------------------------------------------------------------------- pickles


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_python_3(protocol):
    data = np.arange(24, dtype=np.uint8).reshape(4, 6)
    values = read_pickle("file", pickle.dumps({"data": data, b"labels": [1, 2], "n": None}, protocol))
    np.testing.assert_array_equal(values["data"], data)
    assert (values["labels"], values["n"]) == ([1, 2], None)


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, getattr, __import__, np.load, io.FileIO, pickle.loads]
)
def test_a_pickle_cannot_run_anything(small, function):
    marker = small / "it ran"
    arguments = {
        os.system: (f"touch '{marker}'",),
        eval: (f"open({str(marker)!r}, 'w')",),
        exec: (f"open({str(marker)!r}, 'w')",),
        io.FileIO: (str(marker), "w"),
    }.get(function, ("os",))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps({"data": Runs(function, *arguments), "labels": []}, protocol)
        with pytest.raises(DataError, match="it names"):
            read_pickle("file", data)
    folder = write(small, "python")
    (folder / "data_batch_1").write_bytes(data)
    with pytest.raises(
        DataError, match=r"data_batch_1: is not a pickle of plain values and bytes \(it names "
    ):
        load("cifar10", small)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "holds a list, expected a dictionary"),
        ({"data": np.arange(3)}, "not of unsigned bytes"),
        ({"data": np.array([object()], object)}, "it names .*object"),
        ({"data": np.zeros((2, 2), np.uint8, order="F")[:, ::-1].T}, None),
        ({"data": np.array("text")}, "not of unsigned bytes"),
    ],
)
def test_other_pickles(value, message):
    data = pickle.dumps(value, 2)
    if message is None:
        np.testing.assert_array_equal(read_pickle("file", data)["data"], value["data"])
        return
    with pytest.raises(DataError, match=f"^file: .*({message})"):
        read_pickle("file", data)


@pytest.mark.parametrize(
    "values",
    [
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": [1, 2], "labels": [1, 2]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2, 3]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1, "2"]},
    ],
)
def test_pickled_batch_with_another_content(tmp_path, values):
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(values, 2))
    with pytest.raises(DataError, match=f"^{path}: .*(expected|must be)"):
        cifar10.read_pickled(path)


def test_options():
    assert "exact_only" in str(DATASETS["cifar10"].function.__kwdefaults__)
    with pytest.raises(ConfigError, match="'exact'; did you mean 'exact_only'"):
        load("cifar10", exact=True)
    assert parse_config({"data": {"name": "cifar10", "exact_only": True}}).data.parameters == {
        "exact_only": True
    }


# -------------------------------------------------------------------------------------- the real files

# sha256 of each batch decoded to uint8 (10000, 32, 32, 3), as the files' own description gives it
DECODED = {
    "data_batch_1": "96d2ad8cfd4291c3c629b12094faf9bb2fbff47402340485e22bd904f2762d59",
    "test_batch": "25a508aee148b4ccf689df271258bb61c79db1edd6c7bdc2d32e0f748c0bf68c",
}


@pytest.mark.parametrize("name", DECODED)
def test_real_batch(shared_data, tmp_path, name):
    path = shared_data / "cifar10" / f"{name}.npz"
    if not path.is_file():
        pytest.skip("no repacked CIFAR-10 here")
    batch = cifar10.read_repacked(path)
    assert hashlib.sha256(batch.x.tobytes()).hexdigest() == DECODED[name]
    cifar10.check_batch(path, batch, name)
    assert np.flatnonzero(~batch.exact).tolist() == list(cifar10.UNKNOWN[name])
    assert cifar10.digest(batch, name) == cifar10.DIGESTS[name]
    assert int((~batch.exact).sum()) == {"data_batch_1": 10, "test_batch": 21}[name]
    if name == "test_batch":
        assert np.bincount(batch.y).tolist() == [1000] * 10
    # Written as the two originals, the same images come back.
    for kind, read in (("binary", cifar10.read_binary), ("python", cifar10.read_pickled)):
        FORMATS[kind][0](tmp_path / name, batch.x, batch.y, batch.exact)
        again = read(tmp_path / f"{name}{FORMATS[kind][2]}")
        assert again.x.tobytes() == batch.x.tobytes()
        assert again.y.tolist() == batch.y.tolist()
        assert again.exact.all()


def test_real_labels(shared_data):
    folder = shared_data / "cifar10"
    if not (folder / "test_batch.npz").is_file():
        pytest.skip("no repacked CIFAR-10 here")
    labels, exact = [], []
    for name, crc in cifar10.LABELS.items():
        with np.load(folder / f"{name}.npz") as file:
            labels.append(file["labels"])
            exact.append(file["exact"])
        assert zlib.crc32(labels[-1].tobytes()) == crc
    assert np.bincount(np.concatenate(labels[:-1])).tolist() == [5000] * 10
    assert sum(part.sum() for part in exact[:-1]) == 49_923
    assert exact[-1].sum() == 9_979


def test_from_tensorflow_datasets(tmp_path, monkeypatch):
    """The prepared copy itself needs TensorFlow to make; here only what becomes of its arrays."""
    x, y = IMAGES["data_batch_1"], LABELS["data_batch_1"]
    arrays = ImageArrays(x, y, x[:5], y[:5], ("a note",))
    monkeypatch.setattr(tfds_source, "read_or_prepare", lambda name, *_: (arrays, f"TFDS {name}"))
    data = load("cifar10", tmp_path)
    assert (data.source, data.notes, data.test_x.shape) == ("TFDS cifar10", ("a note",), (5, 32, 32, 3))
    np.testing.assert_array_equal(data.train_y, y)
