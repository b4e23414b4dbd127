"""Default places for the output of commands."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

RUNS = Path("runs")


def name_of(config: Path) -> str:
    """A name for the output of a configuration: that of its file, or of the folder for a run's config.json.

    Example:
        >>> name_of(Path("configs/quickstart.toml")), name_of(Path("runs/demo/config.json"))
        ('quickstart', 'demo')
    """
    return config.absolute().parent.name if config.name == "config.json" else config.stem


def free_path(name: str, suffix: str = "") -> Path:
    """runs/NAME, or runs/NAME-2, -3, … if that is taken."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (RUNS / f"{name}{suffix}" for name in names) if not path.exists())


def written(folder: Path, files: Iterable[Path]) -> str:
    """What a command has written, for its last line.

    Example:
        >>> written(Path("runs/demo"), [Path("runs/demo/results.parquet"), Path("runs/demo/report/table.md")])
        'written to runs/demo/: results.parquet, report/table.md'
    """
    return f"written to {folder}/: {', '.join(os.path.relpath(file, folder) for file in files)}"
