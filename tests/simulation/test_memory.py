"""Memory is known before it is used: what a run needs, what there is, one sentence if that is too little."""

import json
import re
import resource
import sys
from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest

import fljax
from fljax.bench import measure
from fljax.bench.grid import find_devices
from fljax.bench.grid import plan as bench_plan
from fljax.cli.app import main
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.errors import ConfigError, OutOfMemoryError
from fljax.host import limits
from fljax.host.limits import Limit, available, device_memory, group_limits, room
from fljax.simulation import experiment as running
from fljax.simulation.experiment import assemble
from fljax.simulation.memory import Need, Part, check_compiled, is_out_of_memory, program_bytes, what_fits
from tests.support.programs import FUSED

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
# 40 clients × (20·4000 + 4000 + 4000·10 + 10 parameters) × 4 bytes; training holds as much again.
LARGE = {"model": {"name": "mlp", "hidden": [4000]}}
NEED = Need(Part(10, "the data", "take fewer"), (Part(5, "a", "lower a"), Part(70, "b", "lower b")))


# --- the estimate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "bytes_of_it", "largest", "lower"),
    [
        (LARGE, 40 * 124_010 * 4, "40 clients × 124,010 parameters", "num_clients"),
        ({**LARGE, "cohort_size": 30}, 30 * 124_010 * 4, "30 clients × 124,010", "lower cohort_size,"),
        ({"local": {"steps": 100_000, "batch_size": 4}}, 32 * 40 * 400_000, "100,000 steps", "local.steps"),
    ],
)
def test_the_largest_part_is_named_with_what_to_lower(change, bytes_of_it, largest, lower):
    need = assemble(parse_config(BASE | change)).need
    assert need.largest.bytes == bytes_of_it
    assert largest in need.largest.what
    assert lower in need.largest.lower
    assert need.total == sum(part.bytes for part in need.parts) > bytes_of_it


SMALL = {"num_clients": 20, "data": {"name": "digits"}, "local": {"batch_size": 32}, "root": {"size": 50}}
MLP = {"model": {"name": "mlp", "hidden": [500]}}
DRAW = np.random.default_rng(0)


def made_up(x, num_classes):
    labels = (np.arange(len(x)) % num_classes).astype(np.int32)
    return Dataset(x[:-50], labels[:-50], x[-50:], labels[-50:], num_classes, "random")


IMAGES = made_up(DRAW.normal(size=(450, 28, 28, 1)).astype(np.float32), 10)
TEXT = made_up(DRAW.integers(0, 40, size=(350, 40)).astype(np.int32), 40)
FEW = {**SMALL, "num_clients": 4, "local": {"batch_size": 16}}
GRID = {
    "mlp": ({**SMALL, "aggregator": {"name": "fltrust"}}, None),
    "attackers who train": (
        {**SMALL, **MLP, "attack": {"name": "projected_gradient", "norm": 1.0, "fraction": 0.4}},
        None,
    ),
    "what a rule keeps": ({**SMALL, **MLP, "aggregator": {"name": "foolsgold"}}, None),
    "a cohort": (
        {**SMALL, **MLP, "num_clients": 100, "cohort_size": 10, "client": {"name": "momentum"}},
        None,
    ),
    "a chunk": ({**SMALL, **MLP, "client_chunk": 5, "local": {"steps": 3, "batch_size": 32}}, None),
    "epochs": ({**SMALL, **MLP, "local": {"epochs": 2, "batch_size": 16}}, None),
    "scaffold": ({**SMALL, **MLP, "client": {"name": "scaffold"}}, None),
    "long draws": ({**SMALL, "local": {"steps": 20_000, "batch_size": 8}}, None),
    "CNN": ({**FEW, "model": {"name": "cnn"}}, IMAGES),
    "ResNet": ({**FEW, "model": {"name": "resnet20"}}, IMAGES),
    "Krum": (
        {
            **SMALL,
            "num_clients": 400,
            "model": {"name": "mlp", "hidden": [50]},
            "aggregator": {"name": "krum", "num_malicious": 80},
        },
        None,
    ),
    "transformer": ({**FEW, "model": {"name": "transformer", "layers": 1}}, TEXT),
    "LSTM": ({**FEW, "model": {"name": "lstm", "width": 64}, "num_clients": 10}, TEXT),
}
QUICK = {"attackers who train", "a cohort"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GRID]
)
def test_the_estimate_is_that_of_the_compiler(name):
    change, dataset = GRID[name]
    experiment = assemble(parse_config(BASE | change), dataset=dataset)
    (state, data), step = experiment.state, experiment.step

    def rounds(state, data):
        return jax.lax.fori_loop(0, 2, lambda _, state: step(state, data)[0], state)

    compiled = jax.jit(rounds, donate_argnums=0).lower(state, data).compile(compiler_options=FUSED)
    # The test set is there while the rounds are done.
    said = program_bytes(compiled) + experiment.dataset.test_x.nbytes
    assert said / 1.3 < experiment.need.total < said * 1.3


def test_devices_that_share_the_clients_share_what_they_hold(monkeypatch):
    need = assemble(parse_config(BASE | LARGE)).need
    four = need.on(4)
    assert four.total < need.total / 4 + sum(p.bytes for p in need.parts if not p.spread) + len(need.parts)
    assert [part.bytes for part in need.on(1).parts] == [part.bytes for part in need.parts]
    # The devices of a CPU have one memory, in which their shares add up.
    of = {p.short: p.bytes for p in need.parts}, {p.short: p.bytes for p in need.of_memory(4).parts}
    assert of[1]["updates"] == of[0]["updates"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert need.of_memory(4) == four
    monkeypatch.undo()
    # Five clients at once on every device, whatever the number of devices.
    chunked = assemble(parse_config(BASE | LARGE | {"client_chunk": 10})).need
    of = {part.short: part.bytes for part in chunked.on(4).parts}, {p.short: p.bytes for p in chunked.parts}
    assert of[0]["training"] == of[1]["training"]
    assert of[0]["updates"] == of[1]["updates"] / 4


# --- refused in time -----------------------------------------------------------------------------------


@pytest.fixture
def nothing_compiled(monkeypatch):
    def compile_program(*_):
        pytest.fail("compiled")

    monkeypatch.setattr(running, "compile_program", compile_program)


def test_a_run_that_cannot_fit_is_refused_before_it_is_compiled(nothing_compiled, monkeypatch, tmp_path):
    config = parse_config(BASE | LARGE)
    sentence = r"needs about \d\d MB, but 20 MB are allowed .* 40 clients .*: lower .*would fit"
    with pytest.raises(ConfigError, match=sentence):
        fljax.run(config, tmp_path / "run", memory=0.02)
    monkeypatch.setattr(limits, "available", lambda: Limit(20_000_000, "free on this machine"))
    with pytest.raises(ConfigError, match="20 MB are free on this machine"):
        fljax.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # The estimate may be 1.4 times too large: what may fit after all is left to the compiler.
    monkeypatch.setattr(limits, "available", lambda: Limit(35_000_000, "free on this machine"))
    assemble(config)


def test_what_would_fit_is_in_the_sentence_and_does(nothing_compiled):
    config = BASE | LARGE | {"streaming": False}
    with pytest.raises(ConfigError, match=r"cohort_size = \d+ would fit\)$") as error:
        assemble(parse_config(config), memory=0.02)
    size = int(str(error.value).rsplit("cohort_size = ")[1].split()[0])
    assemble(parse_config(config | {"cohort_size": size}), memory=0.02)
    with pytest.raises(ConfigError, match="cohort_size"):
        assemble(parse_config(config | {"cohort_size": size + 8}), memory=0.02)
    # A hundred numbers of every example are held while it is trained on, of ten parameters.
    deep = {"model": {"name": "mlp", "hidden": [30] * 6}, "local": {"batch_size": 300}, "num_clients": 8}
    data = {"name": "synthetic", "num_train": 4000, "num_test": 50}
    config = config | deep | {"data": data}
    whole = assemble(parse_config(config)).need.total
    with pytest.raises(ConfigError, match=r"\(client_chunk = \d") as error:
        assemble(parse_config(config), memory=0.8 * whole / 1e9)
    chunk = int(str(error.value).rsplit("client_chunk = ")[1].split()[0])
    assert chunk < 8
    assemble(parse_config(config | {"client_chunk": chunk}), memory=0.8 * whole / 1e9)


def test_more_devices_fit_where_each_has_a_memory_of_its_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    parts = SimpleNamespace(config=parse_config(BASE), cohort_size=40)
    need = Need(Part(10, "the data", "take fewer"), (Part(900, "a", "lower a", 1.0, "updates"),))
    said = what_fits(parts, need, Limit(310, "free"), lambda parts: need)
    assert said == " (cohort_size = 13 or 3 times as many devices would fit)"
    assert need.on(3).total <= 310 < need.on(2).total


def test_a_dry_run_shows_the_parts_and_starts_nothing(nothing_compiled, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "put", lambda *_: pytest.fail("placed"))
    # More devices than there are.
    devices = {"devices": {"clients": 8}, "client_chunk": 5}
    (tmp_path / "config.json").write_text(json.dumps(BASE | LARGE | devices | {"streaming": False}))
    words = ["fljax", "run", "config.json", "--dry-run"]
    monkeypatch.setattr(sys, "argv", [*words, "--memory", "1"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    for row in (r"updates +│ the updates, 40 clients × 124,010 parameters +│ +20 MB", r"limit .* 1\.0 GB"):
        assert re.search(row, shown)
    monkeypatch.setattr(sys, "argv", [*words, "--memory", "0.02"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert re.search(r"total .* \d\d MB", shown.out)
    assert re.search(r"^fljax: memory: this needs .* would fit\)\n$", shown.err)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


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
