"""Components of a user: in a file beside a configuration, and in an installed package."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fljax
from fljax.config.loading import load_config
from fljax.config.plugins import load_plugins
from fljax.config.titles import setting_titles
from fljax.data import DATASETS, PARTITIONS
from fljax.errors import ConfigError
from fljax.models import MODELS
from fljax.report import load_results
from fljax.simulation.assembly import check_names
from fljax.sweeps import load_sweep, make_sweep
from tests.support.plugins import ONE_OF_EACH, no_trace

ROOT = Path(__file__).parents[2]
CONFIG = """
rounds = 2
num_clients = 4
eval_every = 2
root = { size = 10 }
data = { name = "two_rings", radius = 3.0 }
partition = { name = "in_order", spare = 2 }
model = { name = "one_layer", scale = 0.5 }
aggregator = { name = "halfway", share = 0.25, pre = [{ name = "signs" }] }
attack = { name = "push", by = 2.0, fraction = 0.25 }
plugins = ["study_parts"]
"""
SWEEP = '\n[sweep]\nseeds = 2\naxes = { "aggregator.share" = [0.25, 0.75] }\n'


@pytest.fixture(autouse=True)
def _no_trace():
    with no_trace():
        yield


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with a configuration, a sweep and their plugin; the current folder is another one."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study_parts.py").write_text(ONE_OF_EACH)
    (folder / "run.toml").write_text(CONFIG)
    (folder / "many.toml").write_text(CONFIG + SWEEP)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def refused(config, overrides=None) -> str:
    with pytest.raises(ConfigError) as error:
        check_names(load_config(config, overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_run_and_its_resumption_find_the_file_beside_the_configuration(study, monkeypatch):
    config = load_config(study / "run.toml")
    result = fljax.run(config, out=study / "out", progress=False)
    assert result.summary["data"]["name"] == "two_rings"
    written = json.loads((study / "out" / "config.json").read_text())
    assert written["plugins"] == [f"{study}/study_parts"]
    # Its configuration alone says where the plugin is; and another folder with the plugin is the same run.
    again = load_config(study / "out" / "config.json")
    assert fljax.run(again, out=study / "out", resume=True, progress=False).summary["rounds"] == 2
    moved = load_config(study / "run.toml", {"plugins": ["/elsewhere/study_parts"]})
    assert fljax.run(moved, out=study / "out", resume=True, progress=False).summary["rounds"] == 2
    with pytest.raises(ConfigError, match=r"another configuration \(plugins: "):
        fljax.run(
            load_config(study / "run.toml", {"plugins": ["study_parts", "fractions"]}),
            out=study / "out",
            resume=True,
            progress=False,
        )


def test_a_sweep_a_report_and_a_resumed_sweep_know_the_names(study):
    table = fljax.sweep(study / "many.toml", study / "out", progress=False)
    assert table["aggregator.share"].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert set(table["group"]) == {0}  # one program: what the signature says may be traced is
    assert set(table["aggregator"]) == {"Signs + Halfway"}
    assert set(table["attack"]) == {"Push"}
    assert table.curve_update_norm[2] != table.curve_update_norm[0]
    about = json.loads((study / "out" / "sweep.json").read_text())
    assert about["config"]["plugins"] == [f"{study}/study_parts"]
    fljax.sweep(study / "many.toml", study / "out", progress=False, resume=True)
    cell = load_config(json.loads(table.config[0]))
    check_names(cell)
    assert cell.plugins == (f"{study}/study_parts",)
    assert load_results(study / "out").config["plugins"] == [f"{study}/study_parts"]


def test_a_report_imports_the_plugin_for_the_titles(study):
    with no_trace():
        fljax.run(load_config(study / "run.toml"), out=study / "out", progress=False)
    with no_trace():
        found = load_results(study / "out")
        assert found.rules == ["Signs + Halfway"]
        assert setting_titles(found.config)["data"] == "Two rings (radius 3.0)"
        assert setting_titles(found.config)["model"] == "One layer (scale 0.5)"
    (study / "study_parts.py").unlink()
    found = load_results(study / "out")  # results are read where their plugin is not
    assert found.rules == ["halfway"]
    assert setting_titles(found.config)["data"] == "two rings (radius 3.0)"


def python(code, *words, **environment) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), environment.pop("path", None))))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_extends_and_overrides_look_beside_their_own_files(study, tmp_path):
    (tmp_path / "other.toml").write_text('extends = "study/run.toml"\nrounds = 4\n')
    config = load_config(tmp_path / "other.toml")
    assert config.plugins == (f"{study}/study_parts",)
    given = load_config(tmp_path / "other.toml", {"plugins": ["study/study_parts", "fractions"]})
    assert given.plugins == (f"{study}/study_parts", "fractions")
    assert load_config({"plugins": ["study_parts"]}).plugins == ("study_parts",)
    load_plugins(given.plugins)
    assert "two_rings" in DATASETS
    assert sys.path[-1] == str(study)


def test_a_package_and_a_module_on_the_path_are_plugins(study, monkeypatch):
    inner = study / "study_package" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("")
    (inner / "parts.py").write_text(ONE_OF_EACH)
    check_names(load_config(study / "run.toml", {"plugins": ["study_package.inner.parts"]}))
    monkeypatch.syspath_prepend(study)
    (study / "study_other.py").write_text(
        "import fljax\n@fljax.register_partition()\ndef study_split(labels, seed, *, num_clients): ..."
    )
    load_plugins(["study_other"])
    assert "study_split" in PARTITIONS


def test_without_plugins_nothing_is_written_and_ids_are_what_they_were():
    base = {"num_clients": 10}
    cells = make_sweep(base, {}).cells
    assert "plugins" not in cells[0].config.resolved()
    assert [cell.id for cell in make_sweep({**base, "plugins": []}, {}).cells] == [cells[0].id]
    given = make_sweep({**base, "plugins": ["fractions"]}, {}).cells
    assert given[0].id != cells[0].id
    # The folder of a plugin decides nothing.
    moved = make_sweep({**base, "plugins": ["/nowhere/fractions"]}, {}).cells
    assert moved[0].id == given[0].id


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "import nothing_like_it",
            "plugin study_wrong cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        (
            "1 +",
            "plugin study_wrong cannot be imported: SyntaxError: invalid syntax (study_wrong.py, line 1)",
        ),
        (
            "raise RuntimeError('first\\nsecond')",
            "plugin study_wrong cannot be imported: RuntimeError: first",
        ),
        ("raise SystemExit(3)", "plugin study_wrong cannot be imported: SystemExit: 3"),
        (
            "import fljax\n@fljax.register_model('mlp')\ndef mine(*, num_classes): ...",
            "plugin study_wrong cannot be imported: ValueError: model 'mlp' is taken by "
            "fljax.models.networks.MLP",
        ),
    ],
)
def test_a_plugin_that_fails_is_named_in_one_sentence(study, text, sentence):
    (study / "study_wrong.py").write_text(text)
    for _ in range(2):  # the second time as the first
        assert refused(study / "run.toml", {"plugins": ["study_wrong"]}) == sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ["study_missing"],
            "plugin study_missing: no such module beside the configuration or on Python's path",
        ),
        (["gone/study_missing"], "plugin study_missing: no such module in {folder}/gone or on Python's path"),
        (
            ["study_parts.py"],
            "plugins.0: must be the name of a module, for example \"my_rules\", got 'study_parts.py'",
        ),
        (["a b"], "plugins.0: must be the name of a module, for example \"my_rules\", got 'a b'"),
        ("study_parts", "plugins: must be a list, got 'study_parts'"),
    ],
)
def test_what_is_no_plugin_is_refused(study, given, sentence):
    assert refused(study / "run.toml", {"plugins": given}) == sentence.format(folder=study)


def test_another_module_of_the_same_name_is_not_taken_for_the_plugin(study):
    (study / "fractions.py").write_text("")
    import fractions

    text = refused(study / "run.toml", {"plugins": ["fractions"]})
    assert text == (
        f"plugin fractions: {study}/fractions.py cannot be imported beside another module of this name, "
        f"{fractions.__file__}"
    )


def test_the_presets_have_the_rules_and_attacks_of_plugins(study):
    base = {"num_clients": 10, "plugins": [f"{study}/study_parts"]}
    sweep = make_sweep(base, {"axes": {"aggregator": "all", "attack": "all"}})
    assert sweep.axes["aggregator"][-1] == "Halfway"
    assert sweep.axes["attack"][-1] == "Push"
    assert (
        "Halfway" not in make_sweep({"num_clients": 10}, {"axes": {"aggregator": "paper"}}).axes["aggregator"]
    )


def test_plugins_are_no_axis(study):
    with pytest.raises(ConfigError, match="plugins are the same in all cells"):
        load_sweep(study / "many.toml", {"sweep.axes": {"plugins": [["fractions"]]}})
    with pytest.raises(ConfigError, match="plugins are the same in all cells"):
        load_sweep(study / "many.toml", {"sweep.include": [{"plugins": ["fractions"]}]})


# --- an installed package -----------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path):
    """A folder like site-packages, with a package that announces a plugin."""
    folder = tmp_path / "site"
    (folder / "study_installed").mkdir(parents=True)
    (folder / "study_installed" / "__init__.py").write_text(ONE_OF_EACH)
    about = folder / "study_installed-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: study-installed\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fljax.plugins]\nstudy = study_installed\n")
    return folder


def test_an_installed_plugin_is_found_by_its_names_and_in_lists(installed, tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG.replace('plugins = ["study_parts"]\n', ""))
    code = textwrap.dedent(
        """
        import sys
        from importlib import metadata
        looked = []
        find = metadata.entry_points
        def spy(**given):
            looked.extend(given["group"] == "fljax.plugins" and [given] or [])
            return find(**given)
        metadata.entry_points = spy
        import fljax, fljax.aggregators, fljax.attacks
        config = fljax.load_config(sys.argv[1])
        from fljax.models import MODELS
        MODELS.find("mlp")
        fljax.register_rule
        assert not looked and "study_installed" not in sys.modules
        from fljax.simulation.assembly import check_names
        check_names(config)
        assert "one_layer" in MODELS
        from rich.console import Console
        from fljax.cli.details import show_list
        show_list(Console(width=200), "partitions", None)
        show_list(Console(width=200), "models", "one_layer")
        assert len(looked) == 1
        """
    )
    shown = python(code, tmp_path / "run.toml", path=str(installed)).stdout
    assert "Examples in the order of the data set." in shown
    assert 'model = { name = "one_layer" }' in shown
    assert "of the inputs" in shown


def test_an_installed_plugin_that_fails_is_named(installed):
    (installed / "study_installed" / "__init__.py").write_text("1 / 0")
    code = (
        "from fljax.models import MODELS\n"
        "for _ in range(2):\n"
        "    try: MODELS.find('one_layer')\n"
        "    except ValueError as error: print(type(error).__name__, error)"
    )
    line = "ConfigError plugin study cannot be imported: ZeroDivisionError: division by zero\n"
    assert python(code, path=str(installed)).stdout == 2 * line


# --- the command line ---------------------------------------------------------------------------------


def test_commands_without_a_configuration_are_told_of_plugins(study, monkeypatch, capsys):
    from fljax.cli.app import main

    monkeypatch.chdir(study)

    def fljax_command(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fljax", *words])
        with pytest.raises(SystemExit) as leave:
            main()
        return leave.value.code or 0, *capsys.readouterr()

    size = ("--n", "5", "--d", "10", "--repeats", "1", "--seconds", "0.01", "--out", "bench")
    status, out, err = fljax_command(
        "bench", "aggregators", "--plugin", "study_parts", "--rule", "halfway", *size
    )
    assert status == 0, err
    assert "halfway" in Path("bench", "results.csv").read_text()
    status, out, _ = fljax_command("list", "rules", "halfway", "--plugin", "study_parts")
    assert "f = 0" in out
    assert "of the way" in out
    assert "study_parts.halfway(updates, weights=None, *, share=0.5)" in out
    status, out, _ = fljax_command("list", "models", "one_layer", "--plugin", "study_parts")
    assert status == 0
    assert "One layer" in out
    assert "of the inputs" in out
    status, _, err = fljax_command("list", "--plugin", "study_missing")
    assert status == 2
    assert err.startswith("fljax: plugin study_missing: no such module")
    status, _, err = fljax_command("list", "--plugin", "study parts")
    assert err == "fljax: --plugin 'study parts' must be the name of a module, for example my_rules\n"
    monkeypatch.setenv("_FLJAX_COMPLETE", "complete_bash")
    words = "fljax list models --plugin study_parts one"
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert fljax_command()[1].split() == ["one_layer"]
    assert "one_layer" in MODELS
    assert "in_order" in PARTITIONS
