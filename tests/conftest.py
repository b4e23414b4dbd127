import os
from itertools import count
from pathlib import Path

# Two host devices, before jax starts: the sharded tests need them.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
)

import jax
import pytest

# Linux grants a process 65,530 memory maps; a compiled program holds a dozen, and all tests together compile
# more programs than fit. Beyond that XLA crashes.
MOST_MAPS = 40_000
_finished = count(1)


def pytest_runtest_teardown():
    """Drop compiled programs, every now and then, if there are many."""
    maps = Path("/proc/self/maps")
    if next(_finished) % 20 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets, from FLJAX_DATA or beside the repository."""
    given = os.environ.get("FLJAX_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data not found: set FLJAX_DATA")
    return folder


@pytest.fixture(scope="module", autouse=True)
def quick_programs(request):
    """Programs compile in half the time and compute the same, unless the module says OPTIMIZED = True."""
    quick = not getattr(getattr(request, "module", None), "OPTIMIZED", False)
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
