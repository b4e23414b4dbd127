"""Dotted keys, in plain values and in parsed ones."""

import copy

import pytest

from fljax.config import keys
from fljax.config.schema import parse_config
from fljax.errors import ConfigError

VALUES = {
    "rounds": 10,
    "local": {"steps": 2, "optimizer": {"name": "sgd"}},
    "aggregator": {"name": "mean", "pre": [{"name": "clip", "radius": 2.0}]},
}


def test_what_is_put_is_got_and_what_is_deleted_is_gone():
    values = copy.deepcopy(VALUES)
    for key in ("rounds", "local.steps", "aggregator.pre.0.radius", "attack.schedule.name"):
        keys.put(values, key, "new")
        assert keys.get(values, key) == "new"
        keys.delete(values, key)
        assert keys.get(values, key, "none") == "none"
    assert values["local"] == {"optimizer": {"name": "sgd"}}
    keys.delete(values, "nothing.here")
    keys.delete(values, "rounds.deeper")


@pytest.mark.parametrize(
    "key", ["aggregator.pre.1.radius", "aggregator.pre.x", "rounds.steps", "nothing.at.all"]
)
def test_a_key_that_is_not_there_has_the_default(key):
    assert keys.get(VALUES, key) is None
    assert keys.get(VALUES, key, 7) == 7


def test_parsed_tables_are_read_like_plain_ones():
    config = parse_config({"num_clients": 4, **VALUES})
    for key, value in keys.flatten(VALUES).items():
        if key != "aggregator.pre":
            assert keys.get(config, key) == value
    assert keys.get(config, "aggregator.pre.0.radius") == 2.0
    assert keys.get(config, "aggregator.pre.1.radius") is None
    assert keys.get(config, "") is config


def test_flat_values_are_the_nested_ones():
    values = {}
    for key, value in keys.flatten(VALUES).items():
        keys.put(values, key, value)
    assert values == VALUES


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("local..steps", "'local..steps' is not a dotted key, for example local.steps"),
        ("rounds.steps", "rounds.steps: rounds is not a table"),
        ("aggregator.pre.3.radius", "aggregator.pre.3.radius: 3 must be below 1, the list's length"),
        ("aggregator.pre.0", "aggregator.pre.0: pre is not a table"),
        ("a." * 40 + "b", f"{('a.' * 40)[:40]}…: a key has at most 32 parts, got 41"),
    ],
)
def test_a_key_that_leads_nowhere_is_refused(key, sentence):
    with pytest.raises(ConfigError) as error:
        keys.put(copy.deepcopy(VALUES), key, 1)
    assert str(error.value) == sentence
