"""MLflow."""

import importlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fljax.errors import ConfigError
from fljax.tracking.ledger import Ledger
from fljax.tracking.registry import register_tracker
from fljax.tracking.tracker import Line, Started, TrackedCell, Tracker, scalars

# What MLflow's own limits are: characters of a parameter's value, entries of one call.
MOST_TEXT, MOST_PARAMS, MOST_METRICS = 6000, 100, 1000


@register_tracker("mlflow", title="MLflow")
class MLflow(Tracker):
    """A run of MLflow in `mlruns/`, of a sweep a run a cell in one experiment.

    It goes where MLFLOW_TRACKING_URI says, if that is set. The experiment is MLFLOW_EXPERIMENT_NAME, else
    "fljax" or the sweep's name. Configurations are parameters with dotted keys.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(self) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
            self._entities: Any = importlib.import_module("mlflow.entities")
        except ImportError:
            raise ConfigError('track mlflow: needs MLflow: pip install "fljax[mlflow]"') from None
        self._run: str | None = None

    def start(self, started: Started) -> None:
        """Open the run, or the one that was interrupted."""
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            # MLflow takes a folder only from somebody who says that it shall.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            address = (started.place.absolute() / "mlruns").as_uri()
        self._client = self._mlflow.MlflowClient(tracking_uri=address)
        self._ledger = Ledger(started.place / "tracking" / "mlflow.jsonl", started.resumed)
        default = "fljax" if started.kind == "run" else started.name
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", default)
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(name)
        if started.kind == "run":
            if (known := self._ledger.get("run")) is None:
                known = self._open(started.name, started.config)
                self._ledger.put("run", known)
            else:
                self._client.update_run(known, status="RUNNING")
            self._run = known

    def evaluation(self, line: Line) -> None:
        """A step of the run, at the round's number."""
        if self._run is not None and line["round"] > self._ledger.get("round", 0):
            self._log(self._run, [line])
            self._ledger.put("round", line["round"])

    def cell(self, cell: TrackedCell) -> None:
        """A run of its own."""
        if self._ledger.get(cell.id) is None:
            run = self._open(cell.name, cell.config, {"fljax.cell": cell.id})
            self._log(run, cell.lines)
            self._close(run, cell.summary)
            self._ledger.put(cell.id, run)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """Close the run; one that was interrupted counts as killed until it goes on."""
        if self._run is not None:
            self._close(self._run, summary)

    def _open(self, name: str, config: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags or {})).info.run_id
        pairs = [(key, str(value)[:MOST_TEXT]) for key, value in _flat(config).items()]
        params = [self._entities.Param(key, value) for key, value in pairs]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run, params=params[start : start + MOST_PARAMS])
        return run

    def _log(self, run: str, lines: Sequence[Line]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(name, value, now, line["round"])
            for line in lines
            for name, value in scalars(line).items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])

    def _close(self, run: str, summary: Mapping[str, Any] | None) -> None:
        pairs = [(f"fljax.{key}", str(value)[:MOST_TEXT]) for key, value in _flat(summary or {}).items()]
        tags = [self._entities.RunTag(key, value) for key, value in pairs]
        for start in range(0, len(tags), MOST_PARAMS):
            self._client.log_batch(run, tags=tags[start : start + MOST_PARAMS])
        self._client.set_terminated(run, "KILLED" if summary is None else "FINISHED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables with dotted keys; lists as JSON."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = json.dumps(value) if isinstance(value, (list, tuple)) else value
    return flat
