"""Batches on this machine: a few threads share its devices, each with a program of its own."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import jax

from fljax.sweeps.executors.base import POLL, Finished, Work, interleaved, number_of_workers
from fljax.sweeps.plan import Batch, Group
from fljax.sweeps.program import GroupProgram


class Threads:
    """Runs batches on the devices of this process.

    On a CPU two programs on two cores are faster than one on both; on accelerators every thread has a device.

    Args:
        workers: threads; None for one a core on a CPU, one a device elsewhere.

    Raises:
        ConfigError: if `workers` is not positive.
    """

    in_process = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = number_of_workers(workers)

    @contextmanager
    def run(self, work: Work) -> Iterator[Iterator[Finished]]:
        """Begin to run batches; see `Executor`.

        If `work.stop` says so, batches under way save their state, and programs that are being compiled are
        not waited for. On leaving, the threads end after a call of their programs.
        """
        with closing(_finished(work, self.workers)) as finished:
            yield finished


def _finished(work: Work, workers: int) -> Generator[Finished]:
    closed = threading.Event()
    running: set[int] = set()

    def stop() -> bool:
        return closed.is_set() or work.stop()

    waiting: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
    for batch in interleaved(work.batches, workers):
        waiting.put(batch)
    programs, here = _Programs(work), work._replace(stop=stop)
    # Threads on a CPU share its device, and with it the programs.
    devices = jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]

    def one_after_another(number: int) -> None:
        place = number % len(devices)

        def compiled(group: Group) -> GroupProgram:
            program = programs.get(group, place)
            running.add(number)
            return program

        with jax.default_device(devices[place]):
            while not stop():
                try:
                    batch = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    finished.put(here.run(batch, compiled))
                finally:
                    programs.done(batch.group)
                    # Not before: whoever sees that nothing runs takes what is finished, and leaves.
                    running.discard(number)

    pool = ThreadPoolExecutor(max(1, workers))
    threads: list[Future[Any]] = [pool.submit(one_after_another, number) for number in range(workers)]
    left = len(work.batches)
    try:
        while left and not (work.stop() and not running) and not all(thread.done() for thread in threads):
            with suppress(queue.Empty):
                yield finished.get(timeout=POLL)
                left -= 1
        while not finished.empty():
            yield finished.get()
    finally:
        closed.set()
        while work.stop() and running:
            time.sleep(POLL)
        pool.shutdown(wait=not work.stop())
    for thread in threads:
        if thread.done():
            thread.result()


class _Programs:
    """The program of every group on every device, compiled by the first thread that needs it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._futures: dict[tuple[int, int], Future[GroupProgram]] = {}
        self._left: dict[int, int] = {}
        for batch in work.batches:
            self._left[batch.group] = self._left.get(batch.group, 0) + 1

    def get(self, group: Group, device: int) -> GroupProgram:
        with self._lock:
            first = (group.number, device) not in self._futures
            future = self._futures.setdefault((group.number, device), Future())
        if first:
            try:
                future.set_result(self._work.compile(group))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def done(self, number: int) -> None:
        """Forget a group's programs after the last of its batches."""
        with self._lock:
            self._left[number] -= 1
            if not self._left[number]:
                for key in [key for key in self._futures if key[0] == number]:
                    del self._futures[key]
