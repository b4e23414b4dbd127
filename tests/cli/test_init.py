"""`fljax init`: files that are valid and run, questions, and what is refused."""

import json
import re
import tomllib

import pytest

import fljax
from fljax.cli import init
from fljax.cli.init import STARTS, Wishes, configuration
from fljax.cli.listing import KINDS
from fljax.errors import ConfigError
from tests.support.command import command

pytestmark = pytest.mark.usefixtures("shared_experiments")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return command(monkeypatch, capsys)


def test_what_it_writes_runs(cli, tmp_path):
    outcome = cli("init", "new/mine.toml", "--rounds", "4", "--clients", "5", "--rule", "trimmed_mean")
    assert (outcome.status, outcome.err) == (0, "")
    assert "fljax run new/mine.toml" in outcome.out
    text = (tmp_path / "new" / "mine.toml").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert tomllib.loads(text)["aggregator"] == {"name": "trimmed_mean", "trim": "actual"}
    assert cli("run", "new/mine.toml", "--out", "run").status == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rounds"], summary["diverged"]) == (4, False)


def test_several_names_make_a_sweep(cli, tmp_path):
    words = ["--rule", "krum", "--rule", "nnm", "--attack", "alie", "--attack", "none", "--seeds", "3"]
    assert "fljax sweep many.toml" in cli("init", "many.toml", *words).out
    values = tomllib.loads((tmp_path / "many.toml").read_text(encoding="utf-8"))
    assert values["sweep"]["seeds"] == 3
    assert [each["name"] for each in values["sweep"]["axes"]["attack"]] == ["alie", "none"]
    assert values["attack"] == {"name": "none", "fraction": 0.2}
    outcome = cli("sweep", "many.toml", "--dry-run")
    assert outcome.status == 0
    assert "12 cells" in outcome.out


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(("rules", "rules"), ("attacks", "attacks"), ("datasets", "data")),
        *(("models", "model"), ("partitions", "partition")),
    ],
)
def test_every_name_makes_a_valid_file(kind, key, tmp_path):
    for entry in KINDS[kind].entries():
        wish = (entry.name,) if key in ("rules", "attacks") else entry.name
        path = tmp_path / "x.toml"
        path.write_text(configuration("x.toml", Wishes(**{key: wish})), encoding="utf-8")
        config = fljax.load_config(path)
        part = {"rules": config.aggregator, "attacks": config.attack}.get(kind) or getattr(config, key)
        names = [part.name, *(each.name for each in (*getattr(part, "pre", ()), *getattr(part, "post", ())))]
        assert entry.name in names


def test_starts_are_names_of_the_registries():
    known = {kind: {entry.name for entry in KINDS[kind].entries()} for kind in KINDS}
    assert STARTS.keys() <= known["datasets"]
    for start in STARTS.values():
        assert start.model in known["models"]
        assert start.partition in known["partitions"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.txt"], "'mine.txt' must end in .toml"),
        (["there.toml"], "there.toml is there already"),
        (["there.toml/x.toml"], "cannot make the folder of there.toml/x.toml"),
        (["new.toml", "--rule", "krm"], "did you mean 'krum'"),
        (["new.toml", "--data", "digit"], "did you mean 'digits'"),
        (["new.toml", "--fraction", "2"], "attack.fraction"),
        (["new.toml", "--fraction", "nan"], "attack.fraction"),
        (["new.toml", "--rounds", "0"], "rounds"),
        (["new.toml", "--rounds", f"{10**18}"], "rounds"),
        (["new.toml", "--rounds", f"{10**20}"], "more than 64 bits"),
        (["new.toml", "--seeds", "0"], "sweep.seeds"),
        (["new.toml", "--seeds", f"{10**8}"], "sweep.seeds"),
        (["new.toml", "--rule", "krum", "--rule", "krum"], "is listed twice"),
        (["new.toml", "--data", "uci_har", "--clients", "4"], "--clients does not go with"),
    ],
)
def test_what_is_refused_writes_nothing(cli, tmp_path, words, said):
    (tmp_path / "there.toml").write_text("mine")
    outcome = cli("init", *words)
    assert outcome.status == 2
    assert re.fullmatch(r"fljax: [^\n]+\n", outcome.err)
    assert said in outcome.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_questions_are_asked_until_they_are_answered(monkeypatch, capsys):
    answers = iter(["digitz", "digits", "median", "alie", "many", "8", "1.5", "0.25", "20"])
    monkeypatch.setattr(init.typer, "prompt", lambda what, default: next(answers))
    wishes = init.asked()
    assert wishes == Wishes("digits", None, None, ("median",), ("alie",), 8, 0.25, 20)
    said = capsys.readouterr().out
    assert "did you mean 'digits'" in said
    assert "'many' must be a whole number above 0" in said
    assert "'1.5' must be a share from 0 to 1" in said
    with pytest.raises(ConfigError, match="'x' must be a share"):
        init.share("x")


def test_without_a_terminal_nothing_is_asked(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(init, "asked", lambda: pytest.fail("it asked"))
    assert cli("init", "mine.toml").status == 0
    assert tomllib.loads((tmp_path / "mine.toml").read_text(encoding="utf-8"))["rounds"] == 500
