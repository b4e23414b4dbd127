"""The device and the library versions of a result."""

import platform
from importlib.metadata import version
from typing import Any

import jax

from fljax.host.installed import own_version


def environment(devices: int = 1) -> dict[str, Any]:
    """Device and versions, as summary.json records them; `devices` are how many share the work."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": f"{device.platform}: {device.device_kind}" + f" × {devices}" * (devices > 1),
        "versions": {
            "fljax": own_version(),
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
