"""Hugging Face data sets from local folders in each format, without the network."""

import sys

import numpy as np
import pytest
from PIL import Image

from fljax.config.schema import parse_config
from fljax.data import load
from fljax.data.readers import hugging_face
from fljax.errors import ConfigError, DataError
from fljax.simulation.assembly import load_dataset

datasets = pytest.importorskip("datasets")

RANDOM = np.random.default_rng(0)
COUNT = 8
WRITERS = ["zoe", "ann", "ann", "bob"] * 2
VECTORS = RANDOM.normal(size=(COUNT, 3)).astype(np.float32)
LABELS = [0, 1, 2, 1] * 2


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("FLJAX_DATA", raising=False)


def table(**columns):
    return datasets.Dataset.from_dict({"label": LABELS, **columns})


def write_parquet(folder, data):
    data.to_parquet(folder / "train-00000-of-00001.parquet")
    data.select(range(3)).to_parquet(folder / "test-00000-of-00001.parquet")


def write_json(folder, data):
    data.to_json(folder / "train.jsonl")
    data.select(range(3)).to_json(folder / "test.jsonl")


def write_disk(folder, data):
    datasets.DatasetDict({"train": data, "test": data.select(range(3))}).save_to_disk(folder)


FORMATS = {"parquet": write_parquet, "json": write_json, "save_to_disk": write_disk}


@pytest.mark.parametrize("kind", FORMATS)
def test_vectors_and_clients(tmp_path, kind):
    (tmp_path / "mine").mkdir()
    FORMATS[kind](tmp_path / "mine", table(x=VECTORS.tolist(), writer_id=WRITERS))
    table_ = {
        "name": "huggingface",
        "dir": str(tmp_path),
        "path": "mine",
        "input": "x",
        "client": "writer_id",
    }
    data = load_dataset(parse_config({"data": table_, "num_clients": 2}))
    np.testing.assert_allclose(data.train_x, VECTORS, rtol=1e-6)
    np.testing.assert_array_equal(data.test_x, data.train_x[:3])
    assert (data.train_y.tolist(), data.num_classes, data.num_tokens) == (LABELS, 3, None)
    assert data.client_ids.tolist() == [2, 0, 0, 1] * 2
    assert data.test_client_ids.tolist() == [2, 0, 0]
    assert (data.name, data.source) == ("mine", "Hugging Face datasets: mine, split train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]  # nothing is left beside it


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images(tmp_path, mode, channels):
    pixels = RANDOM.integers(0, 256, (COUNT, 4, 5, channels), dtype=np.uint8)
    images = [Image.fromarray(p.squeeze(), mode) for p in pixels]
    features = datasets.Features({"label": datasets.ClassLabel(num_classes=7), "image": datasets.Image()})
    data = datasets.Dataset.from_dict({"label": LABELS, "image": images}, features=features)
    data.save_to_disk(tmp_path / "images")
    found = load("huggingface", tmp_path, path="images", input="image", test_share=0.25, seed=1)
    assert (found.num_classes, found.input_shape, len(found.test_y)) == (7, (4, 5, channels), 2)
    rows = np.concatenate([found.train_x, found.test_x]).reshape(COUNT, -1)
    assert sorted(map(bytes, np.rint(rows * 255).astype(np.uint8))) == sorted(
        map(bytes, pixels.reshape(COUNT, -1))
    )


def test_tokens_classes_of_text_and_regression(tmp_path):
    tokens = RANDOM.integers(0, 50, (COUNT, 6)).tolist()
    data = table(ids=tokens, mood=["good", "bad", "ugly", "bad"] * 2, age=[float(i) for i in range(COUNT)])
    data.to_csv(tmp_path / "table.csv")
    data.to_parquet(tmp_path / "table.parquet")
    options = {"path": "table.parquet", "test_share": 0.5}
    found = load("huggingface", tmp_path, input="ids", label="mood", **options)
    assert (found.train_x.dtype, found.num_tokens) == (np.int32, max(max(row) for row in tokens) + 1)
    names = dict(zip(map(tuple, tokens), ["good", "bad", "ugly", "bad"] * 2, strict=True))
    order = ["bad", "good", "ugly"]
    assert [order.index(names[tuple(row)]) for row in found.train_x.tolist()] == found.train_y.tolist()
    following = load("huggingface", tmp_path, input="ids", label="ids", **options)
    assert following.format.outputs == (6, following.num_classes)
    options["path"] = "table.csv"
    columns = {"name": "huggingface", "dir": str(tmp_path), "input": ["label", "age"], "label": "age"}
    found = load_dataset(parse_config({"data": {**columns, "regression": True, **options}}))
    assert (found.num_classes, found.input_shape, found.train_x.dtype) == (None, (2,), np.float32)
    np.testing.assert_array_equal(found.train_x[:, 1], found.train_y)
    assert load("huggingface", tmp_path, input="age", **options).input_shape == (1,)


@pytest.fixture
def mixed(tmp_path):
    pictures = [Image.fromarray(np.zeros((4, 4 + (i == 5)), np.uint8)) for i in range(COUNT)]
    features = {"sizes": datasets.Image(), "broken": datasets.Image()}
    data = table(
        text=["to be"] * COUNT,
        ragged=[[1] * (1 + i % 2) for i in range(COUNT)],
        missing=[None, *[1.0] * (COUNT - 1)],
        lists=[["a"]] * COUNT,
        x=VECTORS.tolist(),
        sizes=pictures,
        broken=[{"bytes": b"no image", "path": None}] * COUNT,
    )
    for name, feature in features.items():
        data = data.cast_column(name, feature)
    data.save_to_disk(tmp_path / "mixed")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": "text"}, "column 'text' holds text; tokenise it first"),
        ({"input": "lists"}, "column 'lists' holds text; tokenise it first"),
        ({"input": "ragged"}, r"rows of column 'ragged' have several shapes, such as \(1,\) and \(2,\)"),
        ({"input": ["x", "label"]}, "column 'x' must hold one number a row"),
        ({"input": "missing"}, "train_x is not finite in float32 .example 0"),
        ({"input": "sizes"}, "image 5 of column 'sizes' is 5×4, the first one 4×4; make all of one size"),
        ({"input": "broken"}, "image 0 of column 'broken': cannot be read"),
        ({"input": "y"}, "has no column 'y' .choose from label, text"),
        ({"input": "x", "label": "missing"}, "train_y holds float"),
        ({"input": "x", "client": "missing"}, "client_ids are float"),
        ({"input": "x", "split": "dev"}, "has no split 'dev' .choose from train"),
        ({"input": "x", "test_split": "test"}, "has no split 'test'"),
        ({"input": "x", "subset": "en"}, "subset='en' is for data sets of the Hub"),
        (
            {"path": "nobody/nothing", "input": "x"},
            "neither a folder nor a file here, and the Hugging Face Hub",
        ),
        ({"path": "../nothing/here", "input": "x"}, "is neither a folder nor a file, nor a name"),
        ({"path": "empty", "input": "x"}, "no files found, expected those of one format"),
        ({"path": "damaged.parquet", "input": "x"}, "damaged.parquet: cannot be read as a data set"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(mixed, options, message):
    (mixed / "empty").mkdir()
    (mixed / "damaged.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=message) as error:
        load("huggingface", mixed, **{"path": "mixed", **options})
    assert "\n" not in str(error.value)


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'needs the package datasets; pip install "fljax\[huggingface\]"'):
        load("huggingface", tmp_path, path="mine", input="x")
    with pytest.raises(ConfigError, match="option 'path' is required"):
        load("huggingface", tmp_path)


def test_memory_is_asked_first(tmp_path, monkeypatch):
    table(x=VECTORS.tolist()).save_to_disk(tmp_path / "mine")
    asked = []
    monkeypatch.setattr(hugging_face, "check_fits", lambda what, size: asked.append((what, size)))
    load("huggingface", tmp_path, path="mine", input="x")
    ((what, size),) = asked
    assert what == "mine: its split 'train' takes"
    assert size >= 3 * VECTORS.nbytes
