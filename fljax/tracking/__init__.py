"""Trackers: what is told of a run or a sweep while it goes on, for files and services that show it."""

# isort: off
from fljax.tracking._csv import CSV
from fljax.tracking._jsonl import JSONLines
from fljax.tracking._tensorboard import TensorBoard
from fljax.tracking._wandb import WeightsAndBiases
from fljax.tracking._mlflow import MLflow

# isort: on
from fljax.tracking.registry import TRACKERS, register_tracker
from fljax.tracking.tracker import Started, TrackedCell, Tracker, scalars
from fljax.tracking.trackers import Trackers, make_trackers

__all__ = [
    "CSV",
    "TRACKERS",
    "JSONLines",
    "MLflow",
    "Started",
    "TensorBoard",
    "TrackedCell",
    "Tracker",
    "Trackers",
    "WeightsAndBiases",
    "make_trackers",
    "register_tracker",
    "scalars",
]
