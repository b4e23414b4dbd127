"""Training mode of a module: the argument that sets it."""

import inspect
from collections.abc import Callable
from typing import Any

# Arguments by which modules are told that they train, and what says so.
MODES = {
    "train": True,
    "training": True,
    "is_train": True,
    "is_training": True,
    "use_running_average": False,
    "deterministic": False,
    "inference": False,
    "eval": False,
    "evaluate": False,
    "is_eval": False,
}


def mode_argument(call: Callable[..., Any]) -> tuple[str, bool] | None:
    """The argument that tells a function to train, and the value that says so; None if it has none."""
    names = inspect.signature(call).parameters
    return next(((name, value) for name, value in MODES.items() if name in names), None)
