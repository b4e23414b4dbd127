"""A run's folder as Python values."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from fljax.config.loading import load_config
from fljax.config.plugins import load_recorded
from fljax.config.schema import ExperimentConfig
from fljax.errors import DataError
from fljax.files import read_table
from fljax.report.run_folder import RUN_FILES, read_lines_of, read_summary
from fljax.simulation.checkpoint import load_checkpoint
from fljax.simulation.experiment import assemble
from fljax.simulation.lines import columns


class SavedRun(NamedTuple):
    """What a run has left in its folder.

    Attributes:
        config: its configuration.
        round: the rounds that the parameters have seen.
        metrics: the columns of metrics.jsonl, arrays over evaluations (NaN for null).
        summary: the values of summary.json; empty before the run is finished.
        params: the model's parameters after `round` rounds.
        model_state: its running batch statistics; () for a model that has none.
        apply: compiled, inputs (b, *input_shape) to logits (b, M), or to predicted numbers.
    """

    config: ExperimentConfig
    round: int
    metrics: dict[str, np.ndarray]
    summary: dict[str, Any]
    params: Any
    model_state: Any
    apply: Callable[[Array], Array]


def load_run(folder: str | Path, **components: Any) -> SavedRun:
    """The configuration, curves and model of a run, finished or under way; nothing in the folder is changed.

    Args:
        folder: that `fljax.run` or `fljax run` has written.
        **components: those that were given to `fljax.run` beside the configuration: `model`, `dataset`,
            `aggregator`, `attack`, `client`, `loss`, `metrics`.

    Returns:
        The `SavedRun`.

    Raises:
        ConfigError: if the configuration names what there is not, or does not fit the components.
        DataError: if the folder holds no run, or none of its checkpoints can be used, or its data cannot be
            read.

    Example:
        >>> run = load_run("runs/demo")  # doctest: +SKIP
        >>> run.metrics["test_error"][-1], run.apply(images).argmax(-1)  # doctest: +SKIP
    """
    folder = Path(folder)
    missing = [name for name in RUN_FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} holds no run: {' and '.join(missing)} {_are(missing)} missing")
    load_recorded(read_table(folder / RUN_FILES[0]))
    config = load_config(folder / RUN_FILES[0])
    summary, lines = read_summary(folder), read_lines_of(folder)
    experiment = assemble(config, **components)
    found = load_checkpoint(folder / "checkpoints", experiment.state.run, note=warnings.warn, aside=False)
    if found is None:
        raise DataError(f"{folder} has no checkpoint yet, and so no model")
    model = experiment.model
    params, state = experiment.unravel(found.state.params), found.state.model_state
    kept = () if model.init_state is None else (state,)
    return SavedRun(
        config,
        int(found.state.round),
        columns(lines),
        summary,
        params,
        state,
        jax.jit(lambda x: model.apply(params, x, *kept)),
    )


def _are(missing: list[str]) -> str:
    return "is" if len(missing) == 1 else "are"
