"""Configurations: their schema, and how files and overrides become one."""

from fljax.config.loading import load_config
from fljax.config.schema import ExperimentConfig, parse_config

__all__ = ["ExperimentConfig", "load_config", "parse_config"]
