"""Data sets by name: small files in the exact formats, damaged ones, and the real ones where they are."""

import gzip
import hashlib
import inspect
import io
import lzma
import re
import struct
import sys
import zipfile

import numpy as np
import pytest

from fljax.data.readers import idx, uci_har
from fljax.data.sources import DATASETS, Dataset, load
from fljax.errors import ConfigError, DataError

# ---------------------------------------------------------------------------------------- idx files

TRAIN_X = np.arange(24, dtype=np.uint8).reshape(4, 2, 3) + np.uint8(1)  # sums to 300
TEST_X = np.arange(18, dtype=np.uint8).reshape(3, 2, 3) + np.uint8(1)  # sums to 171
TRAIN_Y, TEST_Y = np.array([1, 0, 2, 1], np.uint8), np.array([2, 0, 1], np.uint8)
OTHER_Y = np.array([0, 0, 2, 1], np.uint8)


def idx_bytes(values):
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def spec(*arrays):
    """What a data set of these arrays is known by."""
    train_x, train_y, test_x, test_y = arrays
    counts = [tuple(np.bincount(labels, minlength=3).tolist()) for labels in (train_y, test_y)]
    sums = [int(images.sum(dtype=int)) for images in (train_x, test_x)]
    digests = tuple(hashlib.sha256(idx_bytes(values)).hexdigest() for values in arrays)
    return idx.ImageSpec((2, 3), *counts, *sums, digests)


def write_folder(folder, arrays=(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y), gz=True):
    folder.mkdir(parents=True)
    for name, values in zip(idx.FILES, arrays, strict=True):
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
        else:
            (folder / name).write_bytes(idx_bytes(values))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A data_dir whose data sets are small; FLJAX_DATA and TensorFlow Datasets point nowhere."""
    monkeypatch.setitem(idx.SPECS, "mnist", spec(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y))
    monkeypatch.setitem(idx.SPECS, "fashion_mnist", spec(TRAIN_X + 1, OTHER_Y, TEST_X + 1, TEST_Y[::-1]))
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    return tmp_path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("values", [TRAIN_X, TRAIN_Y], ids=["images", "labels"])
def test_read_idx(tmp_path, values, suffix):
    path = tmp_path / f"some-file{suffix}"
    data = idx_bytes(values)
    path.write_bytes(gzip.compress(data) if suffix else data)
    got = idx.read_idx(path, values.shape)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, values)


GOOD = idx_bytes(TRAIN_X)
PACKED = gzip.compress(idx_bytes(np.arange(24, dtype=np.uint8).reshape(4, 2, 3)), mtime=0)


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x", b"", "starts with the bytes '', expected '00 00 08 03'"),
        ("x", b"<html>not found</html>", "starts with the bytes '3c 68 74 6d'"),
        ("x", b"\0\0\x0d" + GOOD[3:], "starts with the bytes '00 00 0d 03'"),  # 32-bit floats
        ("x", idx_bytes(TRAIN_Y), "starts with the bytes '00 00 08 01'.*3 dimensions"),
        ("x", idx_bytes(TEST_X), re.escape("announces dimensions (3, 2, 3), expected (4, 2, 3)")),
        ("x", GOOD[:10], re.escape("announces dimensions (), expected (4, 2, 3)")),
        ("x", GOOD[:-1], "23 bytes follow the header, expected 24"),
        ("x", GOOD + b"\0", "more bytes follow the header, expected 24"),
        ("x.gz", GOOD, "truncated or corrupt"),  # not compressed
        ("x.gz", PACKED[:-9], "truncated or corrupt"),  # in the data
        ("x.gz", PACKED[:-3], "truncated or corrupt"),  # in the checksum that follows the data
        ("x.gz", flipped(PACKED, len(PACKED) - 6), "truncated or corrupt"),  # the checksum
        ("x.gz", flipped(PACKED, 14), "truncated or corrupt"),  # the data
    ],
)
def test_read_idx_damaged(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{message}"):
        idx.read_idx(path, (4, 2, 3))


def test_read_idx_folder_in_place_of_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        idx.read_idx(tmp_path, (4,))


@pytest.mark.parametrize("gz", [True, False])
def test_load_idx(small, gz):
    write_folder(small / "mnist", gz=gz)
    data = load("mnist", small)
    np.testing.assert_array_equal(data.train_x, TRAIN_X[..., None].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(data.test_x, TEST_X[..., None].astype(np.float32) / np.float32(255))
    assert data.train_x.dtype == data.test_x.dtype == np.float32
    assert data.train_y.dtype == data.test_y.dtype == np.int32
    assert data.train_y.tolist() == TRAIN_Y.tolist()
    assert data.test_y.tolist() == TEST_Y.tolist()
    assert (data.name, data.num_classes, data.client_ids, data.notes) == ("mnist", 3, None, ())
    assert data.source == f"idx files in {small / 'mnist'}"


def test_environment_variable(small, monkeypatch):
    write_folder(small / "data" / "mnist")
    monkeypatch.setenv("FLJAX_DATA", str(small / "data"))
    assert load("mnist").source == f"idx files in {small / 'data' / 'mnist'}"
    write_folder(small / "mnist", gz=False)
    assert load("mnist", small).source == f"idx files in {small / 'mnist'}"  # the argument comes first


def test_plain_file_comes_first(small):
    write_folder(small / "mnist", gz=False)
    (small / "mnist" / f"{idx.TRAIN_IMAGES}.gz").write_bytes(b"half a download")
    assert len(load("mnist", small).train_x) == 4


def test_some_files_missing(small):
    write_folder(small / "mnist")
    for name in (idx.TRAIN_LABELS, idx.TEST_IMAGES):
        (small / "mnist" / f"{name}.gz").unlink()
    with pytest.raises(DataError, match=f"{idx.TRAIN_LABELS}, {idx.TEST_IMAGES} not found") as error:
        load("mnist", small)
    assert str(small / "mnist") in str(error.value)
    assert idx.TRAIN_IMAGES not in str(error.value)


def test_data_dir_must_exist(small, monkeypatch):
    with pytest.raises(DataError, match="data_dir '.*nowhere' is not a folder"):
        load("mnist", small / "nowhere")
    with pytest.raises(DataError, match="data_dir '.*nowhere' is not a folder"):
        load("uci_har", small / "nowhere")
    monkeypatch.setenv("FLJAX_DATA", str(small / "elsewhere"))
    with pytest.raises(DataError, match="FLJAX_DATA '.*elsewhere' is not a folder"):
        load("mnist")


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        (idx.TRAIN_LABELS, (TRAIN_X, OTHER_Y, TEST_X, TEST_Y)),
        (idx.TEST_IMAGES, (TRAIN_X, TRAIN_Y, TEST_X + 1, TEST_Y)),
    ],
)
def test_other_data_sets_files(small, name, arrays):
    write_folder(small / "mnist", arrays)
    with pytest.raises(DataError, match=rf"{name}.gz: is another data set's \(that is fashion_mnist\)"):
        load("mnist", small)


@pytest.mark.parametrize("gz", [True, False])
def test_exchanged_images_are_noted(small, gz):
    """Their sum is the same."""
    write_folder(small / "mnist", (TRAIN_X[[1, 0, 2, 3]], TRAIN_Y, TEST_X, TEST_Y[[1, 0, 2]]), gz=gz)
    end = ".gz" if gz else ""
    assert load("mnist", small).notes == (
        f"not the original file: {idx.TRAIN_IMAGES}{end}, {idx.TEST_LABELS}{end}",
    )


def test_label_outside_classes(small):
    write_folder(small / "mnist", (TRAIN_X, np.array([1, 0, 3, 1], np.uint8), TEST_X, TEST_Y))
    with pytest.raises(DataError, match=f"{idx.TRAIN_LABELS}.gz: labels from 0 to 3, expected 0 to 2"):
        load("mnist", small)


# ------------------------------------------------------------------------------------------ UCI HAR

# (activity, subject) of each window: subjects 1, 2 and 3 have 2, 9 and 5 windows
ROWS = {
    "train": [(5, 3), (1, 3), (2, 3), (6, 3), (4, 3), (3, 1), (4, 1)],
    "test": [(1, 2), (2, 2), (6, 2), (1, 2), (3, 2), (4, 2), (5, 2), (2, 2), (6, 2)],
}
COUNTS = {"train": (1, 1, 1, 2, 1, 1), "test": (2, 2, 1, 1, 1, 2)}


def har_features(part):
    rng = np.random.default_rng(len(part))
    return np.round(rng.uniform(-1, 1, (len(ROWS[part]), 561)), 6)


def write_har(folder, parts=("train", "test"), xz=False):
    (folder / "train").mkdir(parents=True)
    (folder / "test").mkdir()
    for part in parts:
        text = "\n".join(" ".join(f"{value: .7e}" for value in row) for row in har_features(part)) + "\n"
        if xz:
            (folder / part / f"X_{part}.txt.xz").write_bytes(lzma.compress(text.encode()))
        else:
            (folder / part / f"X_{part}.txt").write_text(text)
        for column, kind in enumerate(("y", "subject")):
            lines = "".join(f"{row[column]}\n" for row in ROWS[part])
            (folder / part / f"{kind}_{part}.txt").write_text(lines)


@pytest.fixture
def har(monkeypatch, tmp_path):
    monkeypatch.setattr(uci_har, "CLASS_COUNTS", COUNTS)
    monkeypatch.setattr(uci_har, "DIGESTS", {})
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    return tmp_path / "uci_har"


def example_set(x, y):
    return sorted((int(label), row.tobytes()) for row, label in zip(x, y, strict=True))


@pytest.mark.parametrize("xz", [False, True])
def test_load_har_both_parts(har, tmp_path, xz):
    write_har(har, xz=xz)
    data = load("uci_har", tmp_path, seed=4)
    rows = ROWS["train"] + ROWS["test"]
    x = np.concatenate([har_features("train"), har_features("test")]).astype(np.float32)
    assert data.client_ids.tolist() == [0] * 2 + [1] * 7 + [2] * 4  # ceil(3/4) of 2, 9 and 5
    assert data.test_y.shape == (3,)
    merged = example_set(
        np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])
    )
    assert merged == example_set(x, [label - 1 for label, _ in rows])
    subject_of = {x[row].tobytes(): subject for row, (_, subject) in enumerate(rows)}
    assert [subject_of[row.tobytes()] - 1 for row in data.train_x] == data.client_ids.tolist()
    assert (data.num_classes, data.notes, data.source) == (6, (), f"text files in {har}")
    splits = {load("uci_har", tmp_path, seed=seed).train_x.tobytes() for seed in range(4)}
    assert len(splits) > 1


def test_har_training_part_comes_first(har):
    write_har(har)
    arrays = uci_har.read(har)
    assert arrays.subjects.tolist() == [subject for _, subject in ROWS["train"] + ROWS["test"]]
    assert arrays.y.tolist() == [label - 1 for label, _ in ROWS["train"] + ROWS["test"]]
    np.testing.assert_array_equal(arrays.x[-9:], har_features("test").astype(np.float32))


def test_load_har_without_test_features(har, tmp_path):
    write_har(har)
    (har / "test" / "X_test.txt").unlink()
    data = load("uci_har", tmp_path)
    assert data.notes == ("2 of 30 subjects (test/X_test.txt not found)",)
    assert data.client_ids.tolist() == [0] * 2 + [1] * 4  # subjects 1 and 3
    assert len(data.test_y) == 1


def test_har_folder_as_in_the_archive(har, tmp_path):
    write_har(tmp_path / "UCI HAR Dataset")
    assert load("uci_har", tmp_path).source.endswith("UCI HAR Dataset")


def test_har_folder_missing(har, tmp_path):
    with pytest.raises(DataError, match="UCI Machine Learning Repository") as error:
        load("uci_har", tmp_path)
    assert str(tmp_path / "uci_har") in str(error.value)
    assert str(tmp_path / "UCI HAR Dataset") in str(error.value)
    with pytest.raises(DataError, match="give data_dir or set FLJAX_DATA"):
        load("uci_har")


def change_row(path, row, change):
    lines = path.read_text().splitlines()
    lines[row] = change(lines[row])
    path.write_text("".join(f"{line}\n" for line in lines if line))


def test_har_other_texts_are_noted(har, tmp_path, monkeypatch):
    write_har(har)
    original = hashlib.sha256((har / "train" / "y_train.txt").read_bytes()).hexdigest()
    monkeypatch.setattr(uci_har, "DIGESTS", {"y_train.txt": original, "X_train.txt": "another"})
    assert load("uci_har", tmp_path).notes == ("not the original file: X_train.txt",)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("train/X_train.txt", lambda line: line[:-14], "truncated or corrupt"),
        ("train/X_train.txt", lambda line: "nan" + line[14:], "not finite or outside"),
        ("train/X_train.txt", lambda line: "-1.01" + line[14:], "not finite or outside"),
        ("train/X_train.txt", lambda line: "one" + line[14:], "truncated or corrupt"),
        ("train/y_train.txt", lambda line: "7", "from 2 to 7, expected 1 to 6"),
        ("train/y_train.txt", lambda line: "0", "from 0 to 6, expected 1 to 6"),
        ("train/y_train.txt", lambda line: "2", r"\(0, 2, 1, 2, 1, 1\), expected \(1, 1, 1, 2, 1, 1\)"),
        ("train/y_train.txt", lambda line: "2.5", "truncated or corrupt"),
        ("test/y_test.txt", lambda line: "6", r"\(2, 1, 1, 1, 1, 3\), expected \(2, 2, 1, 1, 1, 2\)"),
        ("test/subject_test.txt", lambda line: "31", "from 2 to 31, expected 1 to 30"),
    ],
)
def test_har_damaged(har, tmp_path, file, change, message):
    write_har(har)
    change_row(har / file, 1, change)
    with pytest.raises(DataError, match=f"^{re.escape(str(har / file))}: .*{message}"):
        load("uci_har", tmp_path)


@pytest.mark.parametrize(
    ("kind", "rows"), [("X", "6, 7 and 7"), ("y", "7, 6 and 7"), ("subject", "7, 7 and 6")]
)
def test_har_rows_missing(har, tmp_path, kind, rows):
    write_har(har)
    change_row(har / "train" / f"{kind}_train.txt", 2, lambda line: "")
    with pytest.raises(DataError, match=f"{rows} rows in X_train.txt, y_train.txt, subject_train.txt"):
        load("uci_har", tmp_path)


def test_har_wrong_number_of_columns(har, tmp_path):
    write_har(har)
    for row in range(len(ROWS["train"])):
        change_row(har / "train" / "X_train.txt", row, lambda line: line[:-14])
    with pytest.raises(DataError, match="X_train.txt: 7 rows of 560 values, expected 561"):
        load("uci_har", tmp_path)


@pytest.mark.parametrize("file", ["train/X_train.txt", "train/subject_train.txt", "test/y_test.txt"])
def test_har_file_missing_or_empty(har, tmp_path, file):
    write_har(har)
    (har / file).write_text("")
    with pytest.raises(DataError, match=f"^{re.escape(str(har / file))}: 0 rows"):
        load("uci_har", tmp_path)
    (har / file).unlink()
    with pytest.raises(DataError, match=f"^{re.escape(str(har / file))}: not found"):
        load("uci_har", tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: flipped(data, 400), lambda data: b"x"]
)
def test_har_damaged_xz(har, tmp_path, damage):
    write_har(har, xz=True)
    path = har / "train" / "X_train.txt.xz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="X_train.txt.xz: cannot be read, truncated or corrupt"):
        load("uci_har", tmp_path)


def test_split_users():
    subjects = np.array([7] * 10 + [2] * 5 + [7] * 3 + [30])
    train, test = uci_har.split_users(subjects, seed=5)
    assert sorted([*train, *test]) == list(range(19))
    assert {user: int((subjects[train] == user).sum()) for user in (2, 7, 30)} == {2: 4, 7: 10, 30: 1}
    # without the other users, user 7's windows are split the same way
    alone, _ = uci_har.split_users(subjects[subjects == 7], seed=5)
    assert np.flatnonzero(subjects == 7)[alone].tolist() == train[subjects[train] == 7].tolist()
    again, _ = uci_har.split_users(subjects, seed=5)
    assert again.tolist() == train.tolist()
    others = {tuple(uci_har.split_users(subjects, seed)[0]) for seed in range(6)}
    assert len(others) > 3
    # two users with as many windows are not split alike for every seed
    pair = np.repeat([0, 1], 12)
    splits = [uci_har.split_users(pair, seed)[0] for seed in range(5)]
    assert any((s[:9] != s[9:] - 12).any() for s in splits)


def zip_of(folder, method=zipfile.ZIP_DEFLATED):
    """A folder as an archive, with the folder's name in front."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(f"__MACOSX/{folder.name}/._train", b"")
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return buffer.getvalue()


def nested(inner):
    """The archive as it is downloaded: that archive and a list of names inside another one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("UCI HAR Dataset.zip", inner)
        archive.writestr("UCI HAR Dataset.names", b"text")
    return buffer.getvalue()


@pytest.mark.parametrize("place", ["", "uci_har"])
@pytest.mark.parametrize("name", uci_har.ARCHIVES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_har_archive(har, tmp_path, place, name, wrapped):
    write_har(tmp_path / "made" / "UCI HAR Dataset")
    unpacked = load("uci_har", tmp_path / "made", seed=1)
    data = zip_of(tmp_path / "made" / "UCI HAR Dataset")
    (tmp_path / "data" / place).mkdir(parents=True)
    path = tmp_path / "data" / place / name
    path.write_bytes(nested(data) if wrapped else data)
    got = load("uci_har", tmp_path / "data", seed=1)
    for field in ("train_x", "train_y", "test_x", "test_y", "client_ids"):
        np.testing.assert_array_equal(getattr(got, field), getattr(unpacked, field))
    inside = "/UCI HAR Dataset.zip" if wrapped else ""
    assert got.source == f"text files in {path}{inside}/UCI HAR Dataset"
    assert sorted(file.name for file in (tmp_path / "data").rglob("*.txt")) == []  # nothing was unpacked


def test_har_archive_comes_before_a_folder(har, tmp_path):
    write_har(har, parts=("train",))
    assert load("uci_har", tmp_path).notes != ()
    write_har(tmp_path / "made" / "UCI HAR Dataset")
    (tmp_path / "UCI HAR Dataset.zip").write_bytes(zip_of(tmp_path / "made" / "UCI HAR Dataset"))
    assert load("uci_har", tmp_path).notes == ()


def test_har_archive_without_test_features(har, tmp_path):
    write_har(tmp_path / "made" / "UCI HAR Dataset")
    (tmp_path / "made" / "UCI HAR Dataset" / "test" / "X_test.txt").unlink()
    (tmp_path / "uci_har.zip").write_bytes(nested(zip_of(tmp_path / "made" / "UCI HAR Dataset")))
    assert load("uci_har", tmp_path).notes == ("2 of 30 subjects (test/X_test.txt not found)",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"no archive", "truncated or corrupt"),
        (lambda data: data[: len(data) // 2], "truncated or corrupt"),
        (lambda data: nested(data[: len(data) // 2]), "truncated or corrupt"),
        (lambda data: flipped(data, data.index(b"X_train.txt") + 300), "X_train.txt: .*truncated or corrupt"),
        (
            lambda data: nested(data).replace(b"UCI HAR Dataset.zip", b"UCI HAR Dataset.txt"),
            "holds no folder UCI HAR Dataset/train",
        ),
    ],
)
def test_har_archive_damaged(har, tmp_path, damage, message):
    write_har(tmp_path / "made" / "UCI HAR Dataset")
    path = tmp_path / "uci_har.zip"
    path.write_bytes(damage(zip_of(tmp_path / "made" / "UCI HAR Dataset")))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}.*{message}") as error:
        load("uci_har", tmp_path)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------- digits, synthetic


def test_digits():
    from sklearn.datasets import load_digits

    data = load("digits", seed=3)
    assert data.train_x.shape == (1437, 8, 8, 1)
    assert data.test_x.shape == (360, 8, 8, 1)
    assert (data.train_x.min(), data.train_x.max()) == (0, 1)
    assert sorted(set(data.test_y.tolist())) == list(range(10))
    images, labels = load_digits(return_X_y=True)
    x = np.concatenate([data.train_x, data.test_x]).reshape(-1, 64)
    merged = example_set(x, np.concatenate([data.train_y, data.test_y]))
    assert merged == example_set((images / 16).astype(np.float32), labels)
    assert load("digits", seed=3).label_hash() == data.label_hash()
    assert load("digits", seed=4).label_hash() != data.label_hash()


def accuracy(data):
    """Share of test examples that are nearest to their own class's mean."""
    means = np.stack([data.train_x[data.train_y == c].mean(0) for c in range(data.num_classes)])
    nearest = ((data.test_x[:, None] - means) ** 2).sum(-1).argmin(1)
    return (nearest == data.test_y).mean()


def test_synthetic():
    data = load("synthetic", seed=1, num_train=32, num_test=11, num_features=5, num_classes=3)
    assert (data.train_x.shape, data.test_x.shape, data.num_classes) == ((32, 5), (11, 5), 3)
    assert sorted(np.bincount(data.train_y)) == [10, 11, 11]
    assert sorted(np.bincount(data.test_y)) == [3, 4, 4]
    assert len(set(data.train_y[::3].tolist())) > 1  # not one class after the other in turn
    again = load("synthetic", seed=1, num_train=32, num_test=11, num_features=5, num_classes=3)
    np.testing.assert_array_equal(again.train_x, data.train_x)
    other = load("synthetic", seed=2, num_train=32, num_test=11, num_features=5, num_classes=3)
    assert not np.array_equal(other.train_x, data.train_x)


def test_synthetic_separation():
    assert accuracy(load("synthetic", separation=0.0)) < 0.2
    assert 0.8 < accuracy(load("synthetic", separation=3.0)) < 0.95
    assert accuracy(load("synthetic", separation=8.0)) > 0.99
    far = load("synthetic", separation=50.0)
    norms = np.linalg.norm(far.train_x, axis=1)
    assert abs(norms.mean() - 50) < 1


@pytest.mark.parametrize(
    "options",
    [
        {"num_train": 0},
        {"num_test": 2.5},
        {"num_features": True},
        {"num_classes": "3"},
        {"separation": -1.0},
        {"separation": float("nan")},
    ],
)
def test_synthetic_bad_values(options):
    with pytest.raises(ConfigError, match=f"synthetic: {next(iter(options))} must be"):
        load("synthetic", **options)


# ------------------------------------------------------------------------------- load, Dataset, table


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown data set 'mnits'; did you mean 'mnist'.*uci_har"):
        load("mnits")
    with pytest.raises(ConfigError, match="'num_trian'; did you mean 'num_train'.*separation"):
        load("synthetic", num_trian=3)
    with pytest.raises(ConfigError, match="'digits' takes no options, got 'num_train'"):
        load("digits", num_train=3)
    with pytest.raises(ConfigError, match="choose from tfds_dir"):
        load("mnist", data="x")
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        load("digits", seed=-1)


@pytest.mark.parametrize("name", DATASETS)
def test_table(name):
    entry = DATASETS[name]
    assert list(inspect.signature(entry.function).parameters)[:2] == ["data_dir", "seed"]
    assert entry.summary
    assert "\n" not in entry.summary
    assert re.search(r"\b(19|20)\d\d$", entry.source)


def arrays(**changes):
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 1], np.int32)
    return {
        "train_x": x,
        "train_y": y,
        "test_x": x[:3],
        "test_y": y[:3],
        "num_classes": 3,
        "name": "n",
    } | changes


def test_label_hash():
    expected = hashlib.sha256(struct.pack("<7i", 0, 1, 2, 1, 0, 1, 2)).hexdigest()[:16]
    assert Dataset(**arrays()).label_hash() == expected
    assert Dataset(**arrays(test_y=np.array([0, 2, 1], np.int32))).label_hash() != expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((4, 2))}, "float64 and int32, expected float32"),
        ({"test_y": np.zeros(3, np.int64)}, "float32 and int64"),
        ({"train_x": np.zeros((5, 2), np.float32)}, "do not fit together"),
        ({"test_y": np.zeros((3, 1), np.int32)}, r"labels \(\) in train_y, \(1,\) in test_y"),
        ({"train_x": np.zeros(4, np.float32)}, "do not fit together"),
        ({"test_x": np.zeros((0, 2), np.float32), "test_y": np.zeros(0, np.int32)}, "do not fit together"),
        ({"num_classes": 2}, "train_y goes from 0 to 2, expected 0 to 1"),
        ({"test_y": np.array([0, -1, 1], np.int32)}, "test_y goes from -1 to 1"),
        ({"test_x": np.zeros((3, 5), np.float32)}, r"inputs \(2,\) in train_x, \(5,\) in test_x"),
        ({"client_ids": np.zeros(3, np.int32)}, r"client_ids are int32 \(3,\), expected int32 \(4,\)"),
        ({"client_ids": np.zeros(4)}, "client_ids are float64"),
        ({"client_ids": np.array([0, 2, 2, 0], np.int32)}, "client_ids must be 0 to k - 1"),
        ({"client_ids": np.array([-1, 1, 1, -1], np.int32)}, "client_ids must be 0 to k - 1"),
    ],
)
def test_dataset_is_checked(changes, message):
    with pytest.raises(DataError, match=f"^n: .*{message}"):
        Dataset(**arrays(**changes))


# ------------------------------------------------------------------------------------ the real files


def test_real_mnist(shared_data):
    data = load("mnist", shared_data)
    assert data.notes == ()
    assert data.train_x.shape == (60000, 28, 28, 1)
    assert data.test_x.shape == (10000, 28, 28, 1)
    assert data.train_y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    # 0.1307 is the mean grey level of the training images that is used everywhere to normalise MNIST
    assert abs(data.train_x.mean(dtype=np.float64) - 0.1307) < 5e-5


def test_real_fashion_mnist(shared_data):
    data = load("fashion_mnist", shared_data)
    assert data.notes == ()
    assert data.train_x.shape == (60000, 28, 28, 1)
    assert np.bincount(data.train_y).tolist() == [6000] * 10
    assert abs(data.train_x.mean(dtype=np.float64) - 0.2860) < 5e-5  # likewise


def test_real_files_in_the_wrong_folder(shared_data, tmp_path):
    (tmp_path / "mnist").symlink_to(shared_data / "fashion_mnist")
    with pytest.raises(DataError, match="train-images.*that is fashion_mnist"):
        load("mnist", tmp_path)


def test_real_images_in_the_wrong_folder(shared_data, tmp_path):
    (tmp_path / "mnist").mkdir()
    for name in idx.FILES:
        origin = "fashion_mnist" if name == idx.TRAIN_IMAGES else "mnist"
        (tmp_path / "mnist" / f"{name}.gz").symlink_to(shared_data / origin / f"{name}.gz")
    with pytest.raises(DataError, match="train-images.*that is fashion_mnist"):
        load("mnist", tmp_path)


def test_real_har(shared_data):
    data = load("uci_har", shared_data)
    subjects = np.loadtxt(shared_data / "uci_har" / "train" / "subject_train.txt", dtype=int)
    sizes = np.bincount(subjects)
    sizes = sizes[sizes > 0]
    if not data.notes:
        pytest.skip("all 30 subjects are here; the expectations below are for the training part alone")
    assert data.notes == ("21 of 30 subjects (test/X_test.txt not found)",)
    assert np.bincount(data.client_ids).tolist() == [int(np.ceil(0.75 * size)) for size in sizes]
    assert len(data.train_y) + len(data.test_y) == 7352
    counts = np.bincount(data.train_y) + np.bincount(data.test_y)
    assert counts.tolist() == [1226, 1073, 986, 1286, 1374, 1407]
