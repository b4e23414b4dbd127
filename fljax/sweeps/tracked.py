"""The cells of a sweep as trackers are told of them."""

import json
import re
from collections.abc import Sequence

from fljax.sweeps.folder import Row
from fljax.tracking import TrackedCell

_CURVE = "curve_"


def tracked(row: Row, number: int, varying: Sequence[str]) -> TrackedCell:
    """A row of a sweep's table as a cell for trackers.

    Args:
        row: of the cell.
        number: the cell's place in the sweep.
        varying: the axes with more than one value.

    Returns:
        The cell; its summary is the row without curves and configuration.
    """
    # Other cells may have metrics that this one does not.
    curves = {name.removeprefix(_CURVE): values for name, values in row.items() if name.startswith(_CURVE)}
    curves = {name: values for name, values in curves.items() if values is not None}
    lines = [dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)]
    summary = {name: row[name] for name in row if not name.startswith(_CURVE) and name != "config"}
    config = json.loads(row["config"])
    return TrackedCell(row["cell"], number, run_name(row, varying), config, lines, summary)


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
