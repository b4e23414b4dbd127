"""Weights & Biases."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fljax.errors import ConfigError
from fljax.tracking.ledger import Ledger
from fljax.tracking.registry import register_tracker
from fljax.tracking.tracker import Line, Started, TrackedCell, Tracker, scalars


@register_tracker("wandb", title="Weights & Biases")
class WeightsAndBiases(Tracker):
    """A run of Weights & Biases in `wandb/`, of a sweep a run a cell in one group; offline unless you say so.

    It goes online where `WANDB_API_KEY` or `WANDB_MODE` says so, into the project `WANDB_PROJECT` or "fljax";
    `wandb sync` uploads what was written offline.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError:
            raise ConfigError('track wandb: needs wandb: pip install "fljax[wandb]"') from None
        self._run: Any = None

    def start(self, started: Started) -> None:
        """Open the run, or the one that was interrupted."""
        self._started = started
        self._ledger = Ledger(started.place / "tracking" / "wandb.jsonl", started.resumed)
        if started.kind == "run":
            self._run = self._open(self._ledger.run_id(), started.name, started.config)

    def evaluation(self, line: Line) -> None:
        """A step of the run, at the round's number."""
        if line["round"] > self._ledger.get("round", 0):
            self._run.log(scalars(line), step=line["round"])
            self._ledger.put("round", line["round"])

    def cell(self, cell: TrackedCell) -> None:
        """A run of its own."""
        if self._ledger.get(cell.id) is None:
            run = self._open(f"{self._ledger.run_id()}-{cell.id}", cell.name, cell.config, self._started.name)
            self._finish(run, cell.summary, cell.lines)
            self._ledger.put(cell.id, True)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """Close the run; one that was interrupted counts as failed until it goes on."""
        if self._run is not None:
            self._finish(self._run, summary)

    def _open(self, identity: str, name: str, config: Mapping[str, Any], group: str | None = None) -> Any:
        wandb = self._wandb
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "fljax"),
            id=identity,
            name=name,
            group=group,
            config=dict(config),
            dir=str(self._started.place),
            resume="allow",
            reinit="create_new",
            mode=os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )

    def _finish(self, run: Any, summary: Mapping[str, Any] | None, lines: Sequence[Line] = ()) -> None:
        for line in lines:
            run.log(scalars(line), step=line["round"])
        run.summary.update(dict(summary or {}))
        run.finish(exit_code=int(summary is None))
