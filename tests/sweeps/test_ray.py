"""Sweeps on a real Ray cluster of two workers, some of which are killed."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

ray = pytest.importorskip("ray")

from fljax.errors import ConfigError, SweepError  # noqa: E402
from fljax.sweeps import make_plan, make_sweep, run_plan, sweep  # noqa: E402
from fljax.sweeps.executors import ray as on_ray  # noqa: E402
from fljax.sweeps.executors.base import Watcher  # noqa: E402
from fljax.sweeps.executors.ray import Ray, Request, connected, prepare  # noqa: E402
from tests.support.plugins import ONE_OF_EACH, no_trace  # noqa: E402

ROOT = Path(__file__).parents[2]
# What compiles fast.
BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 4,
    "model": {"name": "logistic_regression"},
    "aggregator": {"name": "mean"},
}
RESULTS = ["test_error", "curve_loss", "curve_test_error"]


@pytest.fixture(scope="module")
def address():
    """A cluster that was there before the sweeps and is there after them."""
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            cluster = Cluster(initialize_head=True, head_node_args=options)
        except Exception:  # a machine busy with other tests may take longer than Ray's 30 seconds
            cluster = Cluster(initialize_head=True, head_node_args=options)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def cells():
    """A sweep of three programs."""
    return make_sweep(BASE, {"axes": {"local.steps": [1, 2, 3]}})


@pytest.fixture(scope="module")
def table(cells):
    """What the local executor makes of it."""
    return sweep(cells)


def tasks_under_way():
    """Processes of this cluster's workers that run a task; Ray names them after it."""
    return [p for p in psutil.process_iter() if any("ray::run_task" in word for word in command(p))]


def command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def assert_same(first, second):
    assert first["cell"].tolist() == second["cell"].tolist()
    for name in RESULTS:
        for a, b in zip(first[name], second[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


class Recorder(Watcher):
    def __init__(self):
        self.told = []

    def compiling(self, group):
        self.told.append(("compiling", group.number))

    def compiled(self, group, seconds):
        assert seconds > 0
        self.told.append(("compiled", group.number))


@pytest.mark.slow
def test_the_results_are_those_of_the_local_executor(address, tmp_path, monkeypatch):
    # A relative path means the same in a worker, whose own folder is another.
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(240, 5)).astype(np.float32), np.arange(240) % 3
    np.savez("mine.npz", train_x=x[:180], train_y=y[:180], test_x=x[180:], test_y=y[180:])
    axes = {"data": [{"name": "npz", "file": "mine.npz"}], "local.learning_rate": [0.05, 0.2]}
    cells = make_sweep(BASE, {"seeds": 3, "axes": axes})
    # Three batches of a group, of which a worker that has the program of all cells runs two at a time.
    plan = make_plan(cells, size=2)
    assert [len(batch.cells) for batch in plan.groups[0].batches] == [2, 2, 2]
    watcher = Recorder()
    table = run_plan(plan, tmp_path / "out", executor=Ray(address), watcher=watcher)
    assert_same(table, sweep(cells))
    assert watcher.told == [("compiling", 0), ("compiled", 0)]
    assert set(table["device"]) == {"cpu: cpu"}
    # No more programs than workers: the third batch found its program compiled.
    assert table["seconds_compile"].nunique() <= 2


@pytest.mark.slow
def test_tasks_have_several_devices_each(address, tmp_path):
    values = BASE | {"devices": {"clients": 2}}
    sweep_of_two = make_sweep(values, {"axes": {"aggregator": ["median", "mean"]}})
    table = run_plan(make_plan(sweep_of_two), tmp_path / "out", executor=Ray(address, cpus=1.0))
    assert set(table["device"]) == {"cpu: cpu × 2"}
    alone = sweep(make_sweep(BASE, {"axes": {"aggregator": ["median", "mean"]}}))
    assert set(alone["device"]) == {"cpu: cpu"}
    assert_same(table, alone)


@pytest.mark.slow
def test_workers_import_the_plugins_of_a_sweep(address, tmp_path, monkeypatch):
    (tmp_path / "study_on_ray.py").write_text(ONE_OF_EACH)
    (tmp_path / "many.toml").write_text(
        """
        rounds = 2
        eval_every = 2
        num_clients = 4
        root = { size = 10 }
        data = { name = "two_rings" }
        partition = { name = "in_order" }
        model = { name = "one_layer" }
        aggregator = { name = "halfway", pre = [{ name = "signs" }] }
        attack = { name = "push", fraction = 0.25 }
        plugins = ["study_on_ray"]
        [sweep]
        axes = { "local.steps" = [1, 2] }
        """
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with no_trace():
        table = sweep(tmp_path / "many.toml", executor="ray", address=address, progress=False)
        assert set(table["aggregator"]) == {"Signs + Halfway"}
        assert_same(table, sweep(tmp_path / "many.toml", progress=False))


class Killer(Watcher):
    """Kills a worker in the middle of a task, once, after the first result."""

    def __init__(self):
        self.killed, self.seen = None, []

    def finished(self, finished, rows):
        self.seen += [row["cell"] for row in rows]
        if self.killed is None:
            # Three tasks for two workers: both are on one, or will be at once.
            wait_for(tasks_under_way)
            victim = tasks_under_way()[0]
            os.kill(victim.pid, signal.SIGKILL)
            self.killed = victim.pid


@pytest.mark.slow
def test_a_killed_worker_runs_its_batch_again(address, cells, table, tmp_path):
    plan, killer = make_plan(cells), Killer()
    found = run_plan(plan, tmp_path / "out", executor=Ray(address), watcher=killer)
    assert killer.killed
    assert sorted(killer.seen) == sorted(cell.id for cell in cells.cells)
    assert_same(found, table)


@pytest.mark.slow
def test_a_batch_whose_worker_always_dies_is_an_error(address, cells, table, tmp_path, monkeypatch):
    # Without retries the kill shows, so in the test above it did interrupt something.
    monkeypatch.setattr(on_ray, "RETRIES", 0)
    plan = make_plan(cells)
    with pytest.raises(SweepError, match=r"[12] of 3 cells failed.*WorkerCrashedError"):
        run_plan(plan, tmp_path / "out", executor=Ray(address), watcher=Killer())
    assert_same(run_plan(plan, tmp_path / "out", resume=True), table)


@pytest.mark.slow
def test_an_error_in_a_task_is_reported_and_the_cluster_stays(address, tmp_path):
    file = tmp_path / "mine.npz"
    x, y = np.ones((150, 5), np.float32), np.arange(150) % 3
    np.savez(file, train_x=x, train_y=y, test_x=x, test_y=y)
    data = ["digits", {"name": "npz", "file": str(file)}]
    plan = make_plan(make_sweep(BASE, {"axes": {"data": data}}))
    file.unlink()
    with pytest.raises(SweepError, match=r"1 of 2 cells failed, first .*npz.*: DataError: .*mine\.npz"):
        run_plan(plan, tmp_path / "out", executor=Ray(address))
    assert not ray.is_initialized()
    with connected(address, Request(), 1):
        assert ray.cluster_resources()["CPU"] == 2
        # A connection of the caller's is used, and left open.
        with pytest.raises(ConfigError, match="Ray is connected already"):
            sweep(plan.sweep, executor="ray", address=address)
        with pytest.raises(
            ConfigError, match="asks for 3 CPUs, but the nodes of the Ray cluster have 2 CPUs"
        ):
            run_plan(plan, tmp_path / "large", executor=Ray(cpus=3))
        assert ray.is_initialized()
    assert not (tmp_path / "large").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_a_folder_to_continue(tmp_path):
    config = tmp_path / "long.toml"
    config.write_text(
        "rounds = 1000000\neval_every = 100\nnum_clients = 4\n"
        'model.name = "logistic_regression"\naggregator.name = "mean"\n'
        '[sweep.axes]\n"local.steps" = [1, 2]\n'
    )
    out = tmp_path / "out"
    words = [sys.executable, "-m", "fljax", "sweep", str(config), "--out", str(out), "--executor", "ray"]
    process = subprocess.Popen(
        [*words, "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: tasks_under_way() or process.poll() is not None, 120)
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in " ".join(command(child)) for child in children)
        # As a terminal does it: everybody in the group gets the signal.
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    again = shlex.join([*words[2:7], "--resume", "--executor", "ray", "--workers", "2"])
    assert process.returncode == 130
    first, waits, last = text.splitlines()
    assert waits.startswith("fljax: stopping: waiting for")
    assert first == "2 cells in 2 programs, 2 at a time; 2 cells to do"
    assert last == f"interrupted; continue with: {again}"
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert (out / "sweep.json").exists()


# --- without a cluster --------------------------------------------------------------------------------


def test_mistakes_are_one_sentence_before_anything_is_written(tmp_path, monkeypatch):
    cells, out = make_sweep(BASE, {"seeds": 1}), tmp_path / "out"
    mistakes = {
        "no Ray cluster at '127.0.0.1:9': .*refused": {"address": "127.0.0.1:9"},
        "no Ray cluster at 'nonsense'": {"address": "nonsense"},
        "ray_cpus=0 must be positive": {"ray_cpus": 0},
        "ray_gpus=1.5 must be 0, a fraction of one GPU, or a whole number": {"ray_gpus": 1.5},
        "address='auto' is of a Ray cluster and needs executor=\"ray\"": {
            "executor": "local",
            "address": "auto",
        },
    }
    for message, options in mistakes.items():
        with pytest.raises(ConfigError, match=message):
            sweep(cells, out, **{"executor": "ray", **options})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'^executor="ray" needs Ray: pip install "fljax\[ray\]"$'):
        sweep(cells, out, executor="ray")
    assert not out.exists()


def test_a_worker_uses_what_its_task_asked_for(monkeypatch):
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "3"})
    prepare(Request(1.5, 0.25))
    assert (os.environ["NPROC"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("2", "3")
    assert float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == pytest.approx(0.225)
    prepare(Request(1.0, 0.0))
    assert (os.environ["NPROC"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert "JAX_PLATFORMS" not in os.environ
