"""Compiled programs that are kept from one command to the next."""

import json
import os
import subprocess
import sys
import time
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from fljax.host import programs
from fljax.host.programs import UNUSED, clear, keep_programs, kept
from tests.support.command import command

TINY = """
rounds = 2
eval_every = 2
num_clients = 4
root = { size = 20 }
data = { name = "synthetic", num_train = 80, num_test = 20 }
model = { name = "logistic_regression" }
aggregator = { name = "median" }
"""


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty folder as the user's, in a process that has not used one and has one device."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size
    monkeypatch.setenv("FLJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(programs, "_keeps", False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_compilation_cache_max_size", before[1])
    compilation_cache.reset_cache()


def compiled():
    """A program that JAX has to compile or to find, however often it is asked for."""
    return jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((3, 3))).compile()


def files(folder):
    return sorted(folder.glob("*-cache"))


def test_programs_are_found_again_and_compute_the_same_bits(cache):
    x = jax.random.normal(jax.random.key(0), (3, 3))
    without = compiled()(x)
    folder = keep_programs()
    assert files(folder) == []
    np.testing.assert_array_equal(compiled()(x), without)
    (path,) = files(folder)
    written, used = path.stat().st_mtime_ns, path.with_name(path.name.replace("-cache", "-atime"))
    used.write_bytes(b"\0" * 8)
    np.testing.assert_array_equal(compiled()(x), without)
    assert files(folder) == [path]
    assert path.stat().st_mtime_ns == written
    assert used.read_bytes() != b"\0" * 8  # it was read


def test_a_damaged_program_is_compiled_and_kept_anew_without_a_word(cache):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        folder = keep_programs()
        want = compiled()(jnp.ones((3, 3)))
        (path,) = files(folder)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        np.testing.assert_array_equal(compiled()(jnp.ones((3, 3))), want)
    assert said == []
    assert zlib.decompress(path.read_bytes())


def test_other_warnings_are_shown(cache):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        keep_programs()
        warnings.warn("something else", stacklevel=1)
    assert [str(each.message) for each in said] == ["something else"]


def test_what_a_killed_process_left_is_dropped(cache):
    folder = keep_programs()
    (folder / "jit_f-1-cache").write_bytes(b"half")
    (folder / "jit_g-2-cache").write_bytes(b"whole")
    (folder / "jit_g-2-atime").write_bytes(b"\0" * 8)
    jax.config.update("jax_compilation_cache_dir", None)
    assert keep_programs() == folder
    assert [path.name for path in files(folder)] == ["jit_g-2-cache"]


def test_programs_nobody_has_used_for_long_are_dropped(cache):
    old, recent = cache / "jaxlib-0.0.1-cpu", cache / "jaxlib-0.0.2-cpu"
    before = time.time() - (UNUSED + 1) * 86_400
    for folder in (old, recent):
        folder.mkdir(parents=True)
        (folder / "jit_f-1-cache").touch()
        os.utime(folder / "jit_f-1-cache", (before, before))
    os.utime(old, (before, before))
    (cache / "somebody's").mkdir()
    own = keep_programs()
    assert sorted(cache.iterdir()) == sorted([recent, own, cache / "somebody's"])


@pytest.mark.parametrize("setting", ["off", "0", "/dev/null/cache"])
def test_it_can_be_turned_off_and_does_without_a_folder_it_cannot_write(cache, monkeypatch, setting):
    monkeypatch.setenv("FLJAX_CACHE", setting)
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert not programs.keeps_programs()
    compiled()
    assert not cache.exists()


def test_settings_of_jax_win(cache, monkeypatch, tmp_path):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert keep_programs() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")


def test_several_devices_of_a_processor_keep_nothing(cache, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert keep_programs() is None


def test_the_command_shows_and_drops_what_is_kept(cache, monkeypatch, capsys):
    cli = command(monkeypatch, capsys, "cache")
    assert cli().out == f"kept: 0 compiled programs, 0.0 MB, in {cache}\n"
    folder = keep_programs()
    compiled()
    assert [(each.folder, each.programs) for each in kept()] == [(folder, 1)]
    assert cli().out.startswith("kept: 1 compiled programs, 0.0 MB")
    assert cli("--clear").out.startswith("dropped: 1 compiled programs")
    assert kept() == []
    clear()
    monkeypatch.setenv("FLJAX_CACHE", "off")
    assert cli().out == "compiled programs are not kept (FLJAX_CACHE)\n"


@pytest.mark.slow
def test_commands_at_the_same_time_share_programs_and_agree(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    own |= {"FLJAX_CACHE": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def begin(name, **setting):
        words = [sys.executable, "-m", "fljax", "run", "tiny.toml", "--out", name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, cwd=tmp_path, env=own | setting, **pipes)

    def end(*processes):
        for process in processes:
            _, said = process.communicate()
            assert (process.returncode, said) == (0, "")

    end(begin("a"), begin("b"))
    there = {path.name for path in (tmp_path / "cache").rglob("*-cache")}
    assert any(name.startswith("jit_chunk-") for name in there)
    end(begin("c"), begin("d", FLJAX_CACHE="off"))
    assert {path.name for path in (tmp_path / "cache").rglob("*-cache")} == there
    found = {(tmp_path / name / "metrics.jsonl").read_text() for name in "abcd"}
    assert len({_without_seconds(text) for text in found}) == 1


def _without_seconds(text):
    lines = [json.loads(line) for line in text.splitlines()]
    # The digest is of the seconds as well.
    return json.dumps([{k: v for k, v in line.items() if k not in ("seconds", "check")} for line in lines])
