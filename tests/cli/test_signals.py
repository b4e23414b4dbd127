"""Ctrl-C, SIGTERM and SIGHUP, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fljax

ROOT = str(Path(fljax.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
# The main thread is in C, as while XLA computes: handlers of Python would wait until the end.
BUSY = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
IDLE = "import time; time.sleep(60)"
POLLS = """
import time
while not stop(): time.sleep(0.01)
print("saved", flush=True)
stop.check()
"""
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
if {ignored!r}: signal.signal(signal.{ignored}, signal.SIG_IGN)
from fljax.host.signals import saving, watching
with watching():
    with {section} as stop:
        print("ready", flush=True)
{work}
print("the end", flush=True)
"""
SAVING = 'saving("the work under way", "continue with: this")'
RAISING = 'saving("the work under way", "continue with: this", raises=True)'
NOTHING = "__import__('contextlib').nullcontext()"


def start(section: str, work: str, ignored: str = "SIGWINCH") -> subprocess.Popen:
    code = PROGRAM.format(
        section=section, ignored=ignored, work="\n".join("        " + line for line in work.splitlines())
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    return process.returncode, out, err


def said(process: subprocess.Popen) -> str:
    return process.stderr.readline()


@pytest.mark.parametrize("work", [BUSY, IDLE])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_where_nothing_is_at_stake_a_signal_ends_the_process(name, work):
    process = start(NOTHING, work)
    process.send_signal(getattr(signal, name))
    assert end(process) == (128 + getattr(signal, name), "", "fljax: interrupted\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_is_answered_at_once_and_the_work_is_saved(name):
    process = start(SAVING, POLLS)
    process.send_signal(getattr(signal, name))
    assert said(process) == "fljax: stopping: waiting for the work under way; once more to stop at once\n"
    assert end(process) == (128 + getattr(signal, name), "saved\n", "")


def test_the_second_signal_ends_the_process_and_says_how_to_go_on():
    process = start(SAVING, BUSY)
    for _ in range(2):  # the same one, as some programs send it to the process and to its group
        process.send_signal(signal.SIGTERM)
    assert "waiting for the work under way" in said(process)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert end(process) == (128 + signal.SIGTERM, "", "fljax: stopped at once; continue with: this\n")


def test_a_section_can_be_left_by_an_exception():
    process = start(RAISING, IDLE)
    process.send_signal(signal.SIGINT)
    status, out, err = end(process)
    assert (status, out) == (130, "")
    assert "waiting for the work under way" in err


def test_a_signal_that_is_ignored_stays_so():
    process = start(SAVING, "import time; time.sleep(1)", "SIGHUP")
    process.send_signal(signal.SIGHUP)
    assert end(process) == (0, "the end\n", "")


def test_work_that_is_done_when_the_signal_comes_is_no_failure():
    process = start(SAVING, "import time; time.sleep(1)")
    process.send_signal(signal.SIGTERM)
    status, out, _ = end(process)
    assert (status, out) == (0, "the end\n")


def test_a_library_that_takes_a_signal_over_does_not():
    take = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))"
    process = start(SAVING, f"from fljax.host.signals import kept\nwith kept(): {take}\n" + POLLS)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    status, out, _ = end(process)
    assert (status, out) == (143, "saved\n")


def test_a_terminal_that_is_gone_changes_nothing():
    process = start(SAVING, POLLS)
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    out = process.stdout.read()
    assert (process.wait(30), out) == (129, "saved\n")


def catches(process: subprocess.Popen, number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> number - 1 & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("wait", [0.0, 0.2, 0.6])
def test_during_imports_there_is_no_traceback(wait):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-m", "fljax", "list"], env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True
    )
    while not catches(process, signal.SIGHUP):  # from the first line of the command on
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(wait)
    process.send_signal(signal.SIGHUP)
    status, _, err = end(process)
    assert (status, err) == (129, "fljax: interrupted\n")
