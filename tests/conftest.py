import os
from pathlib import Path

# Two host devices, before jax starts: the sharded tests need them.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
)

import jax
import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets, from FLJAX_DATA or beside the repository."""
    given = os.environ.get("FLJAX_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data not found: set FLJAX_DATA")
    return folder


@pytest.fixture(scope="module")
def quick_programs():
    """Programs that compile in half the time and compute the same, where XLA itself is not what is tested."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
