"""The house: which rooms there are, who may import whom, and that no import goes round in a circle."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "fljax"

# From the ground up; a module imports from its own room and from lower floors.
FLOORS = [
    {"base", "errors", "numerics"},
    {"registry", "files", "engine"},
    {"host"},
    {"tracking", "aggregators", "clients", "losses", "metrics", "models", "data"},
    {"attacks"},
    {"config"},
    {"simulation"},
    {"sweeps"},
    {"report"},
    {"bench"},
    {"cli"},
    {"__init__"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# What benchmarks compare with.
PEERS = {"fljax.bench.peers", "fljax.bench.torch_loop", "fljax.bench.pfl_rounds"}
PEERS |= {"fljax.bench.flower_rounds"}
# Pure functions on arrays, for anyone's JAX code.
PURE = {"base", "numerics", "aggregators", "attacks"}


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def imported(path, *, at_import=False):
    """The modules that a module imports; those inside functions, too, unless only what import runs counts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def project_imports(module, **kinds):
    return {name for name in imported(MODULES[module], **kinds) if name.split(".")[0] == "fljax"}


def test_the_root_holds_packages_and_seven_files():
    files = {path.name for path in ROOT.iterdir() if path.is_file()}
    allowed = {"__init__", "__main__", "base", "errors", "files", "registry"}
    assert files <= {f"{name}.py" for name in allowed} | {"py.typed"}


def test_no_module_imports_from_a_higher_floor_or_from_the_room_beside():
    def allowed(room, other):
        return other == room or FLOOR_OF[other] < FLOOR_OF[room]

    pairs = ((module, name) for module in MODULES for name in sorted(project_imports(module)))
    assert not [f"{m} imports {name}" for m, name in pairs if not allowed(room_of(m), room_of(name))]


def private_names(path):
    """The names with an underscore that a file takes from the library."""
    nodes, ours = list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))), set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fljax":
            ours |= {alias.asname or alias.name for alias in node.names}
            words = [word for alias in node.names for word in f"{node.module}.{alias.name}".split(".")]
            yield from (word for word in words if word[0] == "_")
        elif isinstance(node, ast.Import):
            ours |= {"fljax"} & {alias.name.split(".")[0] for alias in node.names}
    for node in nodes:
        # A named tuple's methods are public.
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_|replace$|asdict$|fields$)", node.attr):
            yield from [f"{node.value.id}.{node.attr}"] if getattr(node.value, "id", None) in ours else []


def test_no_test_uses_a_private_name_of_the_library():
    files = Path(__file__).parent.rglob("*.py")
    assert not {str(path): names for path in files if (names := list(private_names(path)))}


def test_no_import_goes_round_in_a_circle():
    graph = {module: project_imports(module, at_import=True) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_pure_functions_need_nothing_but_jax():
    def allowed(name):
        top = name.split(".")[0]
        if top == "fljax":
            return room_of(name) in PURE | {"registry", "errors"}
        return top in {"jax", "numpy"} | sys.stdlib_module_names

    pure = [module for module in MODULES if room_of(module) in PURE]
    pairs = ((module, name) for module in pure for name in imported(MODULES[module]))
    assert not [f"{module} imports {name}" for module, name in pairs if not allowed(name)]


def test_nothing_below_the_configuration_reads_one():
    below = [name for name in MODULES if FLOOR_OF[room_of(name)] < FLOOR_OF["config"]]
    assert not [name for name in below if "pydantic" in {n.split(".")[0] for n in imported(MODULES[name])}]


def test_peers_are_imported_inside_functions_of_few_modules():
    peers = {"torch", "byzfl", "pfl", "flwr"}
    for module, path in MODULES.items():
        names = {name.split(".")[0] for name in imported(path)}
        assert module in PEERS or not names & peers, path
    for module in PEERS:
        names = {name.split(".")[0] for name in imported(MODULES[module], at_import=True)}
        assert not names & peers


def test_tables_and_bars_are_those_that_fit_any_terminal():
    users = {module for module, path in MODULES.items() if "rich.table" in set(imported(path))}
    assert users == {"fljax.host.terminal"}


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


def test_names_of_the_package_are_not_hidden_by_its_modules():
    import fljax.sweeps.run

    assert callable(fljax.sweep)
    assert callable(fljax.run)
