"""What README.md and the pages of docs/ show is what the library does."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

from fljax.cli.listing import KINDS
from fljax.config.loading import load_config, read_toml
from fljax.config.schema import ExperimentConfig, parse_config
from fljax.registry import PLUGINS
from fljax.simulation.experiment import assemble
from fljax.sweeps import make_sweep, sweep

ROOT = Path(__file__).parents[2]
# What is written by hand and shows code, but for the tutorials, which run when the site is built.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        ROOT / "docs" / "getting-started.md",
        ROOT / "docs" / "reference" / "configuration.md",
        *sorted((ROOT / "docs" / "explanations").glob("*.md")),
        *sorted((ROOT / "docs" / "guides").glob("*.md")),
    ]
}

# What is true after each Python block, in the order of the pages.
SHOWN = {
    "pure functions": """
import numpy as np
assert aggregate.shape == (10_000,)
assert not np.asarray(scores)[:20].any()
assert np.asarray(scores)[20:].all()
assert many.shape == (30, 10_000)
""",
    "attacks through the rule": """
import numpy as np
direction = np.sign(rule(updates))
honest, alie, ascent = (rule(each) for each in (updates, found, stronger))
assert direction @ ascent < direction @ honest
center = updates[10:].mean(0)
assert np.linalg.norm(alie - center) > np.linalg.norm(honest - center)
""",
    "what ByzFL computes": """
import numpy as np
rows = np.asarray(updates, np.float64)
rows[:4] = -2.0 * rows[4:].mean(0)
apart = ((rows[:, None] - rows[None]) ** 2).sum(-1)
mixed = np.stack([rows[np.argsort(row, kind="stable")[:16]].mean(0) for row in apart])
np.testing.assert_allclose(aggregate, np.sort(mixed, axis=0)[4:-4].mean(0), atol=1e-4)
""",
    "data of your own": "assert experiment.facts['clients']['num_clients'] == 30",
    "several devices": "assert result.summary['device'].endswith('× 2')",
    "a rule explained": """
import numpy as np
assert info["selected"].sum() == 1
np.testing.assert_array_equal(row, updates[info["selected"].argmax()])
assert robust["kernel"].shape == (100, 100)
""",
    "a rule with a state": """
import numpy as np
assert np.isfinite(update).all()
np.testing.assert_array_equal(state[1], update)
""",
    "a rule of your own": """
assert result.summary["rounds"] == 20
assert "halfway" in fljax.aggregators.RULES
""",
    "a report": """
assert len(frame) == 2
assert [file.name for file in files] == ["report.html"]
""",
    "a run": """
from pathlib import Path
assert Path("runs/demo/summary.json").exists()
assert result.metrics["test_error"][-1] < 0.5
assert metrics.loss.shape == (100,)
""",
    "a sweep's results": "assert list(results.seed) == [0, 1]",
}


def blocks(language, page=None):
    pages = PAGES.values() if page is None else [PAGES[page]]
    return [block for text in pages for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def test_every_block_is_of_a_kind_that_is_tested():
    assert len(PAGES) >= 20
    for name, text in PAGES.items():
        # Directives put in what is made from the registries, or another file.
        kinds = "components|configuration-keys|include|toctree"
        directives = re.findall(rf"```\{{(?:{kinds})\}}.*?```", text, re.DOTALL)
        known = sum(len(blocks(language, name)) for language in ("python", "toml", "sh"))
        assert text.count("```") == 2 * (known + len(directives)), name
        # Nothing that looks like Python stands outside of a block.
        assert not re.findall(r"^    (?:from|import) ", text, re.MULTILINE), name
    assert len(blocks("python")) == len(SHOWN)
    assert len(blocks("toml")) == 4


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folders that commands of the pages would have made."""
    folder = tmp_path_factory.mktemp("swept")
    base = {"rounds": 2, "eval_every": 2, "num_clients": 5, "root": {"size": 20}}
    sweep(make_sweep(base, {"seeds": 2}), folder / "thousand")
    shutil.copytree(folder / "thousand", folder / "table3")
    return folder


# Python, jax and fljax start once for all examples; each has names and a folder of its own.
RUN_EACH = """
import json, os, runpy, sys, traceback
failed = {}
for folder in sys.argv[1:]:
    os.chdir(folder)
    try:
        runpy.run_path("example.py", run_name="__main__")
    except BaseException:
        failed[os.path.basename(folder)] = traceback.format_exc()
with open("../failed.json", "w") as file:
    json.dump(failed, file)
"""


def test_the_python_examples_run_in_a_fresh_process(tmp_path, swept):
    for (name, checks), block in zip(SHOWN.items(), blocks("python"), strict=True):
        folder = tmp_path / name
        shutil.copytree(ROOT / "configs", folder / "configs")
        if "runs/thousand" in block or "runs/table3" in block:
            shutil.copytree(swept, folder / "runs")
        (folder / "example.py").write_text(block + checks, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH, *(str(tmp_path / name) for name in SHOWN)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert not failed, "\n".join(f"{name}: {trace}" for name, trace in failed.items())


def test_the_configuration_shown_is_the_default():
    (shown,) = blocks("toml", "docs/reference/configuration.md")
    values = tomllib.loads(shown)
    optional = {line.split("=")[0].strip("# ") for line in shown.splitlines() if line.startswith("# ")}
    assert set(values) | optional == set(ExperimentConfig.model_fields)
    assert parse_config(values) == ExperimentConfig(num_clients=20)


def test_the_attack_shown_runs():
    (shown,) = blocks("toml", "docs/guides/attacks.md")
    values = {"rounds": 12, "eval_every": 12, "num_clients": 20, "cohort_size": 10, **tomllib.loads(shown)}
    experiment = assemble(parse_config(values))
    state, _ = jax.lax.scan(
        lambda s, _: experiment.step(s, experiment.state.data), experiment.state.run, length=12
    )
    # Ten rounds of attack, then the pause.
    assert int(state.attack_state.chosen.sum()) == 10


def test_the_sweep_shown_is_one():
    (shown,) = blocks("toml", "docs/guides/sweeps.md")
    cells = make_sweep({"num_clients": 20}, tomllib.loads(shown)["sweep"]).cells
    assert len(cells) == 10 * (2 * 2 * 4 * 3 - 2 * 3 + 1)
    assert len({cell.config.aggregator.name for cell in cells}) == 3


def test_every_configuration_is_valid():
    files = list((ROOT / "configs").rglob("*.toml"))
    assert len(files) >= 30
    for path in files:
        values = read_toml(path)
        table = values.pop("sweep", None)
        assert parse_config(values).rounds > 0
        assert table is None or make_sweep(values, table).cells
    assert load_config(ROOT / "configs/quickstart.toml").aggregator.name == "fltrust"


def test_no_registry_address_in_the_constraints():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^ ]+", pin) for pin in pins)


def test_an_installed_plugin_is_announced_as_shown():
    (group,) = tomllib.loads(*blocks("toml", "docs/guides/plugins.md"))["project"]["entry-points"]
    assert group == PLUGINS


@pytest.mark.parametrize("kind", ["rules", "attacks"])
def test_pictures_show_the_code_as_it_is(kind, monkeypatch):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from extension.pictures import mark_of

    entries = {entry.name: entry for entry in KINDS[kind].entries()}
    drawn = list((ROOT / "docs" / "pictures" / kind).glob("*.svg"))
    assert len(drawn) > 25
    for path in drawn:
        text = path.read_text(encoding="utf-8")
        assert mark_of(entries[path.stem].function) in text, f"{path.name}: run make docs, and commit it"
