"""`fljax doctor`: plain facts, whatever is missing."""

import re
import tomllib
from pathlib import Path

import jax
import pytest

import fljax
from fljax.cli import doctor
from tests.support.command import command

ROOT = Path(fljax.__file__).parents[1]


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FLJAX_CACHE", str(tmp_path / "programs"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return command(monkeypatch, capsys, "doctor")


def test_it_says_what_is_there(cli, tmp_path, monkeypatch):
    for name in ("mnist", "uci_har", "letters of mine"):
        (tmp_path / "data" / name).mkdir(parents=True)
    monkeypatch.setenv("FLJAX_DATA", str(tmp_path / "data"))
    outcome = cli()
    assert (outcome.status, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    assert f"jax {jax.__version__}" in text
    assert "2 × cpu: cpu" in text
    assert "data:mnist,uci_har" in "".join(text.split())
    assert "letters of mine" not in text
    assert "no such folder" in text  # TensorFlow Datasets
    assert re.search(r"0, 0\.0 MB, in", text)
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_what_is_missing_is_a_fact(cli, monkeypatch):
    def broken():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "devices", broken)
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    monkeypatch.setenv("FLJAX_CACHE", "off")
    outcome = cli()
    assert outcome.status == 0
    text = " ".join(outcome.out.split())
    assert "JAX cannot use any: Unable to initialize backend 'cuda'" in text
    assert "numpy missing" in text
    assert '"fljax[ray]"' in text
    assert "not kept (FLJAX_CACHE)" in text
    assert "FLJAX_DATA not set" in text


def test_a_folder_that_cannot_be_read_is_a_fact(cli, monkeypatch, tmp_path):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FLJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Path, "iterdir", refused)
    outcome = cli()
    assert (outcome.status, outcome.err) == (0, "")
    assert "cannot be read (Permission denied)" in " ".join(outcome.out.split())


def test_every_extra_of_the_package_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert doctor.EXTRAS.keys() == extras.keys()
    for name, extra in doctor.EXTRAS.items():
        if name != "cuda":  # an extra of jax, whose packages are its own
            asked = {re.split(r"[\[<>=!~ ]", text)[0] for text in extras[name]}
            assert set(extra.packages) <= asked, name
