"""Image data sets through TensorFlow Datasets: the sentences where they cannot be had, and the real thing."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fljax.data.readers import cifar10, colorectal, idx
from fljax.data.readers import tfds as tfds_source
from fljax.data.sources import load
from fljax.errors import ConfigError, DataError

REPOSITORY = Path(tfds_source.__file__).parents[2]


@pytest.fixture
def no_tensorflow(monkeypatch):
    """TensorFlow cannot be found, whether it is installed or not; FLJAX_DATA points nowhere."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_sentence_without_tensorflow(no_tensorflow, tmp_path, name):
    with pytest.raises(DataError) as error:
        load(name, tmp_path, tfds_dir=tmp_path / "tfds")
    text = str(error.value)
    assert f"no idx files in {tmp_path / name}" in text
    assert f"{name}: not prepared in {tmp_path / 'tfds'}, and TensorFlow is not installed" in text
    assert 'pip install "fljax[prepare]"' in text
    assert "\n" not in text
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert list(tmp_path.iterdir()) == []


def test_sentence_without_any_folder(no_tensorflow, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    with pytest.raises(DataError, match="neither data_dir nor FLJAX_DATA is given.*other, and TensorFlow"):
        load("mnist")


def test_prepare_without_tensorflow(no_tensorflow, tmp_path):
    with pytest.raises(DataError, match="preparing it needs TensorFlow"):
        tfds_source.prepare("mnist", tfds_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_read_without_a_prepared_copy(no_tensorflow, tmp_path):
    with pytest.raises(DataError, match=f"no prepared copy in {tmp_path}"):
        tfds_source.read("mnist", tmp_path)


@pytest.mark.parametrize("package", ["tensorflow_datasets", "importlib_resources", "PIL"])
def test_missing_package_is_named(no_tensorflow, monkeypatch, tmp_path, package):
    for other in ("tensorflow_datasets", "importlib_resources", "PIL"):
        if importlib.util.find_spec(other) is None:  # importing would not do: TensorFlow is blocked here
            pytest.skip(f"{other} is not installed")
    (tmp_path / "mnist").mkdir()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=f"mnist: {package} not installed; pip install"):
        tfds_source.prepared_path("mnist", tmp_path)


def test_half_prepared_does_not_count(monkeypatch, tmp_path):
    """What an interrupted preparation leaves behind is not read, and neither is a folder without its info."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("PIL")
    version = str(tfds.builder_cls("mnist").VERSION)
    for folder, file in ((f"incomplete.ABCDEF_{version}", "dataset_info.json"), (version, "features.json")):
        (tmp_path / "mnist" / folder).mkdir(parents=True)
        (tmp_path / "mnist" / folder / file).write_text("{}")
    assert tfds_source.prepared_path("mnist", tmp_path) is None
    (tmp_path / "mnist" / version / "dataset_info.json").write_text("{}")
    assert tfds_source.prepared_path("mnist", tmp_path) == tmp_path / "mnist" / version
    assert tfds_source.prepared_path("fashion_mnist", tmp_path) is None
    with pytest.raises(DataError, match=f"mnist/{version}: cannot be read .*delete it to prepare it again"):
        tfds_source.read("mnist", tmp_path)


def test_unknown_name(tmp_path):
    for function in (tfds_source.prepared_path, tfds_source.read, tfds_source.prepare):
        with pytest.raises(ConfigError, match="'kmnist'; did you mean 'mnist'"):
            function("kmnist")


def test_manual_dir_without_the_files(tmp_path):
    (tmp_path / f"{idx.TRAIN_LABELS}.gz").write_bytes(b"")
    with pytest.raises(DataError, match=f"{idx.TRAIN_IMAGES}.gz, {idx.TEST_IMAGES}.gz") as error:
        tfds_source.prepare("mnist", tfds_dir=tmp_path / "tfds", manual_dir=tmp_path)
    assert idx.TRAIN_LABELS not in str(error.value)
    assert not (tmp_path / "tfds").exists()


def test_out_of_reach(monkeypatch):
    pytest.importorskip("requests")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DataError, match="mnist: cannot be downloaded, http://127.0.0.1:9/x is out of reach"):
        tfds_source.check_reachable("mnist", "http://127.0.0.1:9/x")


def test_root(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert tfds_source.tfds_root() == tmp_path
    assert tfds_source.tfds_root("here") == Path("here")
    assert tfds_source.tfds_root("~/here") == Path.home() / "here"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_source.tfds_root() == Path.home() / "tensorflow_datasets"


# ------------------------------------------- with TensorFlow and the original files, about 12 s each


@pytest.fixture(scope="module")
def prepared(shared_data, tmp_path_factory):
    """MNIST and Fashion-MNIST, whose files have the same names, prepared into the same folder."""
    pytest.importorskip("tensorflow")
    root = tmp_path_factory.mktemp("tfds")
    for name in ("mnist", "fashion_mnist"):
        path = tfds_source.prepare(name, tfds_dir=root, manual_dir=shared_data / name)
        assert path.parent == root / name
    return root


READ_WITHOUT_TENSORFLOW = """
import importlib.machinery, sys
import numpy as np

class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "tensorflow" else super().find_spec(name, path, target)

finders = sys.meta_path
finders[:] = [Without if finder is importlib.machinery.PathFinder else finder for finder in finders]
try:
    import tensorflow
except ImportError:
    pass
else:
    raise SystemExit("TensorFlow is not blocked")
from fljax.data.readers.tfds import read_or_prepare
arrays, source = read_or_prepare(sys.argv[1], sys.argv[2])
np.savez(sys.argv[3], *arrays)
print(source)
"""


def read_without_tensorflow(name, root, out):
    command = [sys.executable, "-c", READ_WITHOUT_TENSORFLOW, name, str(root), str(out)]
    result = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with np.load(out) as file:
        return idx.ImageArrays(*(file[f"arr_{i}"] for i in range(4))), result.stdout.strip()


def rows(images, labels):
    """One row of bytes per example, in ascending order."""
    joined = np.concatenate([images.reshape(len(images), -1), labels[:, None]], axis=1)
    return np.sort(np.ascontiguousarray(joined).view(f"V{joined.shape[1]}").ravel())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_same_examples_as_the_idx_files(prepared, shared_data, tmp_path, name):
    got, source = read_without_tensorflow(name, prepared, tmp_path / "arrays.npz")
    assert source.startswith("TensorFlow Datasets ")
    assert source.endswith(f"({name} 3.0.1)")
    expected = idx.read_folder(shared_data / name, idx.SPECS[name])
    for x, y, want_x, want_y in ((*got[:2], *expected[:2]), (*got[2:4], *expected[2:4])):
        assert x.dtype == y.dtype == np.uint8
        assert np.bincount(y).tolist() == np.bincount(want_y).tolist()
        assert x.sum(dtype=int) == want_x.sum(dtype=int)
        assert (rows(x, y) == rows(want_x, want_y)).all()  # each image still has its label
        assert (y != want_y).any()  # but they come in another order


@pytest.mark.slow
def test_prepared_once(prepared, monkeypatch, tmp_path, shared_data):
    assert sorted(path.name for path in prepared.iterdir()) == ["fashion_mnist", "mnist"]  # no downloads left
    monkeypatch.setattr(tfds_source, "has_tensorflow", lambda: False)
    assert tfds_source.prepare("mnist", tfds_dir=prepared) == prepared / "mnist" / "3.0.1"
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    data = load("mnist", tfds_dir=prepared)
    assert data.source.startswith("TensorFlow Datasets ")
    assert data.train_x.shape == (60000, 28, 28, 1)
    assert data.label_hash() == load("mnist", tfds_dir=prepared).label_hash()
    assert data.label_hash() != load("mnist", shared_data).label_hash()


@pytest.mark.slow
def test_another_data_set_under_this_name(prepared, tmp_path):
    shutil.copytree(prepared / "mnist", tmp_path / "fashion_mnist")
    for file in (tmp_path / "fashion_mnist" / "3.0.1").iterdir():
        file.write_bytes(file.read_bytes().replace(b'"name": "mnist"', b'"name": "fashion_mnist"'))
        file.rename(file.with_name(file.name.replace("mnist-", "fashion_mnist-")))
    with pytest.raises(DataError, match=r"3.0.1 \(train\): examples of each class .*that is mnist"):
        tfds_source.read("fashion_mnist", tmp_path)


@pytest.mark.slow
def test_other_files_leave_nothing(shared_data, tmp_path):
    pytest.importorskip("tensorflow")
    with pytest.raises(DataError, match="could not prepare it .NonMatchingChecksumError") as error:
        tfds_source.prepare("mnist", tfds_dir=tmp_path, manual_dir=shared_data / "fashion_mnist")
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "mnist"] == []


@pytest.mark.slow
def test_failure_half_way_leaves_nothing(shared_data, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    from tensorflow_datasets.image_classification import mnist

    generate, seen = mnist.MNIST._generate_examples, []

    def generate_some(self, number, data_path, label_path):
        for key, example in generate(self, number, data_path, label_path):
            seen.extend(path for path in tmp_path.glob("mnist/incomplete.*") if key == 0)
            if number == 10000 and key == 500:
                raise OSError("disk full")
            yield key, example

    monkeypatch.setattr(
        mnist.MNIST,
        "_generate_examples",
        lambda self, num_examples, data_path, label_path: generate_some(
            self, num_examples, data_path, label_path
        ),
    )
    with pytest.raises(DataError, match="could not prepare it .OSError"):
        tfds_source.prepare("mnist", tfds_dir=tmp_path, manual_dir=shared_data / "mnist")
    assert len(seen) == 2  # both splits were under way
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "mnist"] == []
    assert tfds_source.prepared_path("mnist", tmp_path) is None


@pytest.mark.slow
def test_no_network(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.builder_cls("mnist"), "URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(
        DataError, match="no idx files in .*; mnist: cannot be downloaded, http://127.0.0.1:9/t"
    ):
        load("mnist", tmp_path, tfds_dir=tmp_path / "tfds")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tfrecord_from_elsewhere(shared_data, tmp_path, monkeypatch):
    """What other programs prepare is TFRecord by default; TensorFlow reads it."""
    pytest.importorskip("tensorflow")
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=shared_data / "mnist", try_download_gcs=False)
    root = tmp_path / "tfds"
    tfds.builder("mnist", data_dir=root).download_and_prepare(
        download_dir=tmp_path / "downloads", download_config=config, file_format="tfrecord"
    )
    arrays, _ = tfds_source.read("mnist", root)
    expected = idx.read_folder(shared_data / "mnist", idx.SPECS["mnist"])
    assert (rows(arrays.test_x, arrays.test_y) == rows(expected.test_x, expected.test_y)).all()
    monkeypatch.setattr(tfds_source, "has_tensorflow", lambda: False)
    with pytest.raises(DataError, match="prepared as tfrecord, which only TensorFlow reads"):
        tfds_source.read("mnist", root)


@pytest.mark.slow
def test_tensorflow_stays_off_the_gpus(prepared):
    tf = pytest.importorskip("tensorflow")
    assert tf.config.get_visible_devices("GPU") == []


def made_up(shape, labels):
    """Images of one colour each, the colour telling the example."""
    colours = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (len(labels), *shape))


@pytest.mark.slow
def test_cifar10_prepared_from_made_up_images(tmp_path, monkeypatch):
    """TensorFlow Datasets stores made-up images as its `cifar10`; its own files are not at hand."""
    pytest.importorskip("tensorflow")
    import tensorflow_datasets as tfds

    splits = {"train": np.arange(2_000) % 10, "test": np.arange(400) % 10}
    images = {split: made_up((32, 32, 3), labels) for split, labels in splits.items()}

    def examples(split):
        for i, label in enumerate(splits[split]):
            yield i, {"id": f"{split}_{i}", "image": images[split][i].copy(), "label": int(label)}

    builder = tfds.builder_cls("cifar10")
    monkeypatch.setattr(builder, "_split_generators", lambda self, _: {s: examples(s) for s in splits})
    # A 25th of its images: storing 60,000 takes minutes.
    check = idx.check_labels
    monkeypatch.setattr(
        idx, "check_labels", lambda where, y, counts: check(where, y, tuple(n // 25 for n in counts))
    )
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    path = tfds_source.prepare("cifar10", tfds_dir=tmp_path, manual_dir=original(tmp_path, "cifar10"))
    assert path.parent == tmp_path / "cifar10"
    with pytest.raises(DataError, match=r"3.0.2 \(train\): mean red, green and blue are"):
        load("cifar10", tfds_dir=tmp_path)
    means = {split: tuple(x.mean((0, 1, 2)) / 255) for split, x in images.items()}
    monkeypatch.setattr(cifar10, "TRAIN_MEANS", means["train"])
    monkeypatch.setitem(cifar10.MEANS, "test_batch", means["test"])
    data = load("cifar10", tfds_dir=tmp_path)
    assert data.source.endswith("(cifar10 3.0.2)")
    assert data.notes == ()
    for split, x, y in (("train", data.train_x, data.train_y), ("test", data.test_x, data.test_y)):
        got = rows((x[:, 0, 0] * 255).round().astype(np.uint8), y.astype(np.uint8))
        want = rows(images[split][:, 0, 0], splits[split].astype(np.uint8))
        assert (got == want).all()
        assert np.ptp(x, axis=(1, 2)).max() == 0


@pytest.mark.slow
def test_colorectal_histology_prepared_from_made_up_images(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    import tensorflow_datasets as tfds

    monkeypatch.setattr(colorectal, "PER_CLASS", 5)
    labels = np.repeat(np.arange(8), 5)
    images = made_up((150, 150, 3), labels)

    def examples():
        for i, label in enumerate(labels):
            yield i, {"filename": str(i), "image": images[i].copy(), "label": int(label)}

    builder = tfds.builder_cls("colorectal_histology")
    monkeypatch.setattr(builder, "_split_generators", lambda self, _: {"train": examples()})
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    folder = original(tmp_path, "colorectal_histology")
    tfds_source.prepare("colorectal_histology", tfds_dir=tmp_path, manual_dir=folder)
    data = load("colorectal_histology", tfds_dir=tmp_path)
    assert data.train_x.shape == (32, 64, 64, 1)
    grey = np.rint(np.concatenate([data.train_x, data.test_x])[:, 0, 0] * 255).astype(int).ravel()
    y = np.concatenate([data.train_y, data.test_y])
    expected = [(label, colorectal.to_grey(image)[0, 0]) for label, image in zip(labels, images, strict=True)]
    assert sorted(zip(y.tolist(), grey.tolist(), strict=True)) == sorted(
        (int(a), int(b)) for a, b in expected
    )


def original(folder, name):
    """A folder with an empty file in place of the original one, which is not looked into."""
    made = folder / "originals"
    made.mkdir()
    for file in tfds_source.facts_of(name).files:
        (made / file).write_bytes(b"")
    return made


def test_addresses():
    tfds = pytest.importorskip("tensorflow_datasets")
    for name in tfds_source.NAMES:
        file = tfds_source.facts_of(name).files[0]
        assert tfds_source.address_of(tfds.builder_cls(name.split("/")[0]), file).endswith(f"/{file}")
