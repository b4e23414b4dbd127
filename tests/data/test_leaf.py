"""LEAF's layout: generated files in the exact format that its preprocess.sh writes, and damaged ones."""

import json
import re

import numpy as np
import pytest

from fljax.config.schema import parse_config
from fljax.data import load
from fljax.data.readers import leaf
from fljax.errors import DataError
from fljax.simulation.assembly import deal

RANDOM = np.random.default_rng(0)
# f0001_41 is in both parts, as with LEAF's --by_sample; f0002_03 trains only; f0009_11 is only tested.
SIZES = {"train": {"f0001_41": 3, "f0000_14": 2, "f0002_03": 4}, "test": {"f0001_41": 1, "f0009_11": 2}}


def written(user, count):
    """A writer's examples as LEAF's JSON has them: 784 floats, 1.0 where the paper is white, and a class."""
    seeds = np.random.default_rng([count, *user.encode()])
    x = np.where(seeds.random((count, 784)) < 0.8, 1.0, seeds.integers(0, 256, (count, 784)) / 255)
    return {"x": x.tolist(), "y": seeds.integers(0, 62, count).tolist()}


def spoken(user, count):
    text = "".join(leaf.LETTERS[i] for i in np.random.default_rng(count).integers(0, 80, 80 + count))
    return {"x": [text[i : i + 80] for i in range(count)], "y": [text[i + 80] for i in range(count)]}


def entry(make, users):
    sizes = dict(users)
    return {
        "users": list(sizes),
        "num_samples": list(sizes.values()),
        "user_data": {user: make(user, size) for user, size in sizes.items()},
    }


def write(folder, make, hierarchies=False):
    for part, users in SIZES.items():
        (folder / part).mkdir(parents=True)
        halves = list(users.items())[:1], list(users.items())[1:]  # LEAF writes 100 writers into a file
        for number, half in enumerate(halves):
            content = entry(make, half)
            content["user_data"]["gone"] = {"x": [], "y": []}  # as split_data.py leaves a user that it drops
            if hierarchies:
                content["hierarchies"] = ["THE_TEMPEST"] * len(half)
            name = f"all_data_{number}_niid_0_keep_0_{part}_9.json"
            (folder / part / name).write_text(json.dumps(content))


@pytest.mark.parametrize("inner", ["", "data"])
def test_femnist(tmp_path, inner):
    folder = tmp_path / "femnist" / inner
    write(folder, written)
    data = load("femnist", tmp_path)
    users = sorted(SIZES["train"])
    assert (data.num_classes, data.input_shape, data.num_tokens) == (62, (28, 28, 1), None)
    assert data.source == f"LEAF's JSON files in {folder}"
    assert data.notes == ("1 of 2 users in the test part are in no training part",)
    for part, ids in (("train", data.client_ids), ("test", data.test_client_ids)):
        order = sorted(SIZES[part])
        expected = [written(user, SIZES[part][user]) for user in order]
        x = np.concatenate([each["x"] for each in expected]).astype(np.float32).reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(getattr(data, f"{part}_x"), x)
        assert getattr(data, f"{part}_y").tolist() == [label for each in expected for label in each["y"]]
        numbers = [users.index(user) if user in users else -1 for user in order]
        assert ids.tolist() == np.repeat(numbers, [SIZES[part][user] for user in order]).tolist()


def test_shakespeare(tmp_path):
    write(tmp_path / "shakespeare", spoken, hierarchies=True)
    data = load("shakespeare", tmp_path)
    assert len(leaf.LETTERS) == len(set(leaf.LETTERS)) == 80
    assert (data.train_x.dtype, data.input_shape, data.num_tokens, data.num_classes) == (
        np.int32,
        (80,),
        80,
        80,
    )
    said = spoken("f0001_41", 3)
    mine = data.train_x[data.client_ids == 1]
    assert ["".join(leaf.LETTERS[i] for i in row) for row in mine] == said["x"]
    assert [leaf.LETTERS[i] for i in data.train_y[data.client_ids == 1]] == said["y"]
    config = parse_config(
        {"data": {"name": "shakespeare"}, "partition": {"name": "by_client"}, "root": {"size": 2}}
    )
    assert deal(config, data, False).counts.sum() == 7


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("FLJAX_DATA", raising=False)
    with pytest.raises(DataError, match=f"^femnist: not found; put the folders .* into {tmp_path}/femnist$"):
        load("femnist", tmp_path)
    with pytest.raises(DataError, match="shakespeare: not found.*give data_dir or set FLJAX_DATA"):
        load("shakespeare")
    (tmp_path / "femnist" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="train: not found, or no .json file in it"):
        load("femnist", tmp_path)


GOOD = entry(written, [("ann", 2), ("bob", 1)])
SAID = entry(spoken, [("ann", 2)])


def changed(**changes):
    return json.dumps({**GOOD, **changes})


def with_user(**changes):
    return changed(user_data={**GOOD["user_data"], "bob": {**GOOD["user_data"]["bob"], **changes}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'{' is expected at character 0"),
        ("[]", "'{' is expected at character 0"),
        (changed()[:-20], "is not in LEAF"),
        (changed() + "x", "something follows its end"),
        (changed().replace(":", ";", 1), "':' is expected"),
        ("{1: 2}", "a name is expected at character 1"),
        ('{"users": [] "x"', "',' or '}' is expected"),
        (changed(users=["ann"]), "users and num_samples must be lists of the same length"),
        (changed(users="ab"), "users and num_samples must be lists"),
        (changed(users=["ann", "cat"]), "user 'cat' has no entry in user_data"),
        (changed(num_samples=[2, 2]), "num_samples gives user 'bob' 2 examples, but has 1"),
        (changed(num_samples=[2, True]), "num_samples gives user 'bob' True"),
        (changed(user_data=[]), "'{' is expected"),
        (changed().replace('"bob": {', '"ann": {'), "user 'ann' occurs twice"),
        (with_user(y=[]), "user 'bob' must have lists x and y of the same length"),
        (with_user(x=None), "user 'bob' must have lists x and y"),
        (with_user(x=[[0.5] * 783]), r"user 'bob': x is float64 \(1, 783\), expected rows of 784"),
        (with_user(x=[["a"] * 784]), "user 'bob': x is <U1"),
        (with_user(x=[[0.5] * 783 + [1.5]]), "user 'bob': x has a number outside"),
        (with_user(x=[[0.5] * 783 + [float("nan")]]), "user 'bob': x has a number outside"),
        (with_user(y=[62]), "user 'bob': y must be whole numbers from 0 to 61"),
        (with_user(y=[0.0]), "user 'bob': y must be whole numbers"),
        ("[" * 100_000, "is expected at character 0"),
        ('{"x": ' + "[" * 100_000, "is not in LEAF"),
    ],
)
def test_damaged_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "all_data_0.json"
    path.write_text(json.dumps(GOOD))
    assert sorted(leaf.read_file(path, leaf.images)) == ["ann", "bob"]
    path.write_text(text)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{message}") as error:
        leaf.read_file(path, leaf.images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["a" * 79], ["a"], "x must be texts of 80 characters"),
        ([["a"] * 80], ["a"], "x must be texts of 80 characters"),
        (["a" * 80], ["ab"], "y must be texts of 1 character$"),
        (["a" * 79 + "é"], ["a"], "'é' is none of LEAF's 80 characters"),
        (["a" * 80], ["$"], r"'\$' is none of LEAF's 80 characters"),
        (["a" * 79 + "\ud800"], ["a"], "'.*ud800' is none of LEAF's 80 characters"),
    ],
)
def test_other_texts(tmp_path, x, y, message):
    path = tmp_path / "all_data.json"
    path.write_text(json.dumps({**SAID, "num_samples": [1], "user_data": {"ann": {"x": x, "y": y}}}))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: user 'ann': {message}"):
        leaf.read_file(path, leaf.characters)


def test_a_user_in_two_files(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(SAID))
    with pytest.raises(DataError, match="b.json: user 'ann' is in an earlier file, too"):
        leaf.read_part(tmp_path, leaf.characters)
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(entry(spoken, [("ann", 0)])))
    with pytest.raises(DataError, match="nobody has an example"):
        leaf.read_part(tmp_path, leaf.characters)
