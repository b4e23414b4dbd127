import hashlib

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import load, load_file, save

import fljax
from fljax.config.schema import parse_config
from fljax.errors import ConfigError, DataError
from fljax.models import ResNet20
from fljax.report.export import named_arrays
from tests.support.command import command
from tests.support.run_folders import bits

VALUES = {"num_clients": 10, "rounds": 20, "eval_every": 10, "root": {"size": 20}, "checkpoint_every": 10}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return folder, fljax.run(parse_config(VALUES), folder, progress=False)


def test_a_run_comes_back(saved):
    folder, result = saved
    run = fljax.load_run(folder)
    assert run.config == parse_config(VALUES)
    assert (run.round, run.model_state, run.summary) == (20, (), result.summary)
    assert bits(run.params) == bits(result.params)
    assert run.metrics.keys() == result.metrics.keys()
    for name, column in result.metrics.items():
        np.testing.assert_array_equal(run.metrics[name], column)
    test = fljax.experiment.assemble(run.config).dataset
    error = np.mean(np.argmax(run.apply(test.test_x), -1) != test.test_y)
    np.testing.assert_allclose(error, run.summary["test_error"], atol=1e-6)


def test_reading_changes_nothing_and_takes_the_last_state_that_is_whole(saved, tmp_path):
    folder = tmp_path / "copy"
    for path in saved[0].rglob("*"):
        if path.is_file() and path.name != "summary.json":
            (folder / path.relative_to(saved[0])).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(saved[0])).write_bytes(path.read_bytes())
    newest = max((folder / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-40])
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.warns(UserWarning, match="the state is that of round 10"):
        run = fljax.load_run(folder)
    assert (run.round, run.summary) == (10, {})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has no checkpoint yet"):
        fljax.load_run(folder)


def test_what_is_no_run_is_told(saved, tmp_path):
    with pytest.raises(DataError, match=r"holds no run: config.json and metrics.jsonl are missing"):
        fljax.load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"holds no run: metrics.jsonl is missing"):
        fljax.load_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises((ConfigError, DataError), match=r"config.json"):
        fljax.load_run(tmp_path)


class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(7)(x.reshape(len(x), -1))))


@pytest.mark.parametrize("model", [Two(), ResNet20(num_classes=10)], ids=["of its own", "with statistics"])
def test_components_are_given_again(model, tmp_path):
    values = {**VALUES, "num_clients": 4, "rounds": 1, "eval_every": 1, "local": {"batch_size": 2}}
    values["aggregator"] = {"name": "mean"}
    result = fljax.run(parse_config(values), tmp_path / "run", model=model, progress=False)
    run = fljax.load_run(tmp_path / "run", model=model)
    jax.tree.map(np.testing.assert_array_equal, run.params, result.params)
    jax.tree.map(np.testing.assert_array_equal, run.model_state, result.model_state)
    assert run.apply(np.zeros((3, 8, 8, 1), np.float32)).shape == (3, 10)
    path = fljax.export_run(tmp_path / "run", tmp_path / "new" / "model.safetensors", model=model)
    assert [each.name for each in path.parent.iterdir()] == ["model.safetensors"]
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
    arrays = load_file(path)
    digest = hashlib.sha256((tmp_path / "run" / "config.json").read_bytes()).hexdigest()
    assert about == {"round": "1", "config_sha256": digest, "fljax": fljax.__version__}
    wanted = traverse_util.flatten_dict(result.params, sep=".")
    kept = traverse_util.flatten_dict(result.model_state or {}, sep=".")
    assert bool(kept) == isinstance(model, ResNet20)
    wanted |= {f"model_state.{name}": array for name, array in kept.items()}
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        assert arrays[name].tobytes() == np.asarray(array).tobytes()


def test_an_export_is_whole_or_not_there(saved, tmp_path, monkeypatch, capsys):
    call = command(monkeypatch, capsys, "export")
    path = tmp_path / "model.safetensors"
    assert call(saved[0], "--out", path).out == f"written: {path}\n"
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        outcome = call(saved[0], "--out", path)
    assert (outcome.status, outcome.err) == (1, f"fljax: cannot write {path}: No space left on device\n")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]
    for out, said in (("model.npz", "must end in .safetensors"), (tmp_path / "a.safetensors", "is a folder")):
        (tmp_path / "a.safetensors").mkdir(exist_ok=True)
        outcome = call(saved[0], "--out", out)
        assert (outcome.status, outcome.out) == (2, "")
        assert said in outcome.err
    assert "holds no run" in call(tmp_path).err


def test_names_and_the_order_of_bytes():
    turned = np.arange(6.0).reshape(2, 3).T
    named = named_arrays({"a": {"b": turned}, "c": [np.float32(2)]}, "")
    assert list(named) == ["a.b", "c.0"]
    np.testing.assert_array_equal(load(save(named))["a.b"], turned)
    assert load(save(named))["c.0"].shape == ()
    assert list(named_arrays(np.zeros(3), "")) == ["params"]
    with pytest.raises(ConfigError, match=r"two parameters would have the name a\.b"):
        named_arrays({"a": {"b": 1.0}, "a.b": 2.0}, "")
