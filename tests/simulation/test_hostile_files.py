"""Files nobody would make: pipes, devices, bombs, headers that lie; each is one sentence, and cheap."""

import gzip
import io
import json
import lzma
import os
import pickle
import re
import struct
import sys
import tempfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from fljax.data import load
from fljax.data.readers import cifar10, colorectal, idx, packed, uci_har
from fljax.data.readers.pickles import read_pickle
from fljax.engine.state import RunState
from fljax.errors import DataError
from fljax.report import load_results
from fljax.simulation.checkpoint import load_checkpoint
from fljax.simulation.lines import LineFile
from fljax.simulation.run_folder import check_run_folder
from fljax.sweeps.tables import read_parquet
from tests.support.sweep_folders import cell, write_sweep

MEGABYTE = 1_000_000


def refused(read, *arguments, most: int = 5 * MEGABYTE, **options) -> str:
    """The sentence; a thread, so that a reader that waits is a failure, and its memory is measured."""
    said = []

    def call() -> None:
        try:
            said.append(f"no error: {read(*arguments, **options)!r:.100}")
        except DataError as error:
            said.append(error)
        except BaseException as error:
            said.append(f"no DataError: {error!r}")

    tracemalloc.start()
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said, "still reading"
    assert isinstance(said[0], DataError), said[0]
    assert peak < most, f"{peak:,} bytes"
    assert "\n" not in str(said[0])
    return str(said[0])


@pytest.fixture
def place(monkeypatch, tmp_path):
    """An empty folder; FLJAX_DATA and TensorFlow Datasets point nowhere."""
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    return tmp_path


# --- what is no file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda path: idx.read_idx(path, (4,)),
        cifar10.read_binary,
        cifar10.read_pickled,
        cifar10.read_repacked,
        colorectal.read_table,
        colorectal.read_archive,
        uci_har.open_archive,
        packed.read_npz,
        read_parquet,
        lambda path: load("npz", path.parent, file=path.name),
    ],
)
def test_pipes_and_devices_are_not_read(place, read):
    os.mkfifo(place / "pipe.npz")
    assert "a pipe, not a regular file" in refused(read, place / "pipe.npz")
    (place / "zero.npz").symlink_to("/dev/zero")
    assert "a device, not a regular file" in refused(read, place / "zero.npz")
    with (place / "large.npz").open("wb") as file:
        file.truncate(10**13)
    assert "it has 10,000,000,000,000 bytes, more than the" in refused(read, place / "large.npz")


def test_pipes_among_the_files_of_a_data_set(place):
    """They are not there, or are refused; nobody waits for them."""
    for folder, names in (
        ("mnist", idx.FILES),
        ("cifar-10-batches-bin", [f"{name}.bin" for name in cifar10.LABELS]),
        ("colorectal_histology", [colorectal.TABLE, colorectal.ARCHIVE]),
        ("uci_har/train", ["X_train.txt", "y_train.txt", "subject_train.txt"]),
    ):
        (place / folder).mkdir(parents=True)
        for name in names:
            os.mkfifo(place / folder / name)
    for name in ("mnist", "cifar10", "colorectal_histology", "uci_har"):
        assert refused(load, name, place, most=20 * MEGABYTE)


# --- what unpacks to more than it should -------------------------------------------------------------


def bomb(size=50 * MEGABYTE):
    return bytes(size)


def test_gzip_bombs(place):
    (place / "x.gz").write_bytes(gzip.compress(bomb(), 1))
    assert "starts with the bytes '00 00 00 00'" in refused(idx.read_idx, place / "x.gz", (4,))
    header = bytes([0, 0, 8, 1, 0, 0, 0, 4])
    (place / "x.gz").write_bytes(gzip.compress(header + bomb(), 1))
    assert "more bytes follow the header" in refused(idx.read_idx, place / "x.gz", (4,))


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_zip_and_xz_bombs(place, monkeypatch):
    monkeypatch.setattr(uci_har, "MOST", 2 * MEGABYTE)
    path = place / "uci_har.zip"
    path.write_bytes(zipped({"UCI HAR Dataset.zip": bomb()}))
    assert "UCI HAR Dataset.zip: 50,000,000 bytes, expected at most 2,000,000" in refused(
        load, "uci_har", place
    )
    texts = {f"UCI HAR Dataset/train/{kind}_train.txt": b"1\n" for kind in ("X", "subject")}
    path.write_bytes(zipped(texts | {"UCI HAR Dataset/train/y_train.txt": bomb()}))
    most = 8 * MEGABYTE
    assert "y_train.txt: more than 2,000,000 bytes" in refused(load, "uci_har", place, most=most)
    path.write_bytes(
        zipped(texts | {"UCI HAR Dataset/train/y_train.txt.xz": lzma.compress(bomb(), preset=0)})
    )
    assert "y_train.txt.xz: more than 2,000,000 bytes" in refused(load, "uci_har", place, most=most)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):  # these cannot be unpacked in pieces of a known size
        path.write_bytes(zipped(texts | {"UCI HAR Dataset/train/y_train.txt": bomb()}, method))
        assert "packed in another way than stored or deflated" in refused(load, "uci_har", place)


def test_a_directory_of_a_million_files(place):
    entry = b"PK\x01\x02" + bytes(42)
    data = entry * 200_000
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 65535, 65535, len(data), 0, 0)
    (place / "uci_har.zip").write_bytes(data + end)
    assert "a directory of too many entries" in refused(load, "uci_har", place, most=10 * MEGABYTE)


def test_an_xz_that_asks_for_gigabytes(place):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0, "mf": lzma.MF_HC3}]
    packed_text = lzma.compress(b"1\n", filters=filters)
    assert packed_text[:6] == b"\xfd7zXZ\0"
    with pytest.raises(lzma.LZMAError, match="[Mm]emory"):
        packed.unxz(packed_text, 100)


def test_tiles_of_any_size(place):
    """Neither decoded nor warned of."""
    (place / "colorectal_histology").mkdir()
    header = io.BytesIO()
    Image.new("RGB", (1, 1)).save(header, "tiff")
    for side in (13_000, 60_000):
        small = bytearray(header.getvalue())
        for tag in (256, 257):  # width and height
            at = (
                small.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in small else -1
            )
            at = at if at >= 0 else small.index(struct.pack("<HHI", tag, 3, 1))
            small[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
        names = [f"0{c + 1}_X/{k}.tif" for c in range(8) for k in range(colorectal.PER_CLASS)]
        archive = zipped(dict.fromkeys(names, b"") | {names[0]: bytes(small)})
        (place / "colorectal_histology" / colorectal.ARCHIVE).write_bytes(archive)
        said = refused(load, "colorectal_histology", place, most=20 * MEGABYTE)
        assert f"{side} × {side} pixels, expected 150 × 150" in said or "exceeds limit" in said


def test_pictures_of_more_images_than_a_batch_has(place):
    picture = io.BytesIO()
    Image.new("RGB", (16_000, 1000)).save(picture, "webp", lossless=True)
    webp = np.frombuffer(picture.getvalue(), np.uint8)
    path = place / "test_batch.npz"
    few = np.zeros(3, np.uint8)
    np.savez(path, webp=webp, offsets=np.array([0, len(webp)]), labels=few, exact=few.astype(bool))
    assert "pictures have more than 10,000 images" in refused(cifar10.read_repacked, path)


def test_pieces_of_a_file_that_are_the_whole_file_each(place):
    path, few = place / "test_batch.npz", np.zeros(3, np.uint8)
    webp = np.zeros(MEGABYTE, np.uint8)
    for offsets in ([0, MEGABYTE] * 50, [-MEGABYTE, -1], [], 0):
        np.savez(path, webp=webp, offsets=np.array(offsets, int), labels=few, exact=few.astype(bool))
        assert "its offsets do not ascend from 0" in refused(cifar10.read_repacked, path, most=20 * MEGABYTE)


# --- headers that lie --------------------------------------------------------------------------------


def npy(shape, descr="<f4", body=b"", header=None):
    text = header or f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (npy((10**12, 2)), "announces float32 .1000000000000, 2., but holds 0 bytes"),
        (npy((10**30,)), "but holds 0 bytes"),
        (npy((2, 2), body=bytes(15)), "announces float32 .2, 2., but holds 15 bytes"),
        (npy((-1, -4), body=bytes(16)), "announces float32 .-1, -4., but holds 16 bytes"),
        (npy((10**12,), "<U0"), "holds <U0, no numbers or text"),
        (npy((10**12,), "|V0"), "holds .*V0, no numbers or text"),
        (npy((3,), "|O", b"xyz"), "holds object, no numbers or text"),
        (npy(0, header=b"{'descr': '<f4', 'fortran_order': False, 'shape': (\n"), "read as an .npz file"),
        (
            npy(0, header=b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}\n"),
            "read as an .npz file",
        ),
        (npy(0, header=b"-" * 1900 + b"1\n"), "read as an .npz file"),
        (npy(0, header=b"(" * 1900 + b"\n"), "read as an .npz file"),
        (npy(0, header=b" " * 60_000 + b"\n"), "read as an .npz file"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version .3, 0. of the format"),
        (b"no array", "read as an .npz file"),
        (b"", "read as an .npz file"),
    ],
)
def test_headers_of_arrays(place, entry, message):
    (place / "x.npz").write_bytes(zipped({"train_x.npy": entry, "train_y.npy": entry}))
    said = refused(load, "npz", place, file="x.npz")
    assert re.search(message, said), said


def test_sizes_in_a_directory(place):
    data = bytearray(zipped({"train_x.npy": npy((10**9, 1000), body=b"")}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)  # packed and unpacked
    (place / "x.npz").write_bytes(data)
    assert "'train_x.npy' claims 2,147,483,648 bytes" in refused(load, "npz", place, file="x.npz")
    data[at + 20 : at + 28] = struct.pack("<II", 60, 2**31)
    (place / "x.npz").write_bytes(data)
    assert "claims 2,147,483,648 bytes, more than its 60 can hold" in refused(
        load, "npz", place, file="x.npz"
    )
    data[at + 10] = 97  # another method
    (place / "x.npz").write_bytes(data)
    assert "packed in another way" in refused(load, "npz", place, file="x.npz")


def test_no_array_is_unpacked_before_all_headers_are_right(place):
    good = npy((4 * MEGABYTE,), body=bytes(16 * MEGABYTE))
    (place / "x.npz").write_bytes(zipped({"train_x.npy": good, "train_y.npy": b"no array"}))
    assert "read as an .npz file" in refused(load, "npz", place, file="x.npz", most=8 * MEGABYTE)


def test_arrays_of_every_kind_come_back(place):
    arrays = {
        "a": np.arange(12, dtype=">i2").reshape(3, 4),
        "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "c": np.array(["ann", "bob"]),
        "d": np.float32(3),
        "e": np.zeros((0, 5)),
        "f": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(place / "x.npz", **arrays)
        found = packed.read_npz(place / "x.npz")
        assert found.keys() == arrays.keys()
        for name, want in arrays.items():
            np.testing.assert_array_equal(found[name], want)
            assert found[name].dtype == np.asarray(want).dtype


# --- pickles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # A tuple of the tuple before it, twice, 60 times: hashing it as a key takes 2 to the 60 steps.
        (b"\x80\x02})" + b"q\x00h\x00h\x00\x86" * 60 + b"K\x01s.", "a tuple in the wrong place"),
        (b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s.", "it uses DUP"),
        (b"\x80\x04K\x01r" + struct.pack("<I", 2**31) + b"0.", "it uses POP"),  # a memo of 2^31 places
        (b"\x80\x04" + b"]" * 250_000 + b".", "more than 200,000 steps"),
        (b"\x80\x02c_codecs\nencode\nq\x00X\x40\x42\x0f\x00" + b"a" * 10**6 + b"q\x01U\x06latin1q\x02"
         + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R" * 1000 + b".", "it makes more bytes than it has"),
        (b"\x80\x02}(K\x01K\x02u.", "a int in the wrong place"),
        (b"\x80\x02R.", "too little on its stack"),
        (b"\x80\x02K\x01K\x02.", "too many values"),
        (b"\x80\x02(K\x01cnumpy\ndtype\nR.", "wrong place|too little"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x", "not a pickle"),
        (b"\x80\x02]" + b"I" + b"9" * 10_000 + b"\na.", "digits"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "it uses NEWOBJ"),
        (b"\x80\x02Pname\n.", "it uses PERSID"),
        (b"", "not a pickle"),
    ],
)  # fmt: skip
def test_programs_in_pickles(data, message):
    said = refused(read_pickle, "file", data, most=100 * MEGABYTE)
    assert re.search(message, said), said


def test_a_long_name_does_not_make_a_long_message():
    said = refused(cifar10.read_pickled, pickled_file({"x" * 10**6: [1]}), most=20 * MEGABYTE)
    assert len(said) < 500


def pickled_file(value) -> Path:
    path = Path(tempfile.mkdtemp()) / "test_batch"
    path.write_bytes(pickle.dumps(value, 2))
    return path


# --- folders of runs and sweeps ----------------------------------------------------------------------


GOOD = {"round": 2, "test_error": 0.5, "attack_success_rate": None, "diverged": 0, "seconds": 0.1}


@pytest.mark.parametrize(
    "line",
    [
        *({"a": 1}, 5, None, [1], "x", {"round": None}, {"round": 2}),
        *(GOOD | {"round": bad} for bad in (None, "2", 2.0, True, [2], 10**400)),
        *(GOOD | {"loss": bad} for bad in ("x", [1], {}, True, float("nan"), float("inf"), 10**400)),
    ],
)
def test_lines_that_are_none(place, line):
    def read():
        return LineFile(place / "metrics.jsonl", print).restore(2, 2, None)

    (place / "metrics.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert read() == [GOOD]
    (place / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert "metrics.jsonl: line 1 is" in refused(read)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "\xff", '{"round": 2'])
def test_lines_that_are_no_json(place, text):
    (place / "metrics.jsonl").write_bytes(text.encode("latin1") + b"\n")
    said = refused(LineFile(place / "metrics.jsonl", print).restore, 2, 2, None)
    assert "metrics.jsonl: line 1 is not" in said
    (place / "metrics.jsonl").unlink()
    os.mkfifo(place / "metrics.jsonl")
    assert "a pipe, not a regular file" in refused(
        LineFile(place / "metrics.jsonl", print).restore, 2, 2, None
    )


@pytest.mark.parametrize("text", ["5", "[1]", "null", "[" * 100_000, "9" * 10_000, "\ud800", "{"])
def test_a_configuration_that_is_none(place, text):
    (place / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "config.json is damaged" in refused(check_run_folder, place, {}, True)


def test_a_pipe_in_a_checkpoint_s_place(place):
    state = RunState(np.zeros(3, np.float32), np.int32(0), None, (), (), (), ())
    os.mkfifo(place / "round_2.msgpack")
    said = refused(load_checkpoint, place, state._replace(key=jax.random.key(0)), most=20 * MEGABYTE)
    assert "a pipe, not a regular file" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": {"aggregator": 3}}, "axes.aggregator is no list"),
        ({"axes": {"aggregator": [[1]]}}, "axes.aggregator is no list"),
        ({"axes": [1]}, "needs name, axes and cells"),
        ({"cells": -1}, "cells = -1, but a sweep has at least one"),
        ({"cells": 1.5}, "needs name, axes and cells"),
    ],
)
def test_descriptions_of_sweeps(place, change, message):
    folder = write_sweep(place / "x", {"aggregator": ["FedAvg"], "attack": ["no attack"]}, [cell()])
    about = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(about | change))
    assert message in refused(load_results, folder)


def test_tables_that_claim_too_much(place):
    table = pa.table({"x": pa.array([0] * 1_100_000, pa.int8())})
    parquet.write_table(table, place / "results.parquet", compression="zstd")
    assert "claims 1,100,000 rows" in refused(read_parquet, place / "results.parquet")
