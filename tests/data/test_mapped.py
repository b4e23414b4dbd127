"""Training inputs in mapped files: read where clients train, ahead of them, and nowhere else."""

from dataclasses import replace
from typing import ClassVar

import jax
import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.data import from_arrays
from fljax.data.readers.packed import map_npz
from fljax.engine.host_examples import HostExamples
from fljax.engine.state import RoundData
from fljax.errors import ConfigError, DataError
from fljax.simulation import assembly
from fljax.simulation.devices import mesh_of
from fljax.sweeps import make_plan, make_sweep

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "train_x": RANDOM.normal(size=(90, 6)).astype(np.float32),
    "train_y": RANDOM.integers(0, 3, 90),
    "test_x": RANDOM.normal(size=(9, 6)).astype(np.float32),
    "test_y": RANDOM.integers(0, 3, 9),
}
BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 9,
    "partition": {"name": "dirichlet", "alpha": 1.0},
    "model": {"name": "logistic_regression"},
    "root": {"size": 5},
    "local": {"steps": 2, "batch_size": 4},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "arrays.npz"
    np.savez(path, **ARRAYS)
    return path


# --- files --------------------------------------------------------------------------------------------


def test_stored_arrays_are_mapped_as_they_are(tmp_path):
    arrays = {
        "a name": np.arange(7, dtype=np.uint8),
        "columns first": np.asfortranarray(RANDOM.normal(size=(3, 4))),
        "text": np.array(["ann", "bob"]),
    }
    np.savez(tmp_path / "file.npz", **arrays)
    mapped = map_npz(tmp_path / "file.npz")
    assert mapped.keys() == arrays.keys()
    for name, array in arrays.items():
        assert isinstance(mapped[name], np.memmap)
        assert mapped[name].dtype == array.dtype
        np.testing.assert_array_equal(mapped[name], array)


def test_what_cannot_be_mapped_is_refused(tmp_path, file):
    np.savez_compressed(tmp_path / "packed.npz", **ARRAYS)
    np.savez(tmp_path / "pixels.npz", **{**ARRAYS, "train_x": np.zeros((90, 6), np.uint8)})
    np.savez(tmp_path / "alone.npz", train_x=ARRAYS["train_x"], train_y=ARRAYS["train_y"])
    np.savez(tmp_path / "objects.npz", train_x=np.array([None]))
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:-500])
    for name, sentence in {
        "packed": "compressed",
        "pixels": "only a train_x of float32",
        "alone": "give test_x",
        "objects": "cannot be read",
        "cut": "cannot be read",
        "missing": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=sentence):
            fljax.data.load("npz", file=str(tmp_path / f"{name}.npz"), mapped=True)


def test_a_mapped_array_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", ARRAYS["train_x"])
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert from_arrays(**{**ARRAYS, "train_x": x}).mapped
    assert not from_arrays(**ARRAYS).mapped


# --- rounds -------------------------------------------------------------------------------------------

CASES = {
    "streaming, unequal clients, copies, validation": {
        "streaming": True,
        "validation": {"size": 7},
        "attack": {"name": "badnets", "fraction": 0.3, "every": 2},
        "local": {"epochs": 1, "batch_size": 4},
    },
    "streaming in several passes over a sampled cohort": {
        "streaming": True,
        "cohort_size": 7,
        "aggregator": {"name": "norm_filter", "num_malicious": 2},
        "client": {"name": "feddyn", "alpha": 0.1},
    },
    "a sampled cohort with attackers who train in their own way": {
        "cohort_size": 4,
        "aggregator": {"name": "median"},
        "attack": {"name": "gradient_ascent", "fraction": 0.5},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_mapped_examples_give_the_run_of_those_in_memory(name, file, monkeypatch):
    monkeypatch.setattr(assembly, "rows_at_once", lambda num_params: 4)
    found = []
    for mapped in (True, False):
        data = {"name": "npz", "file": str(file), "mapped": mapped}
        found.append(fljax.run(parse_config({**BASE, **CASES[name], "data": data}), progress=False))
    mapped, read = found
    # Another program: the last digit may be another.
    for one, other in zip(jax.tree.leaves(mapped.params), jax.tree.leaves(read.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    for column, values in read.metrics.items():
        if column != "seconds":
            np.testing.assert_allclose(mapped.metrics[column], values, rtol=1e-5)


def test_a_sweep_says_that_it_reads_its_data(file):
    values = {**BASE, "data": {"name": "npz", "file": str(file), "mapped": True}}
    with pytest.raises(ConfigError, match="mapped is for a run alone"):
        make_plan(make_sweep(values, {"seeds": 2}))


class Counted(np.memmap):
    """A mapped array that notes which rows are read of it."""

    read: ClassVar[list] = []

    def __getitem__(self, index):
        self.read.append(index[0] if isinstance(index, tuple) else index)
        return super().__getitem__(index)


def test_a_device_is_handed_the_examples_of_its_own_clients(tmp_path):
    ARRAYS["train_x"].tofile(tmp_path / "x")
    config = parse_config({**BASE, "validation": {"size": 7}, "devices": {"clients": 2}})
    there = from_arrays(**ARRAYS)
    mapped = replace(there, train_x=Counted(tmp_path / "x", np.float32, "r", 0, (90, 6)))
    found = [fljax.run(config, dataset=dataset, progress=False).params for dataset in (mapped, there)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    servers, *of_devices = sorted((set(rows.tolist()) for rows in Counted.read), key=len)
    # Those of the server for its evaluation, and on every device beside those of its clients.
    assert len(servers) == 12
    assert set.intersection(*of_devices) == servers
    assert set.union(*of_devices) == set(range(90))
    assert len(of_devices) == 2


def test_several_devices_need_clients_that_keep_their_examples_apart():
    assert mesh_of(parse_config({}), 8, mapped=True) is None
    with pytest.raises(ConfigError, match="devices.clients=2: the examples of a mapped file are read"):
        mesh_of(parse_config({"devices": {"clients": 2}}), 8, mapped=True)
    assert mesh_of(parse_config({"devices": {"clients": 2}}), 8, mapped=True, apart=True).size == 2


# --- reading ahead ------------------------------------------------------------------------------------


class Watched:
    """Inputs that note which rows are read."""

    def __init__(self, array):
        self.array, self.read = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        self.read.append(np.asarray(rows).tolist())
        return self.array[rows]


def test_the_next_clients_are_read_while_the_others_train_and_nothing_is_read_twice():
    x = Watched(ARRAYS["train_x"])
    table = np.array([[5, 2], [7, -1], [-1, -1], [1, 0]], np.int32)
    counts = np.array([2, 1, 0, 2], np.int32)
    examples = HostExamples(RoundData(x, ARRAYS["train_y"], table, counts, table[0], counts > 0))
    inputs, labels = examples.read(np.array([0, 1]), np.array([2, 3]))
    np.testing.assert_array_equal(inputs[0], ARRAYS["train_x"][[5, 2]])
    np.testing.assert_array_equal(inputs[1], [ARRAYS["train_x"][7], np.zeros(6)])
    np.testing.assert_array_equal(labels, [ARRAYS["train_y"][[5, 2]], [ARRAYS["train_y"][7], 0]])
    # Somebody else in between, such as attackers who train once more, does not disturb.
    examples.read(np.array([1]), np.array([], np.int32))
    inputs, _ = examples.read(np.array([2]), np.array([0]))
    assert not inputs.any()
    inputs, _ = examples.read(np.array([0]), np.array([], np.int32))
    np.testing.assert_array_equal(inputs[0], ARRAYS["train_x"][[5, 2]])
    assert x.read == [[2, 5, 7], [0, 1], [7], [2, 5]] or x.read == [[2, 5, 7], [7], [0, 1], [2, 5]]
