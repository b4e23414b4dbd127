"""Compiled rounds of several experiments, timed one after the other in every repetition."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fljax.engine.loop import compile_program, no_metrics
from fljax.simulation.experiment import Experiment


class Rounds:
    """Compiled rounds that go on with their own state, `count` of them in a call."""

    def __init__(self, experiment: Experiment, test: tuple[np.ndarray, np.ndarray], count: int = 1) -> None:
        self._state, self._data = experiment.state
        program = compile_program(experiment.step, experiment.evaluate, *experiment.state, test, count)
        self._chunk, self._count = program.chunk, count
        self.seconds_compile = program.seconds_compile

    def seconds(self) -> float:
        """Seconds of one round."""
        begin = time.perf_counter()
        given = no_metrics(self._count), self._data, np.int32(0), np.int32(self._count)
        self._state, metrics = self._chunk(self._state, *given)
        jax.block_until_ready((self._state.params, metrics))
        return (time.perf_counter() - begin) / self._count


def medians(rounds: Mapping[Any, Rounds], repeats: int) -> dict[Any, float]:
    """The median seconds of a round of each, over `repeats` calls."""
    taken: dict[Any, list[float]] = {name: [] for name in rounds}
    for repeat in range(repeats + 1):
        for name, each in rounds.items():
            seconds = each.seconds()
            if repeat:  # the first call warms up caches and page tables
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}
