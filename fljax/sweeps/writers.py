"""Results besides the Parquet table, for those who watch a sweep with other tools."""

import math
import re
import shutil
from collections.abc import Sequence
from typing import Any

from fljax.errors import ConfigError
from fljax.files import write_atomically
from fljax.host.csvs import to_csv
from fljax.simulation.lines import MEASURED
from fljax.sweeps.folder import Row, SweepFolder


def write_csv(folder: SweepFolder, rows: Sequence[Row]) -> None:
    """`results.csv`: all rows so far, without curves and configuration, as often as results.parquet."""
    if not folder.merged or not folder.rows:
        return
    names = [name for name in folder.rows[0] if not name.startswith("curve_") and name != "config"]
    content = to_csv(names, ([row[name] for name in names] for row in folder.rows))
    write_atomically(folder.path / "results.csv", content)


def tensorboard_writer() -> Any:
    """A writer of `tensorboard/<cell>/`: the curves of every cell, as scalars over rounds.

    Raises:
        ConfigError: if tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError('--tensorboard needs tensorboardX: pip install "fljax[tensorboard]"') from None

    def write(folder: SweepFolder, rows: Sequence[Row]) -> None:
        for row in rows:
            name = run_name(row, folder.varying)
            shutil.rmtree(folder.path / "tensorboard" / name, ignore_errors=True)  # of an earlier try
            with SummaryWriter(str(folder.path / "tensorboard" / name)) as writer:
                for curve in dict.fromkeys([*MEASURED, *_curves(row)]):
                    points = zip(row["curve_round"], row[f"curve_{curve}"], strict=True)
                    for step, value in points:
                        if value is not None and math.isfinite(value):
                            writer.add_scalar(curve, value, step)

    return write


def _curves(row: Row) -> list[str]:
    """The metrics of a row, configured ones among them."""
    return [
        name.removeprefix("curve_") for name in row if name.startswith("curve_") and name != "curve_round"
    ]


def run_name(row: Row, axes: Sequence[str]) -> str:
    """A folder's name for a cell: rule, attack, what else tells it from others, seed, the start of its id.

    Args:
        row: of the cell.
        axes: those with more than one value.

    Example:
        >>> row = {"aggregator": "Median", "attack": "ALIE", "root.size": 50, "seed": 1, "cell": "5e1f00"}
        >>> run_name(row, ["aggregator", "root.size", "seed"])
        'Median-ALIE-root.size=50-seed1-5e1f00'
    """
    others = [axis for axis in axes if axis not in ("aggregator", "attack", "seed")]
    what = "-".join([row["aggregator"], row["attack"], *(f"{axis}={row[axis]}" for axis in others)])
    name = re.sub(r"[^\w.+=-]+", "_", what)
    # A file system takes 255 bytes.
    short = name.encode()[:200].decode(errors="ignore")
    return f"{short}-seed{row['seed']}-{row['cell'][:6]}"
