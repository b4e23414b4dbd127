"""The table in CONTRIBUTING.md, "to add X, touch Y", is true."""

import re
from pathlib import Path

import pytest

import fljax
from fljax.simulation.experiment import assemble
from tests.support.plugins import ONE_OF_EACH, REGISTRIES, no_trace

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (an? [^|]+) \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
# None for a metric of a round and an executor, which no decorator adds.
DECORATORS = {kind: re.findall(r"@(register_\w+)", write) for kind, write, _ in ROWS}


def test_every_decorator_of_the_library_is_in_the_table():
    given = {name for names in DECORATORS.values() for name in names}
    assert given == {name for name in fljax.__all__ if name.startswith("register_")}
    assert len(given) == len(REGISTRIES)


@pytest.mark.parametrize(("kind", "write", "beside"), ROWS)
def test_the_places_in_the_table_are_there(kind, write, beside):
    paths = re.findall(r"`((?:fljax|tests)/[^`]*)`", f"{write} {beside}")
    assert paths
    for path in paths:
        place = ROOT / (path.partition("/_NAME")[0])
        assert place.exists(), f"{kind}: {path}"


@pytest.mark.parametrize("name", sorted(name for names in DECORATORS.values() for name in names))
def test_a_decorator_may_stand_without_parentheses(name):
    def study_bare(outputs, labels):
        """It is registered, not called."""

    with no_trace():
        getattr(fljax, name)(study_bare)
        assert sum("study_bare" in registry for registry in REGISTRIES) == 1
    assert not any("study_bare" in registry for registry in REGISTRIES)


def test_one_of_each_is_added_by_its_decorator_alone(tmp_path):
    """A file with nothing but what the table says; the library is as it was."""
    (tmp_path / "study_one_of_each.py").write_text(ONE_OF_EACH)
    (tmp_path / "run.toml").write_text(
        """
        rounds = 1
        eval_every = 1
        num_clients = 4
        root = { size = 10 }
        plugins = ["study_one_of_each"]
        data = { name = "two_rings" }
        partition = { name = "in_order" }
        model = { name = "one_layer" }
        local = { augment = [{ name = "brighter" }] }
        client = { name = "shorter", share = 0.25 }
        aggregator = { name = "halfway", pre = [{ name = "signs" }], post = [{ name = "halved" }] }
        attack = { name = "push", fraction = 0.25 }
        loss = { name = "hinge" }
        metrics = ["largest_loss"]
        """
    )
    for decorators in DECORATORS.values():
        assert all(f"@fljax.{name}(" in ONE_OF_EACH for name in decorators)
    with no_trace():
        before = [set(registry) for registry in REGISTRIES]
        experiment = assemble(fljax.load_config(tmp_path / "run.toml"))
        assert experiment.facts["data"]["name"] == "two_rings"
        added = [set(registry) - known for registry, known in zip(REGISTRIES, before, strict=True)]
        assert [len(names) for names in added] == [1] * len(REGISTRIES)
