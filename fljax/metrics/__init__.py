"""Metrics of an evaluation, by name; fljax/engine/evaluate.py computes them."""

from fljax.metrics.functions import (
    backdoor,
    backdoor_by_class,
    client_errors,
    mae,
    mean_test_loss,
    per_class_error,
    rmse,
    top5_error,
)
from fljax.metrics.registry import METRICS, asked, described_column, register_metric
from fljax.metrics.smoothing import certified_radius, smoothed_votes, vote_bounds

__all__ = [
    "METRICS",
    "asked",
    "backdoor",
    "backdoor_by_class",
    "certified_radius",
    "client_errors",
    "described_column",
    "mae",
    "mean_test_loss",
    "per_class_error",
    "register_metric",
    "rmse",
    "smoothed_votes",
    "top5_error",
    "vote_bounds",
]
