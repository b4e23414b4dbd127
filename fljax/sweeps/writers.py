"""Results besides the Parquet table, for those who watch a sweep with other tools."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Sequence
from typing import Any

from fljax.errors import ConfigError
from fljax.files import write_atomically
from fljax.sweeps.results import CURVES, Row, SweepFolder


def write_csv(folder: SweepFolder, rows: Sequence[Row]) -> None:
    """`results.csv`: all rows so far, without curves and configuration."""
    names = [name for name in folder.rows[0] if not name.startswith("curve_") and name != "config"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(folder.rows)
    write_atomically(folder.path / "results.csv", text.getvalue().encode())


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
            own = json.loads(row["config"])
            what = f"{row['aggregator']}-{row['attack']}"[:100]
            name = f"{what}-seed{own['seed']}-{row['cell'][:6]}"
            name = re.sub(r"[^\w.+=-]+", "_", name)
            shutil.rmtree(folder.path / "tensorboard" / name, ignore_errors=True)  # of an earlier try
            with SummaryWriter(str(folder.path / "tensorboard" / name)) as writer:
                for curve in CURVES[1:]:
                    points = zip(row["curve_round"], row[f"curve_{curve}"], strict=True)
                    for step, value in points:
                        if value is not None and math.isfinite(value):
                            writer.add_scalar(curve, value, step)

    return write
