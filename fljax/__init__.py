"""fljax: a high-throughput simulator of Byzantine-robust federated learning on JAX.

The names below, and the modules, are imported when first used, so that `import fljax.aggregators` needs
nothing but jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

_LAZY = {
    "build": "fljax.experiment",
    "run": "fljax.experiment",
    "sweep": "fljax.sweeps.run",
    "load_config": "fljax.config",
    "ConfigError": "fljax.errors",
    "DataError": "fljax.errors",
}

_MODULES = ("aggregators", "attacks", "data", "experiment", "models", "report")

if TYPE_CHECKING:
    from fljax.config import load_config
    from fljax.errors import ConfigError, DataError
    from fljax.experiment import build, run
    from fljax.sweeps.run import sweep

__all__ = ["ConfigError", "DataError", "__version__", "build", "load_config", "run", "sweep"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fljax.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'fljax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
