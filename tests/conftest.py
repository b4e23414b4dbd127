import gc
import os
import signal
from contextlib import suppress
from itertools import count
from pathlib import Path

from tests.support.processes import QUICKLY

# All of this before jax starts, and for the processes that tests start. Two host devices: the sharded tests
# need them. Most of a test's time is compilation: XLA's older emitter of loops and no more optimisations than
# needed take a quarter of its time. `optimized` in support/programs.py compiles as users do.
os.environ["XLA_FLAGS"] = " ".join(
    [*os.environ.get("XLA_FLAGS", "").split(), "--xla_force_host_platform_device_count=2", QUICKLY]
)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# A worker has a core: threads of NumPy's and scikit-learn's that wait for one burn the others' time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Programs are kept for the other workers, for the processes that tests start and for the next run, also those
# of single operations, of which there are thousands.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest
from _pytest.doctest import DoctestItem

# What old versions of the code left behind is dropped with the rest when there is more than this.
MOST_KEPT = 2**30

# Linux grants a process 65,530 memory maps; a compiled program holds a dozen, and all tests together compile
# more programs than fit. Beyond that XLA crashes.
MOST_MAPS = 40_000
_finished = count(1)


def pytest_configure(config):
    """Drop the kept programs, before there are workers, if they are too many."""
    # Who started the tests may have had signals ignored (nohup, a job in the background), which the processes
    # that they start would inherit; those under test have to arrive.
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # The width of this run's terminal, which xdist passes on, is not that of the output under test.
    os.environ.pop("COLUMNS", None)
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    if not hasattr(config, "workerinput") and folder.is_dir():
        files = [path for path in folder.iterdir() if path.is_file()]
        if sum(path.stat().st_size for path in files) > MOST_KEPT:
            for path in files:
                path.unlink()


def pytest_collection_modifyitems(items):
    """Put slow tests first: what is left at the end, for a worker that is done, is small."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    examples = [item for item in items if isinstance(item, DoctestItem)]
    if examples:
        from tests.support.programs import jit_components

        for item in examples:
            jit_components(item.dtest.globs)


def pytest_collection_finish():
    """Spare the search for garbage what stays: modules and tests, hundreds of thousands of objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_runtest_teardown():
    """Drop compiled programs, every now and then, if there are many."""
    maps = Path("/proc/self/maps")
    if next(_finished) % 20 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


def pytest_terminal_summary(terminalreporter):
    """What fuzzers and kills have counted."""
    for report in terminalreporter.getreports("passed"):
        for name, counts in report.user_properties:
            text = ", ".join(f"{key} {value:,}" for key, value in counts.items())
            terminalreporter.write_line(f"{name}: {text}")


@pytest.fixture
def shared_experiments(monkeypatch):
    """Runs of equal configurations are assembled and compiled once."""
    # It imports the library, which nothing here needs.
    from tests.support.programs import share_experiments

    share_experiments(monkeypatch)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets, from FLJAX_DATA or beside the repository."""
    given = os.environ.get("FLJAX_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data not found: set FLJAX_DATA")
    return folder
