"""`fljax data`: what it shows is what a run does."""

import re

import numpy as np
import pytest
from PIL import Image

from fljax.cli.data_table import label_distance, remarks
from fljax.config.schema import parse_config
from fljax.data import from_arrays
from fljax.report.partition import plot_partition
from fljax.simulation.experiment import assemble
from fljax.simulation.holdings import Holdings, load_holdings
from tests.support.command import command

TINY = """
rounds = 4
eval_every = 2
num_clients = 6
root = { size = 20, bias = 1.0, bias_class = 2 }
data = { name = "synthetic", num_train = 200, num_test = 50, num_classes = 3 }
model = { name = "logistic_regression" }
aggregator = { name = "median" }
attack = { name = "sign_flip", fraction = 0.33 }
partition = { name = "dirichlet", alpha = 0.4, min_size = 3 }
"""


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return command(monkeypatch, capsys, "data")


def test_holdings_are_those_of_a_run():
    config = parse_config(
        {
            "num_clients": 6,
            "seeds": {"data": 4},
            "data": {"name": "synthetic", "num_train": 200},
            "partition": {"name": "shards"},
            "model": {"name": "logistic_regression"},
            "attack": {"name": "sign_flip", "fraction": 0.5},
        }
    )
    _, holdings = load_holdings(config)
    data = assemble(config).state.data
    table, labels = np.asarray(data.table), np.asarray(data.y)
    for row, counts in zip(table, holdings.clients, strict=True):
        assert np.bincount(labels[row[row >= 0]], minlength=10).tolist() == counts.tolist()
    assert np.bincount(labels[np.asarray(data.root)], minlength=10).tolist() == holdings.root.tolist()
    assert holdings.malicious.tolist() == np.asarray(data.malicious).tolist()
    assert holdings.malicious.sum() == 3
    assert holdings.clients.sum() + holdings.root.sum() == 200


def test_table_and_picture(cli, tmp_path):
    status, out, err = cli("tiny.toml", "--out", "new/picture.png")
    assert (status, err) == (0, "")
    assert Image.open(tmp_path / "new" / "picture.png").size > (600, 400)
    rows = [re.findall(r"[^│]+", line) for line in out.splitlines() if re.match(r"│ +\d+ │", line)]
    sizes = [int(row[1]) for row in rows]
    assert (len(rows), sum(sizes)) == (6, 180)
    assert min(sizes) >= 3
    assert sum("malicious" in row[5] for row in rows) == 2
    assert re.search(r"│ malicious +│ +2 │", out)
    assert re.search(r"│ root dataset +│ +│ +20 │", out)
    assert "the root dataset has no example of class 0, 1" in out
    assert ("fewer examples than local.batch_size=32" in out) == (min(sizes) < 32)
    assert "written: new/picture.png" in out


def test_many_clients_are_summed_up(cli):
    status, out, _ = cli("tiny.toml", "--set", "num_clients=40", "--set", "partition.name=iid")
    assert status == 0
    assert re.search(r"│ all clients +│ +40 │ +180 │ +4 │ +4 │ +5 │", out)
    assert "most of one class" not in out
    assert "written: runs/tiny-data.png" in out
    assert "runs/tiny-data-2.png" in cli("tiny.toml")[1]


def test_a_sweep_shows_what_its_cells_share(cli, tmp_path):
    (tmp_path / "many.toml").write_text(TINY + '[sweep]\nseeds = 2\naxes = { aggregator = ["mean"] }\n')
    assert cli("many.toml")[0] == 0


def test_notes_are_shown(cli, tmp_path, monkeypatch):
    from fljax.simulation import holdings as preview

    noted = from_arrays(np.ones((60, 2)), np.arange(60) % 3)
    object.__setattr__(noted, "notes", ("3 of 60 images are lossy [copies]",))
    monkeypatch.setattr(preview, "load_dataset", lambda *_, **__: noted)
    status, out, _ = cli(
        "tiny.toml", "--set", "partition.name=iid", "--set", "root.size=10", "--set", "root.bias=0.3"
    )
    assert status == 0
    assert "note: 3 of 60 images are lossy [copies]" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.toml"], "cannot read configuration file missing.toml"),
        (["tiny.toml", "--out", "picture.jpg"], "'picture.jpg' must end in .png"),
        (["tiny.toml", "--out", "tiny.toml/x.png"], "cannot make the folder"),
        (["tiny.toml", "--set", "partition.alpha=0"], "alpha=0.* must be between"),
        (["tiny.toml", "--set", "partition.alhpa=1"], "did you mean 'alpha'"),
        (
            ["tiny.toml", "--set", "partition.per='label'"],
            "partition dirichlet.per: must be 'class' or 'client'",
        ),
        (["tiny.toml", "--set", "partition.min_size=31"], "180 examples cannot give each of 6 clients"),
        (["tiny.toml", "--set", "data.name=npz"], "data npz.file: this parameter is required"),
    ],
)
def test_wrong_input_is_one_sentence(cli, words, message):
    status, out, err = cli(*words)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"fljax: [^\n]*{message}[^\n]*\n", err)


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (31, 62), (400, 5)])
def test_pictures_of_any_size(tmp_path, clients, classes):
    counts = np.random.default_rng(0).integers(0, 9, (clients, classes)) + 1
    holdings = Holdings(counts, np.ones(classes, int), np.arange(clients) < clients // 3)
    plot_partition(holdings, "title", ["a note"], tmp_path / "x.png")
    width, height = Image.open(tmp_path / "x.png").size
    assert 500 < width < 2000
    assert 400 < height < 2000


def test_label_distance():
    # Disjoint halves are each half of the whole away from it.
    np.testing.assert_allclose(label_distance(np.array([[4, 0], [0, 4]])), [0.5, 0.5])
    np.testing.assert_allclose(label_distance(np.array([[3, 1], [9, 3]])), 0)


def test_nothing_to_remark():
    holdings = Holdings(np.full((3, 2), 16), np.array([1, 1]), np.zeros(3, bool))
    assert list(remarks(parse_config({"num_clients": 3}), holdings)) == []
    assert len(list(remarks(parse_config({"num_clients": 3, "local": {"batch_size": 33}}), holdings))) == 1
