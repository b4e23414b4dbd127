"""The layers: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "fljax"

# Layer 1 may import these from the project, and nothing but jax and numpy besides.
LAYER_1 = {
    "fljax.aggregators": ("fljax.aggregators",),
    "fljax.attacks": ("fljax.attacks", "fljax.aggregators"),
}
ALLOWED = {
    "types": (),
    "keys": (),
    "local": ("fljax.attacks.base", "fljax.keys", "fljax.types"),
    "round": ("fljax.aggregators.base", "fljax.attacks.base", "fljax.keys", "fljax.local", "fljax.types"),
    "evaluate": ("fljax.attacks.base",),
    "train": ("fljax.evaluate", "fljax.round", "fljax.types"),
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def project_imports(path):
    return {name for name in imported(path) if name.split(".")[0] == "fljax"}


@pytest.mark.parametrize("package", LAYER_1)
def test_pure_functions_need_nothing_but_jax(package):
    standard = set(sys.stdlib_module_names)
    for path in (ROOT / package.split(".")[1]).glob("*.py"):
        for name in imported(path):
            if name.split(".")[0] == "fljax":
                assert name.startswith(LAYER_1[package]), f"{path.name} imports {name}"
            else:
                assert name.split(".")[0] in standard | {"jax", "numpy"}, f"{path.name} imports {name}"


@pytest.mark.parametrize("module", ALLOWED)
def test_the_round_knows_neither_files_nor_configuration(module):
    assert project_imports(ROOT / f"{module}.py") <= set(ALLOWED[module])


def test_only_the_top_imports_the_experiment():
    users = {path.stem for path in ROOT.rglob("*.py") if "fljax.experiment" in project_imports(path)}
    assert users == {"__init__", "cli"}


def test_only_the_command_line_imports_the_benchmarks():
    users = {
        path.stem
        for path in ROOT.rglob("*.py")
        if path.parent.name != "bench"
        and any(name.startswith("fljax.bench") for name in project_imports(path))
    }
    assert users == {"cli"}


def test_peers_are_imported_inside_functions_of_one_module():
    for path in ROOT.rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path)}
        assert path.name == "peers.py" or not names & {"torch", "byzfl"}, path
    top = ast.parse((ROOT / "bench" / "peers.py").read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"torch", "byzfl"}


def test_only_the_top_imports_reports():
    users = {
        path.stem
        for path in ROOT.rglob("*.py")
        if path.parent.name not in {"report", "sweeps"}
        and any(name.startswith("fljax.report") for name in project_imports(path))
    }
    assert users == {"cli"}


def test_tables_and_bars_are_those_that_fit_any_terminal():
    users = {path.stem for path in ROOT.rglob("*.py") if "rich.table" in imported(path)}
    assert users == {"terminal"}


def test_importing_the_rules_loads_no_dataset_config_or_plotting_package():
    heavy = (
        "tensorflow",
        "tensorflow_datasets",
        "sklearn",
        "pydantic",
        "typer",
        "rich",
        "matplotlib",
        "flax",
        "optax",
        "pandas",
        "pyarrow",
        "jinja2",
        "itables",
    )
    code = (
        "import sys, fljax.aggregators, fljax.attacks\n"
        f"print([m for m in sys.modules if m.split('.')[0] in {heavy!r} or m.startswith('fljax.data')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_top_level_names_resolve():
    import fljax

    for name in fljax.__all__:
        assert getattr(fljax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fljax.nothing


def test_every_module_is_of_readable_length():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert max(lengths.values()) <= 400, {name: n for name, n in lengths.items() if n > 400}


def test_names_of_the_package_are_not_hidden_by_its_modules():
    import fljax.sweeps.run

    assert callable(fljax.sweep)
    assert callable(fljax.run)
