"""Anyone's arrays become a data set, or one sentence says why not."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fljax.config.schema import parse_config
from fljax.data import from_arrays, load
from fljax.errors import ConfigError, DataError
from fljax.simulation.experiment import assemble

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 4


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint32, np.int64, np.float16, np.float32, np.float64, bool, jnp.bfloat16]
)
def test_types_of_inputs(dtype):
    x = (np.abs(X) * 60).astype(dtype)
    data = from_arrays(x, Y, x[:5], Y[:5])
    assert data.train_x.dtype == data.test_x.dtype == np.float32
    expected = x.astype(np.float32) / np.float32(255) if dtype == np.uint8 else x.astype(np.float32)
    np.testing.assert_array_equal(data.train_x, expected)
    np.testing.assert_array_equal(data.test_x, expected[:5])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64, ">i2", bool])
def test_types_of_labels(dtype):
    y = (Y % 2).astype(dtype)
    data = from_arrays(X, y, X[:4], y[:4])
    assert data.train_y.dtype == data.test_y.dtype == np.int32
    assert data.train_y.tolist() == [int(label) for label in y]
    assert data.num_classes == 2


def test_lists_and_jax_arrays():
    data = from_arrays([[1, 2], [3, 4]], [0, 1], jnp.ones((1, 2)), jnp.array([1]))
    assert data.train_x.tolist() == [[1, 2], [3, 4]]
    assert (data.num_classes, data.name, data.source) == (2, "arrays", "arrays")


def test_number_of_classes():
    assert from_arrays(X, Y, X[:1], [6]).num_classes == 7
    assert from_arrays(X, Y, num_classes=10).num_classes == 10
    with pytest.raises(ConfigError, match="num_classes=4, but the labels go up to 6"):
        from_arrays(X, Y, X[:1], [6], num_classes=4)


def test_client_ids_of_any_kind():
    names = np.array(["zoe", "ann", "bob", "ann"] * 10)
    assert from_arrays(X, Y, X, Y, client_ids=names).client_ids.tolist() == [2, 0, 1, 0] * 10
    numbers = [700, -3, 5, -3] * 10
    assert from_arrays(X, Y, X, Y, client_ids=numbers).client_ids.tolist() == [2, 0, 1, 0] * 10


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
    grouped=st.booleans(),
)
def test_held_out_examples(sizes, share, seed, grouped):
    ids = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = np.arange(len(ids), dtype=np.float32)[:, None]
    y = np.arange(len(ids)) % 3
    if max(sizes) == 1 and (grouped or len(ids) == 1):
        with pytest.raises(DataError, match="cannot be split|none can be held out"):
            from_arrays(x, y, client_ids=ids if grouped else None, test_share=share, seed=seed)
        return
    if len(ids) == 1:
        return
    data = from_arrays(x, y, client_ids=ids if grouped else None, test_share=share, seed=seed)
    train, test = (part[:, 0].astype(int).tolist() for part in (data.train_x, data.test_x))
    assert sorted(train + test) == list(range(len(ids)))
    assert data.train_y.tolist() == [i % 3 for i in train]
    assert data.test_y.tolist() == [i % 3 for i in test]
    if grouped:
        assert data.client_ids.tolist() == [ids[i] for i in train]
        left = np.bincount(ids[test], minlength=len(sizes))
        want = (share * np.array(sizes) + 1e-9).astype(int)
        assert (left == want).all() or (want.sum() == 0 and left.sum() == 1)
    else:
        assert len(test) == max(1, int(share * len(ids) + 1e-9))
    again = from_arrays(x, y, client_ids=ids if grouped else None, test_share=share, seed=seed)
    assert again.test_x.tolist() == data.test_x.tolist()


def test_held_out_by_seed():
    tests = {from_arrays(X, Y, seed=seed).test_x.tobytes() for seed in range(5)}
    assert len(tests) == 5
    assert len(from_arrays(X, Y, test_share=0.5).test_y) == 20


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: from_arrays(X, Y, X), DataError, "test_x and test_y must be given together"),
        (lambda: from_arrays(X, Y[:-1]), DataError, "40 examples in train_x, but 39 labels in train_y"),
        (lambda: from_arrays(X, Y, X, Y[1:]), DataError, "40 examples in test_x, but 39 labels in test_y"),
        (lambda: from_arrays(X[:, 0], Y), DataError, r"train_x has shape \(40,\), expected examples first"),
        (lambda: from_arrays(X, Y[:, None]), DataError, r"train_y has shape \(40, 1\), expected one label"),
        (lambda: from_arrays(X[:0], Y[:0]), DataError, r"train_y has shape \(0,\)"),
        (lambda: from_arrays(X, Y + 0.0), DataError, "train_y holds float64, expected whole numbers"),
        (lambda: from_arrays(X, Y - 1), DataError, "train_y goes from -1 to 2"),
        (lambda: from_arrays(X, np.full(40, 2**40)), DataError, "train_y goes from 1099511627776"),
        (lambda: from_arrays(X + 1j, Y), DataError, "train_x holds complex128, expected real numbers"),
        (lambda: from_arrays([["a"]] * 40, Y), DataError, "train_x holds <U1"),
        (lambda: from_arrays([[1], [1, 2]], [0, 1]), DataError, "train_x is no array"),
        (
            lambda: from_arrays(np.where(X[7] == X, np.nan, X), Y),
            DataError,
            "not finite in float32 .example 7",
        ),
        (lambda: from_arrays(X, Y, X * 1e300, Y), DataError, "test_x is not finite in float32 .example 0"),
        (lambda: from_arrays(X, Y, X[:, :2], Y), DataError, "in train_x, .* in test_x"),
        (lambda: from_arrays(X, Y, client_ids=[0] * 39), DataError, r"client_ids are int64 \(39,\)"),
        (lambda: from_arrays(X, Y, client_ids=[0.5] * 40), DataError, "client_ids are float64"),
        (lambda: from_arrays(X, Y, test_share=1.0), ConfigError, "test_share=1.0 must be between 0 and 1"),
        (lambda: from_arrays(X[:1], Y[:1]), DataError, "1 example cannot be split"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, error, message):
    with pytest.raises(error, match=f"^arrays: .*{message}"):
        call()


# -------------------------------------------------------------------------------------------- npz files


def test_npz(tmp_path):
    ids = np.array(["ann", "bob"] * 20)
    np.savez(tmp_path / "mine.npz", train_x=X, train_y=Y, client_ids=ids)
    data = load("npz", tmp_path, file="mine.npz", test_share=0.25, seed=3)
    want = from_arrays(X, Y, client_ids=ids, test_share=0.25, seed=3)
    np.testing.assert_array_equal(data.train_x, want.train_x)
    assert data.client_ids.tolist() == want.client_ids.tolist()
    assert (data.name, data.source) == ("mine", str(tmp_path / "mine.npz"))
    np.savez_compressed(tmp_path / "all.npz", train_x=X, train_y=Y, test_x=X[:9], test_y=Y[:9])
    assert len(load("npz", "/", file=str(tmp_path / "all.npz")).test_y) == 9


def test_npz_wrong(tmp_path):
    path = tmp_path / "mine.npz"
    with pytest.raises(DataError, match=f"^{path}: cannot be read"):
        load("npz", tmp_path, file="mine.npz")
    np.savez(path, x=X, y=Y)
    with pytest.raises(DataError, match="must be train_x, train_y and perhaps .*, got x, y"):
        load("npz", tmp_path, file="mine.npz")
    np.savez(path, train_x=np.array([object()] * 3), train_y=Y)
    with pytest.raises(DataError, match="cannot be read as an .npz file of plain arrays"):
        load("npz", tmp_path, file="mine.npz")
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match="cannot be read"):
        load("npz", tmp_path, file="mine.npz")
    np.save(tmp_path / "mine.npy", X)
    with pytest.raises(DataError, match="cannot be read as an .npz"):
        load("npz", tmp_path, file="mine.npy")
    with pytest.raises(ConfigError, match="file.*required"):
        load("npz", tmp_path)


def test_natural_clients_from_arrays():
    """The way to FEMNIST-like data: ids beside the arrays, partition by_client, no number of clients."""
    ids = [f"writer {i % 5}" for i in range(40)]
    data = from_arrays(X, Y, client_ids=ids, name="writers")
    config = parse_config(
        {
            "rounds": 2,
            "eval_every": 2,
            "partition": {"name": "by_client"},
            "model": {"name": "logistic_regression"},
            "root": {"size": 3},
        }
    )
    experiment = assemble(config, dataset=data)
    assert experiment.facts["clients"]["num_clients"] == 5
    assert experiment.facts["data"]["name"] == "writers"
    for client, row in enumerate(np.asarray(experiment.state.data.table)):
        assert set(data.client_ids[row[row >= 0]]) == {client}
    with pytest.raises(ConfigError, match="root: takes every example of . natural clients"):
        assemble(parse_config({**config.model_dump(), "root": {"size": 31}}), dataset=data)
