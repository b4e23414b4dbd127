"""The command `fljax data`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from fljax.cli.data_table import remarks, sizes_table, title
from fljax.config.loading import read_with
from fljax.config.schema import parse_config
from fljax.errors import ConfigError
from fljax.report.partition import plot_partition
from fljax.simulation.holdings import load_holdings


def show_partition(console: Console, config: Path, overrides: Mapping[str, Any], path: Path) -> None:
    """Print who holds which examples, and draw it.

    Args:
        console: where to print.
        config: a TOML file, also of a sweep, or a run's config.json.
        overrides: dotted keys to values.
        path: the PNG to write.

    Raises:
        ConfigError: if the configuration cannot be run, or `path` not be written.
        DataError: if the data cannot be read.
    """
    values = read_with(config, overrides)
    values.pop("sweep", None)  # what all cells share
    loaded = parse_config(values)
    if path.suffix != ".png":
        raise ConfigError(f"--out {str(path)!r} must end in .png")
    if path.is_dir():
        raise ConfigError(f"--out {str(path)!r} is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {str(path)!r}: cannot make the folder ({error.strerror})") from None
    dataset, holdings = load_holdings(loaded)
    notes = [f"note: {note}" for note in dataset.notes]
    for table in sizes_table(dataset, holdings):
        console.print(table)
    for remark in [*notes, *remarks(loaded, holdings)]:
        console.print(remark, markup=False, soft_wrap=True, highlight=False)
    plot_partition(holdings, title(loaded, dataset, holdings), dataset.notes, path)
    console.print(f"written: {path}", markup=False, soft_wrap=True)
