"""Batches on this machine: a few threads share its devices, each with a program of its own."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import jax

from fljax.engine.loop import StoppedError
from fljax.simulation.memory import in_words
from fljax.sweeps.batch import Saved
from fljax.sweeps.executors.base import POLL, Finished, Watcher, _Programs, interleaved, run_in_parts
from fljax.sweeps.plan import Batch, Group, Plan


def default_workers() -> int:
    """Threads for the local executor: one a core on a CPU, one a device elsewhere."""
    if jax.default_backend() != "cpu":
        return jax.local_device_count()
    import psutil

    return len(psutil.Process().cpu_affinity() or [0]) if hasattr(psutil.Process, "cpu_affinity") else 1


def run_locally(
    plan: Plan,
    batches: Sequence[Batch],
    *,
    workers: int,
    watcher: Watcher,
    saved: Callable[[Batch], Saved | None],
    asked: Callable[[], bool] = lambda: False,
) -> Generator[Finished]:
    """Run batches on the devices of this process.

    Args:
        plan: the plan they belong to.
        batches: what is to be run.
        workers: threads. On a CPU two programs on two cores are faster than one on both; on accelerators
            every thread has a device.
        watcher: told what happens.
        saved: where a batch saves its state on the way, if anywhere.
        asked: whether to stop before all batches are done, as a signal asks: those under way save their
            state, and programs that are being compiled are not waited for.

    Yields:
        Every batch when it is done, in whatever order. Closing the iterator stops the threads after a call of
        their programs.
    """
    closed = threading.Event()
    running: set[int] = set()

    def stop() -> bool:
        return closed.is_set() or asked()

    waiting: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
    for batch in interleaved(batches, workers):
        waiting.put(batch)
    programs = _Programs(plan, batches, watcher)
    # Threads on a CPU share its device, and with it the programs.
    devices = jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]

    def work(number: int) -> None:
        place = number % len(devices)
        with jax.default_device(devices[place]):
            while not stop():
                try:
                    batch = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    finished.put(one(plan.groups[batch.group], batch, place, number))
                finally:
                    # Not before: whoever sees that nothing runs takes what is finished, and leaves.
                    running.discard(number)

    def one(group: Group, batch: Batch, place: int, number: int) -> Finished:
        try:
            program = programs.get(group, place)
            running.add(number)
            results = run_in_parts(group, batch, program, saved, partial(watcher.progress, batch), stop)
            return Finished(group.resized(program.size), batch, results, program.seconds_compile)
        except StoppedError:
            return Finished(group, batch, [], 0.0)
        except Exception as error:
            return Finished(group, batch, [], 0.0, in_words(error, group.need.largest.lower))
        finally:
            programs.done(group)

    pool = ThreadPoolExecutor(max(1, workers))
    threads: list[Future[Any]] = [pool.submit(work, number) for number in range(workers)]
    left = len(batches)
    try:
        while left and not (asked() and not running) and not all(thread.done() for thread in threads):
            with suppress(queue.Empty):
                yield finished.get(timeout=POLL)
                left -= 1
        while not finished.empty():
            yield finished.get()
    finally:
        closed.set()
        while asked() and running:
            time.sleep(POLL)
        pool.shutdown(wait=not asked())
    for thread in threads:
        if thread.done():
            thread.result()
