"""The command `fljax doctor`: what this machine has, in plain facts."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from fljax.cli.completion import registered
from fljax.files import reason
from fljax.host.cores import count_cores
from fljax.host.installed import own_version
from fljax.host.limits import available, gigabytes
from fljax.host.programs import SETTING, kept, place
from fljax.host.terminal import Table

VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "pandas", "matplotlib", "scikit-learn")
# Data sets that are there without files.
ALWAYS = ("digits", "breast_cancer", "wine", "diabetes", "synthetic")


class Extra(NamedTuple):
    """An extra of the package: the packages that tell whether it is there, and what it is for."""

    packages: tuple[str, ...]
    purpose: str


EXTRAS: Mapping[str, Extra] = {
    "cuda": Extra(("jax-cuda13-plugin",), "NVIDIA GPUs"),
    "ray": Extra(("ray",), "sweeps on a Ray cluster: fljax sweep --executor ray"),
    "tensorboard": Extra(("tensorboardX",), "fljax run --track tensorboard"),
    "wandb": Extra(("wandb",), "fljax run --track wandb"),
    "mlflow": Extra(("mlflow-skinny",), "fljax run --track mlflow"),
    "huggingface": Extra(("datasets",), "data sets of the Hugging Face Hub; Parquet, CSV and JSON folders"),
    "prepare": Extra(("tensorflow",), "preparing a data set of TensorFlow Datasets, once"),
    "bench": Extra(("byzfl", "torch"), "fljax bench --peers"),
    "test": Extra(("pytest", "hypothesis"), "the test suite"),
    "dev": Extra(("ruff", "mypy"), "linters and types"),
    "docs": Extra(("sphinx", "furo", "myst-nb"), "the documentation: make docs"),
}


def show_doctor(console: Console) -> None:
    """Print versions, devices, data sets, compiled programs and extras; nothing is changed."""
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column()
    for name, text in _facts():
        facts.add_row(Text(name, "bold"), Text(text))
    console.print(facts)
    table = Table(title="extras", title_justify="left")
    for name in ("extra", "installed", "for"):
        table.add_column(name)
    for name, extra in EXTRAS.items():
        missing = [package for package in extra.packages if _version(package) is None]
        there = "yes" if not missing else f'no: pip install "fljax[{name}]"'
        table.add_row(Text(name), Text(there), Text(extra.purpose))
    console.print(table)


def _facts() -> Iterator[tuple[str, str]]:
    python = f"Python {platform.python_version()} ({sys.executable})"
    yield "fljax", f"{own_version()}, {python}, {platform.system()} {platform.machine()}"
    yield "libraries", ", ".join(f"{name} {_version(name) or 'missing'}" for name in VERSIONS)
    yield "devices", _devices()
    memory = available()
    yield "cores", str(count_cores())
    yield "memory", f"{gigabytes(memory.bytes)} {memory.whose}"
    yield from _data()
    yield "compiled programs", _programs()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> str:
    """The devices as JAX sees them; an accelerator that it cannot use is a fact, too."""
    try:
        import jax

        devices = jax.devices()
    except Exception as error:
        return f"JAX cannot use any: {reason(error)}"
    kinds = [f"{device.platform}: {device.device_kind}" for device in devices]
    return ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))


def _data() -> Iterator[tuple[str, str]]:
    yield "data sets", f"{', '.join(ALWAYS)} (always there)"
    given = os.environ.get("FLJAX_DATA")
    if not given:
        yield "FLJAX_DATA", "not set: the folder that holds a folder for every data set"
    else:
        yield "FLJAX_DATA", f"{given}: {_found(Path(given).expanduser())}"
    other = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    yield "TensorFlow Datasets", f"{other}: {_found(other)}"


def _found(folder: Path) -> str:
    """The data sets in a folder, by the names of the folders in it."""
    names = set(registered("datasets"))
    try:
        if not folder.is_dir():
            return "no such folder"
        there = sorted(path.name for path in folder.iterdir() if path.name in names and path.is_dir())
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    return ", ".join(there) or "none that fljax knows by name"


def _programs() -> str:
    root = place()
    if root is None:
        return f"not kept ({SETTING})"
    folders = kept()
    size = sum(each.bytes for each in folders) / 1e6
    return f"{sum(each.programs for each in folders)}, {size:.1f} MB, in {root}"
