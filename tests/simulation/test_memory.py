"""Memory is known before it is used: what a run needs, what there is, one sentence if that is too little."""

import resource
from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest

import fljax
from fljax.bench import measure
from fljax.bench.grid import find_devices
from fljax.bench.grid import plan as bench_plan
from fljax.config.schema import parse_config
from fljax.errors import ConfigError, OutOfMemoryError
from fljax.host import limits
from fljax.host.limits import Limit, available, device_memory, group_limits, room
from fljax.simulation import experiment as running
from fljax.simulation.experiment import assemble, compile_experiment
from fljax.simulation.memory import Need, Part, check_compiled, is_out_of_memory, program_bytes

BASE = {
    "rounds": 2,
    "eval_every": 1,
    "num_clients": 40,
    "data": {"name": "synthetic", "num_train": 300, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
    "local": {"batch_size": 4},
    "aggregator": {"name": "mean"},
}
# 40 clients × (20·4000 + 4000 + 4000·10 + 10 parameters) × 4 bytes, twice.
LARGE = {"model": {"name": "mlp", "hidden": [4000]}}
NEED = Need(Part(10, "the data", "take fewer"), (Part(5, "a", "lower a"), Part(70, "b", "lower b")))


# --- the estimate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "total", "largest", "lower"),
    [
        (LARGE, 2 * 40 * 124_010 * 4, "40 clients × 124,010 parameters", "num_clients"),
        ({**LARGE, "cohort_size": 30}, 2 * 30 * 124_010 * 4, "30 clients × 124,010", "lower cohort_size,"),
        ({"local": {"steps": 100_000, "batch_size": 4}}, 9 * 40 * 400_000, "100,000 steps", "local.steps"),
    ],
)
def test_the_largest_part_is_named_with_what_to_lower(change, total, largest, lower):
    need = assemble(parse_config(BASE | change)).need
    assert need.largest.bytes == total
    assert largest in need.largest.what
    assert lower in need.largest.lower
    assert total < need.total < 1.5 * total


@pytest.mark.parametrize(
    "change",
    [
        # Many clients and few parameters: comparing them in pairs takes most.
        {"num_clients": 600, "aggregator": {"name": "krum", "num_malicious": 100}},
        # What the rule keeps from round to round takes as much as the updates.
        {"aggregator": {"name": "foolsgold"}, **LARGE},
    ],
)
def test_the_estimate_counts_what_rules_need_of_their_own(change):
    data = {"name": "synthetic", "num_train": 3000, "num_test": 50}
    experiment = assemble(parse_config(BASE | {"data": data} | change))
    compiled = program_bytes(compile_experiment(experiment).chunk)
    assert compiled / 1.5 < experiment.need.total < compiled * 1.5


# --- refused in time -----------------------------------------------------------------------------------


@pytest.fixture
def nothing_compiled(monkeypatch):
    def compile_program(*_):
        pytest.fail("compiled")

    monkeypatch.setattr(running, "compile_program", compile_program)


def test_a_run_that_cannot_fit_is_refused_before_it_is_compiled(nothing_compiled, monkeypatch, tmp_path):
    config = parse_config(BASE | LARGE)
    sentence = r"needs about 42 MB, but 20 MB are allowed .* 40 clients × 124,010 parameters: lower "
    with pytest.raises(ConfigError, match=sentence):
        fljax.run(config, tmp_path / "run", memory=0.02)
    monkeypatch.setattr(limits, "available", lambda: Limit(20_000_000, "free on this machine"))
    with pytest.raises(ConfigError, match="20 MB are free on this machine"):
        fljax.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # The estimate may be 1.4 times too large: what may fit after all is left to the compiler.
    monkeypatch.setattr(limits, "available", lambda: Limit(35_000_000, "free on this machine"))
    assemble(config)


@pytest.mark.parametrize("gigabytes", [0, -1.0, float("inf"), float("nan")])
def test_memory_is_a_positive_number(gigabytes):
    with pytest.raises(ConfigError, match="must be a positive number of gigabytes"):
        room(gigabytes)


def compiled(**sizes):
    found = dict.fromkeys(("argument", "output", "temp", "alias"), 0) | sizes
    return SimpleNamespace(
        memory_analysis=lambda: SimpleNamespace(**{f"{k}_size_in_bytes": v for k, v in found.items()})
    )


def test_the_compiler_has_the_last_word(monkeypatch):
    monkeypatch.setattr(limits, "available", lambda: Limit(100, "free"))
    check_compiled(NEED, compiled(temp=90, output=30, alias=20, argument=500))  # arguments are there already
    with pytest.raises(ConfigError, match=r"needs 0\.1 kB.* most of it for b: lower b"):
        check_compiled(NEED, compiled(temp=101))
    check_compiled(NEED, compiled(temp=101, argument=800), memory=1e-6)
    with pytest.raises(ConfigError, match="allowed"):
        check_compiled(NEED, compiled(temp=201, argument=800), memory=1e-6)


# --- what there is -------------------------------------------------------------------------------------


def test_limits_of_the_process_count(monkeypatch):
    monkeypatch.setattr(limits, "group_limits", list)
    free = SimpleNamespace(available=8 * 10**9, total=16 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert available() == Limit(8 * 10**9, "free on this machine")
    assert device_memory(2) == 4 * 10**9
    used = 3 * 10**9
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(vms=used))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (7 * 10**9, resource.RLIM_INFINITY))
    assert available().bytes == 4 * 10**9
    assert "ulimit" in available().whose
    assert device_memory(1) == 7 * 10**9 // 2


@pytest.mark.parametrize(
    ("line", "folder", "names", "cache"),
    [
        ("0::/box/inner", "box", ("memory.max", "memory.current"), "inactive_file"),
        ("0::/of/the/host", ".", ("memory.max", "memory.current"), "inactive_file"),
        (
            "4:cpu,memory:/box",
            "memory/box",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
    ],
)
def test_limits_of_the_container_count(line, folder, names, cache, tmp_path):
    (tmp_path / "cgroup").write_text(f"9:pids:/x\n{line}\n")
    assert group_limits(tmp_path / "cgroup", tmp_path / "fs") == []
    place = tmp_path / "fs" / folder
    place.mkdir(parents=True)
    for name, value in zip(names, (5_000, 3_000), strict=True):
        (place / name).write_text(f"{value}\n")
    (place / "memory.stat").write_text(f"anon 7\n{cache} 1000\n")
    assert group_limits(tmp_path / "cgroup", tmp_path / "fs") == [(5_000, 2_000)]
    (place / names[0]).write_text("max\n")
    assert group_limits(tmp_path / "cgroup", tmp_path / "fs") == []
    assert group_limits(tmp_path / "nowhere", tmp_path) == []


# --- memory runs out all the same ----------------------------------------------------------------------

EXHAUSTED = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 24000960000 bytes.")


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (EXHAUSTED, True),
        (RuntimeError("std::bad_alloc"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: nothing"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error, is_it):
    assert is_out_of_memory(error) == is_it


def test_numpy_s_own_error_is_one():
    with pytest.raises(MemoryError) as error:
        np.zeros(10**15)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize("where", ["compile_program", "train"])
def test_a_run_out_of_memory_ends_with_one_sentence(where, monkeypatch):
    def fail(*_, **__):
        raise EXHAUSTED

    monkeypatch.setattr(running, where, fail)
    with pytest.raises(OutOfMemoryError, match=r"^memory ran out \(24 GB more were asked for\): lower .*$"):
        fljax.run(parse_config(BASE | LARGE))


def test_a_measurement_out_of_memory_says_so(monkeypatch):
    def fail(*_):
        raise EXHAUSTED

    monkeypatch.setattr(measure, "make_stack", fail)
    cells = bench_plan(["mean"], [4], [8], [], [], 0.2, None)
    ((_, (row,)),) = measure.measure(cells, find_devices([]), 0.2, measure.Limits(1, 1.0))
    assert row["status"] == "failed"
    assert (
        row["reason"] == "memory ran out (24 GB more were asked for): take fewer rows (--n) or columns (--d)"
    )
