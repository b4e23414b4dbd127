import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.main import get_command

import fljax
from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS, Task
from fljax.cli.app import app
from fljax.cli.completion import registered
from fljax.cli.details import config_line
from fljax.cli.listing import KINDS, list_table
from fljax.config.components import (
    bind_attack,
    bind_rule,
    dataset_options,
    make_aggregator,
    make_attack,
    make_model,
    partition_options,
)
from fljax.config.schema import parse_config
from fljax.data import DATASETS, PARTITIONS, Format
from fljax.engine.evaluate import Evaluation
from fljax.engine.loop import Record
from fljax.engine.round import RoundMetrics
from fljax.models import MODELS
from fljax.simulation.progress import RunDisplay, duration
from tests.support.command import Outcome, command
from tests.support.plugins import no_trace

pytestmark = pytest.mark.usefixtures("shared_experiments")

TINY = """
rounds = 4
eval_every = 2
num_clients = 5
root = { size = 20 }
data = { name = "synthetic", num_train = 200, num_test = 50 }
model = { name = "logistic_regression" }
aggregator = { name = "median" }
"""

SWEEP = (
    TINY.replace('aggregator = { name = "median" }\n', "")
    + """
[sweep]
seeds = 2
include = [{ aggregator = "mean", attack = "none" }]
[sweep.axes]
aggregator = ["mean", { name = "median" }]
attack = [{ name = "sign_flip", fraction = 0.2, factor = 1000 }]
"""
)

ROOT = Path(fljax.__file__).parents[1]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x9b]")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """The command line in an empty folder that holds tiny.toml and many.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "many.toml").write_text(SWEEP)
    return command(monkeypatch, capsys)


def assert_refused(outcome: Outcome, *fragments: str) -> None:
    assert outcome.status == 2, outcome
    assert re.fullmatch(r"fljax: [^\n]+\n", outcome.err), f"not one sentence: {outcome.err!r}"
    for fragment in fragments:
        assert fragment in outcome.err


def assert_nothing_new(folder: Path, *more: str) -> None:
    assert {path.name for path in folder.iterdir()} == {"tiny.toml", "many.toml", *more}


# --- end to end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"), [(["--version"], 0), (["run", "tiny.toml", "--set", "rounds=3"], 2)]
)
def test_exit_status_of_the_process(tmp_path, words, status):
    (tmp_path / "tiny.toml").write_text(TINY)
    root = str(Path(fljax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "fljax", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    if status:
        assert done.stdout == ""
        assert done.stderr == "fljax: rounds=3 must be a multiple of eval_every=2: 2 or 4\n"
    else:
        assert done.stdout == f"fljax {fljax.__version__}\n"
        assert done.stderr == ""


def test_run_writes_its_folder_and_says_what_it_did(cli, tmp_path):
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "old.txt").write_text("of another run")
    outcome = cli("run", "tiny.toml", "--set", 'attack={name = "sign_flip", fraction = 0.4}')
    assert outcome.status == 0
    assert outcome.err == ""
    folder = tmp_path / "runs" / "tiny-2"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
        "curves.png",
    }
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == ["old.txt"]
    summary = json.loads((folder / "summary.json").read_text())
    text = outcome.out
    assert "5 clients (2 malicious), 210 parameters, 4 rounds on cpu" in text
    assert f"{summary['test_error']:.4f}" in text
    assert "no trigger" in text
    assert "rounds/s" in text
    assert "runs/tiny-2" in text
    assert not CONTROL.search(text)
    # Nothing is overwritten by accident, and nothing is touched.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert_refused(cli("run", "tiny.toml", "--out", "runs/tiny-2"), "runs/tiny-2", "--resume")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "settings",
    [
        ["cohort_size=1", 'attack={name = "trim_attack", fraction = 1.0}'],
        ["num_clients=1", "eval_every=1", "rounds=1", "root.size=1", "aggregator.name=fltrust"],
        ["local.batch_size=1000", "local.steps=3", 'attack={name = "scaling_attack", fraction = 0.0}'],
        ['local.batch_size="full"', "client_chunk=2", 'attack={name = "label_flip", fraction = 0.5}'],
    ],
    ids=" ".join,
)
def test_odd_but_possible_settings_run(cli, tmp_path, settings):
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = cli("run", "tiny.toml", "--out", "ü/[red] folder", *words)
    assert outcome.status == 0, outcome.err
    assert "ü/[red] folder" in outcome.out
    summary = json.loads((tmp_path / "ü" / "[red] folder" / "summary.json").read_text())
    assert summary["rounds"] == (1 if "rounds=1" in settings else 4)
    assert not summary["diverged"]
    assert 0 <= summary["test_error"] <= 1


def test_a_diverging_run_is_not_a_failure(cli, tmp_path):
    (tmp_path / "wild.toml").write_text(
        TINY.replace("logistic_regression", "mlp")
        .replace("median", "mean")
        .replace("rounds = 4", "rounds = 40")
        + 'local = { learning_rate = 10.0 }\nattack = { name = "sign_flip", factor = 1000, fraction = 0.4 }\n'
    )
    outcome = cli("run", "wild.toml", "--out", "wild")
    assert outcome.status == 0
    assert re.search(r"diverged\W+yes", outcome.out)
    summary = json.loads((tmp_path / "wild" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["diverged"] is True
    assert summary["rounds"] < 40
    assert (tmp_path / "wild" / "curves.png").exists()


def test_a_run_starts_again_from_its_own_configuration(cli, tmp_path):
    assert cli("run", "tiny.toml", "--out", "runs/demo").status == 0
    assert cli("run", "runs/demo/config.json", "--set", "rounds=2").status == 0
    before, after = (
        json.loads((tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("demo", "demo-2")
    )
    assert after["round"] == 2
    assert after["test_error"] == before["test_error"]
    assert_refused(cli("run", "runs/demo"), "runs/demo/config.json")
    assert_refused(cli("run", "runs/demo/summary.json"), "unknown key")


# --- interruption ------------------------------------------------------------------------------------


def _resume_command(text: str) -> list[str]:
    """The words after `fljax` in the line that says how to go on."""
    lines = [line for line in text.splitlines() if "fljax run" in line]
    assert len(lines) == 1, text
    words = shlex.split(lines[0].partition("fljax ")[2])
    assert "--resume" in words, f"cut off: {lines[0]!r}"
    return words


@pytest.mark.parametrize(
    ("out", "settings"),
    [
        ("demo", []),
        ("demo", ["--set", "seed=3", "--set", 'aggregator={name = "trimmed_mean", trim = 1}']),
        ("my [red] runs/" + "a long name for one " * 8 + "run", []),
    ],
    ids=["plain", "overrides", "odd folder"],
)
def test_the_command_an_interrupted_run_suggests_finishes_it(cli, tmp_path, monkeypatch, out, settings):
    shown = RunDisplay.__call__

    def interrupt(self, record):
        shown(self, record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunDisplay, "__call__", interrupt)
        outcome = cli("run", "tiny.toml", "--out", out, *settings)
    assert outcome.status == 130
    assert "Traceback" not in outcome.err
    assert not (tmp_path / out / "summary.json").exists()
    # The suggestion, as it would be copied from the terminal, has to name this folder and this run.
    suggested = _resume_command(outcome.out + outcome.err)
    assert out in suggested
    seen = []

    def run_experiment(experiment, folder, *, resume, **_):
        from fljax.simulation.run_folder import RunFolder

        seen.append((folder, resume))
        RunFolder(folder, experiment.config.resolved(), resume).close()
        raise fljax.ConfigError("the same run")

    monkeypatch.setattr("fljax.simulation.experiment.run_experiment", run_experiment)
    assert_refused(cli(*suggested), "the same run")
    assert seen == [(Path(out), True)]


# --- wrong input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.toml", None),
        (".", None),
        ("tiny.toml/below", None),
        ("x" * 300, None),
        ("broken.toml", b"rounds = = 3\n"),
        ("twice.toml", b"rounds = 3\nrounds = 4\n"),
        ("values.json", b'{"rounds": 3\n'),
        ("binary.toml", b"\xff\xfe\x00"),
        ("date.toml", b"rounds = 2020-01-01\n"),
        ("empty.toml", b""),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_configuration_that_cannot_be_read(cli, tmp_path, command, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    named = {"date.toml": "rounds", "empty.toml": "num_clients"} if command == "run" else {"date.toml": ""}
    assert_refused(cli(command, name, "--out", "out"), named.get(name, name))
    assert_nothing_new(tmp_path, *([] if content is None else [name]))


@pytest.mark.parametrize("command", [["run", "tiny.toml"], ["sweep", "many.toml"]], ids=["run", "sweep"])
@pytest.mark.parametrize("out", ["tiny.toml", "tiny.toml/below", "taken"])
def test_an_output_folder_that_cannot_be_used_is_found_before_anything_runs(
    cli, tmp_path, monkeypatch, command, out
):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    monkeypatch.setattr("fljax.simulation.experiment.compile_program", lambda *_: pytest.fail("it ran"))
    assert_refused(cli(*command, "--out", out), out)
    assert_nothing_new(tmp_path, "taken")
    assert (tmp_path / "tiny.toml").read_text() == TINY
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_resume_needs_a_folder_with_a_run(cli, tmp_path):
    assert_refused(cli("run", "tiny.toml", "--resume"), "--out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert_refused(cli("run", "tiny.toml", "--resume", "--out", "other"), "other", "no run to resume")


def test_a_table_whose_quotes_the_shell_took_says_so(cli, tmp_path):
    for setting in ("attack={name=alie}", "aggregator.pre=[{name=clip}]", "aggregator={name='krum'"):
        assert_refused(cli("run", "tiny.toml", "--set", setting), "not valid TOML", "quote it as a whole")
    assert_nothing_new(tmp_path)


def test_resume_where_nothing_is_yet_says_that_it_starts_anew(cli):
    new = cli("run", "tiny.toml", "--out", "new", "--resume")
    assert "note: new holds no run yet" in new.out
    again = cli("run", "tiny.toml", "--out", "new", "--resume")
    assert (new.status, again.status) == (0, 0)
    assert "no run yet" not in again.out


@pytest.mark.parametrize(
    "words", [["lst"], ["run"], ["run", "tiny.toml", "--foo"], ["list", "rules", "krum", "more"]]
)
def test_wrong_usage_has_status_2(cli, words):
    outcome = cli(*words)
    assert outcome.status == 2
    assert "Usage" in outcome.err
    assert "Traceback" not in outcome.err


# --- lists and help ----------------------------------------------------------------------------------

COMMANDS = [
    *("run", "sweep", "report", "data", "bench", "list", "cache"),
    *("watch", "compare", "export", "init", "doctor"),
]
REGISTRIES = {
    "rules": [*RULES, *PRE_AGGREGATORS, *POST_AGGREGATORS],
    "attacks": [*ATTACKS, "none"],
    "datasets": DATASETS,
    "models": MODELS,
    "partitions": PARTITIONS,
}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_list_shows_every_name_and_its_parameters(cli, kind):
    outcome = cli("list", kind)
    assert outcome.status == 0
    for name in REGISTRIES[kind]:
        assert re.search(rf"\b{name}\b", outcome.out), name
    parameters = {
        "rules": ["num_malicious", "trim", "radius", "clip_negative=True"],
        "attacks": ["factor", "stretch=2.0"],
        "datasets": ["num_train=2000", "separation=4.0"],
        "models": ["hidden=(64,)"],
        "partitions": ["bias=0.5", "alpha=0.5", "per='class'", "min_size=1", "gamma=0.5"],
    }
    for parameter in parameters[kind]:
        assert parameter in outcome.out, parameter
    assert not CONTROL.search(outcome.out)


def printed(table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_whole_on_terminals_of_any_width(kind):
    rows = [
        [entry.name, entry.summary, *entry.parameters, *entry.facts.values()]
        for entry in KINDS[kind].entries()
    ]
    for width in (60, 80, 100, 140):
        text = printed(list_table(kind), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        words = set(re.findall(r"[^\s│]+", text))
        for word in " ".join(cell for row in rows for cell in row).split():
            assert any(word in shown for shown in words), (width, word)


def test_list_without_a_kind_shows_all(cli):
    text = cli("list").out
    assert all(
        re.search(rf"\b{name}\b", text) for name in [*RULES, *ATTACKS, *DATASETS, *MODELS, *PARTITIONS]
    )


def test_an_unknown_list_names_the_nearest(cli):
    assert_refused(cli("list", "rulez"), "'rulez'", "did you mean 'rules'", "partitions")


def test_a_name_of_a_list_is_shown_in_full(cli):
    text = cli("list", "rules", "krum").out
    for shown in (
        "argmin_i s_i",  # the formula
        'aggregator = { name = "krum", num_malicious = 4 }',
        "how many neighbours count instead of n − f − 2",  # the meaning of a parameter
        "required",
        '"actual"',
        "n > 2f + 2",
        "Blanchard et al. 2017",
        "fedlib squares the distances twice",
        "fljax.aggregators.krum(updates, *, num_malicious, power=2, num_neighbors=None",
        "pre-aggregators in order",
    ):
        assert shown in text
    assert not CONTROL.search(text)
    assert_refused(cli("list", "rules", "krm"), "'krm'", "did you mean 'krum'")
    assert_refused(cli("list", "krum"), "fljax list rules krum")


def test_a_rule_of_few_words_is_shown_too(cli, tmp_path):
    """No parentheses, types, docstring; what somebody tries first."""
    (tmp_path / "study_few.py").write_text(
        "import fljax\n\n@fljax.register_rule\ndef few_words(updates, *, share, of=len, more: dict = None):\n"
        "    return share * updates.mean(0)\n"
    )
    with no_trace():
        text = cli("list", "rules", "few_words", "--plugin", "study_few").out
    assert 'aggregator = { name = "few_words", share = ... }' in text
    assert re.search(r"share *│ value *│ required", text)
    assert re.search(r"more *│ value *│ None", text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_has_a_line_of_a_configuration_and_a_meaning_for_every_parameter(cli, kind, tmp_path):
    numbers = np.arange(400.0)
    np.savez(tmp_path / "mine.npz", train_x=numbers[:, None], train_y=numbers.astype(int) % 10)
    base = {"num_clients": 20, "root": {"size": 20}, "data": {"name": "synthetic", "num_train": 400}}
    for entry in KINDS[kind].entries():
        text = cli("list", kind, entry.name).out
        line = config_line(entry)
        assert line in text
        for name in entry.parameters:
            row = re.search(rf"│ {name} +│[^│]+│[^│]+│ *([^\s│]?)", text)
            assert row[1], f"{entry.name}: nobody says what {name} is"
        config = parse_config({**base, **tomllib.loads(line)})
        if kind == "datasets":
            dataset_options(config.data)
        elif kind == "models":
            make_model(config.model, Format((8,), 5, (), 10))
        else:
            partition_options(config.partition)
            make_aggregator(bind_rule(config.aggregator))
            make_attack(bind_attack(config.attack), Task(10, 4, (8, 8, 1), lambda key: np.zeros(3)))


def test_a_log_is_as_wide_as_columns_says(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, cli("list", "rules").out.splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert 120 < max(map(len, cli("list", "rules").out.splitlines())) <= 140


def imported(code, heavy):
    """Those of some packages that a process has loaded after this code."""
    code += f"\nimport sys; print(sorted({heavy!r} & {{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_command_line_answers_without_importing_jax():
    # Completion calls it at every press of a key.
    heavy = {
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "numpy",
        "pydantic",
        "pandas",
        "matplotlib",
        "sklearn",
        "scipy",
    }
    assert imported("import fljax.cli.app", heavy) == "[]\n"


def test_a_run_begins_without_what_reads_tables_and_plots():
    code = "import fljax.simulation.experiment, fljax.simulation.progress, fljax.config.titles, fljax.data"
    code += "; fljax.data.load('digits')"
    assert imported(code, {"pandas", "pyarrow", "matplotlib", "sklearn", "tensorflow_datasets"}) == "[]\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("fljax ", COMMANDS),
        ("fljax l", ["list"]),
        ("fljax list ", list(KINDS)),
        ("fljax list p", ["partitions"]),
        ("fljax list rules kr", ["krum"]),
        ("fljax list models ", list(MODELS)),
        ("fljax list nothing ", []),
        ("fljax bench aggregators --rule nn", ["nnm"]),
        ("fljax init x.toml --attack tri", ["trim_attack"]),
        ("fljax init x.toml --data dig", ["digits"]),
        ("fljax report runs/x --format pn", ["png"]),
        ("fljax report runs/x --published table3_u", ["table3_uci_har"]),
        ("fljax sweep x.toml --executor r", ["ray"]),
        ("fljax run ti", []),  # files are the shell's own business
    ],
)
def test_the_shell_completes_commands_and_names(cli, monkeypatch, words, offered):
    monkeypatch.setenv("_FLJAX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    outcome = cli()
    assert outcome.err == ""
    assert sorted(outcome.out.split()) == sorted(offered)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_completed_without_importing_what_registers_them(kind):
    assert registered(kind) == sorted(entry.name for entry in KINDS[kind].entries())
    code = f"from fljax.cli.completion import registered; registered({kind!r})"
    assert imported(code, {"jax", "numpy"}) == "[]\n"


def commands(group, path=()):
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))
        else:
            yield [*path, name], each


@pytest.mark.parametrize(
    ("words", "one"), list(commands(get_command(app))), ids=lambda value: str(value)[:30]
)
def test_help_has_examples_that_could_be_typed(cli, words, one):
    text = cli(*words, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert lines
    for line in lines:
        typed = shlex.split(line)
        assert typed[: len(words) + 1] == ["fljax", *words]
        given = typed[len(words) + 1 :]
        one.make_context(words[-1], given)  # an option that is not there is an error
        assert all((ROOT / word).exists() for word in given if word.startswith("configs/"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(cli, monkeypatch, tmp_path, shell):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    (tmp_path / "home").mkdir()
    outcome = cli("--install-completion", shell)
    assert outcome.status == 0, outcome
    written = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert any("_FLJAX_COMPLETE=complete_" + shell in text for text in written)


def test_version_and_help(cli):
    assert cli("--version") == Outcome(0, f"fljax {fljax.__version__}\n", "")
    outcome = cli("--help")
    assert outcome.status == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", outcome.out)
    assert all(command in text for command in ("run", "sweep", "data", "list"))
    assert "[sweep]" in text, "the name of the table is taken for markup"


# --- sweep -------------------------------------------------------------------------------------------


def test_sweep_writes_the_right_cells(cli, tmp_path):
    outcome = cli("sweep", "many.toml", "--out", "table", "--csv")
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "table"
    assert {path.name for path in folder.iterdir()} == {
        *("sweep.json", "results.parquet", "results.csv", "report"),
    }
    results = pd.read_parquet(folder / "results.parquet")
    assert results[["aggregator", "attack", "seed"]].values.tolist() == [
        [rule, attack, seed]
        for rule, attack in (
            ("FedAvg", "Sign flipping ×1000"),
            ("Median", "Sign flipping ×1000"),
            ("FedAvg", "no attack"),
        )
        for seed in (0, 1)
    ]
    assert all(list(curve) == [2, 4] for curve in results.curve_round)
    error = results.set_index(["aggregator", "attack", "seed"]).test_error
    assert error["Median"].mean() < error["FedAvg", "Sign flipping ×1000"].mean()
    assert results.attack_success_rate.isna().all()
    # A cell is the run one would start by hand.
    config = fljax.load_config(
        "tiny.toml", {"attack": {"name": "sign_flip", "fraction": 0.2, "factor": 1000}, "seed": 1}
    )
    np.testing.assert_allclose(
        fljax.run(config).metrics["test_error"], results.curve_test_error[3], atol=1e-7
    )
    text = (folder / "report" / "table.md").read_text()
    assert "Sign flipping ×1000" in text
    assert "6/6" in outcome.out
    assert not CONTROL.search(outcome.out)


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ('{ name = "median" }', '{ name = "medain" }', ["'medain'", "did you mean 'median'"]),
        (
            '{ name = "median" }',
            '"krum"',
            ["krum", "num_malicious", "required", "in the cell aggregator=Krum"],
        ),
        ('{ name = "median" }', '{ name = "krum", num_malicious = 4 }', ["num_malicious=4", "n=5"]),
        ('{ name = "median" }', "3", ["sweep.axes.aggregator", "3"]),
        ("factor = 1000", "factr = 1000", ["'factr'", "did you mean 'factor'"]),
        ("fraction = 0.2", "fraction = 2", ["attack.fraction", "2"]),
        ("fraction = 0.2", 'fraction = "0.2"', ["attack.fraction", "0.2"]),
        ('"sign_flip", fraction = 0.2, factor = 1000', '"scaling_attack", every = 99', ["every=99"]),
        ("seeds = 2", "seeds = 0", ["sweep.seeds", "greater than 0"]),
        ("seeds = 2", "seed = 2", ["sweep", "'seed'", "did you mean 'seeds'"]),
        ("rounds = 4", "roundz = 4", ["'roundz'", "did you mean 'rounds'"]),
    ],
)
def test_a_bad_cell_is_reported_before_any_cell_runs(cli, tmp_path, monkeypatch, old, new, fragments):
    monkeypatch.setattr(
        "fljax.sweeps.executors.base.compile_group", lambda *_: pytest.fail("a cell was compiled")
    )
    assert SWEEP.count(old) == 1
    (tmp_path / "many.toml").write_text(SWEEP.replace(old, new))
    assert_refused(cli("sweep", "many.toml", "--out", "table"), *fragments)
    assert_nothing_new(tmp_path)


def test_a_file_goes_to_the_command_that_can_run_it(cli, tmp_path):
    assert_refused(cli("run", "many.toml"), "fljax sweep")
    assert_refused(cli("sweep", "tiny.toml"), "fljax run")
    assert_nothing_new(tmp_path)


# --- progress ----------------------------------------------------------------------------------------


def record(done: int, error: float = 0.25, success: float = math.nan, **curves) -> Record:
    values = dict.fromkeys(RoundMetrics._fields, np.full(2, np.nan)) | {"finite": np.ones(2)} | curves
    return Record(None, done, Evaluation(error, success), RoundMetrics(**values), 0.5)


def display(terminal: bool, *records: Record, rounds: int = 14) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=160, _environ={})
    with RunDisplay(console, rounds) as shown:
        for each in records:
            shown(each)
    return file.getvalue()


def test_a_terminal_shows_speed_error_and_time_left():
    text = display(True, record(2))
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text)
    # Two rounds in half a second, twelve to go.
    for shown in ("2/14", "test error 0.250", "4 rounds/s", "3 s left"):
        assert shown in plain
    assert "attack success" not in plain


def test_other_outputs_get_plain_lines():
    text = display(False, record(2), record(4), record(14, error=0.125, success=0.5))
    assert not CONTROL.search(text)
    lines = text.splitlines()
    # The second record comes within seconds of the first; the last one is always shown.
    assert [line.split()[1] for line in lines[-2:]] == ["2/14", "14/14"]
    assert "test error 0.250  4 rounds/s  3 s left" in lines[-2]
    assert "test error 0.125  attack success 0.500  4 rounds/s" in lines[-1]
    assert "left" not in lines[-1]
    assert len(lines) == 3


def test_divergence_and_trust_are_shown():
    trust = {"trust_benign": np.array([0.1, 0.75]), "trust_malicious": np.array([0.1, 0.0])}
    text = display(False, record(4, **trust, finite=np.array([1.0, 0.0])))
    assert "diverged" in text
    assert "left" not in text
    assert re.search(r"trust benign 0\.75\s+malicious 0\.00", text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.4, "59 min 59 s"), (3600, "1 h 0 min")],
)
def test_duration(seconds, shown):
    assert duration(seconds) == shown
