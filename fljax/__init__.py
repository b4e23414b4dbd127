"""fljax: a high-throughput simulator of Byzantine-robust federated learning on JAX.

The names below, and the modules, are imported when first used, so that `import fljax.aggregators` needs
nothing but jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "build": "fljax.simulation.experiment",
    "run": "fljax.simulation.experiment",
    "sweep": "fljax.sweeps.run",
    "load_config": "fljax.config.loading",
    "load_run": "fljax.report.saved_run",
    "export_run": "fljax.report.export",
    "ConfigError": "fljax.errors",
    "DataError": "fljax.errors",
    "register_attack": "fljax.attacks",
    "register_augmentation": "fljax.data",
    "register_client_algorithm": "fljax.clients",
    "register_dataset": "fljax.data",
    "register_loss": "fljax.losses",
    "register_metric": "fljax.metrics",
    "register_model": "fljax.models",
    "register_partition": "fljax.data",
    "register_post_aggregator": "fljax.aggregators",
    "register_pre_aggregator": "fljax.aggregators",
    "register_rule": "fljax.aggregators",
    "register_tracker": "fljax.tracking",
    "use_cores": "fljax.host.cores",
}

_MODULES = {
    **{
        name: f"fljax.{name}"
        for name in (
            "aggregators",
            "attacks",
            "clients",
            "data",
            "losses",
            "metrics",
            "models",
            "report",
            "tracking",
        )
    },
    "experiment": "fljax.simulation.experiment",
}

if TYPE_CHECKING:
    from fljax.aggregators import register_post_aggregator, register_pre_aggregator, register_rule
    from fljax.attacks import register_attack
    from fljax.clients import register_client_algorithm
    from fljax.config.loading import load_config
    from fljax.data import register_augmentation, register_dataset, register_partition
    from fljax.errors import ConfigError, DataError
    from fljax.host.cores import use_cores
    from fljax.losses import register_loss
    from fljax.metrics import register_metric
    from fljax.models import register_model
    from fljax.report.export import export_run
    from fljax.report.saved_run import load_run
    from fljax.simulation.experiment import build, run
    from fljax.sweeps.run import sweep
    from fljax.tracking import register_tracker

__all__ = [
    "ConfigError",
    "DataError",
    "__version__",
    "build",
    "export_run",
    "load_config",
    "load_run",
    "register_attack",
    "register_augmentation",
    "register_client_algorithm",
    "register_dataset",
    "register_loss",
    "register_metric",
    "register_model",
    "register_partition",
    "register_post_aggregator",
    "register_pre_aggregator",
    "register_rule",
    "register_tracker",
    "run",
    "sweep",
    "use_cores",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name == "__version__":
        return importlib.import_module("fljax.host.installed").own_version()
    if name not in _LAZY:
        raise AttributeError(f"module 'fljax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
