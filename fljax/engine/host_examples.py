"""Clients' examples that stay on the host, in memory or in a mapped file, until the clients train."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.engine.state import RoundData, of_server


class HostExamples:
    """The examples of some clients at a time, read on the host while the device computes with others'.

    A compiled round asks for those of a chunk of clients or of a cohort, and says whose it will ask for next:
    a thread reads them meanwhile. At most the examples of two chunks are held.
    """

    def __init__(self, data: RoundData) -> None:
        """Keep where the examples are: the data of a round, on the host, with inputs in a mapped file."""
        self._x, self._y = data.x, data.y
        self._table, self._counts = np.asarray(data.table), np.asarray(data.counts)
        self._reader = ThreadPoolExecutor(1, "fljax-examples")
        self._lock = threading.Lock()
        self._ahead: tuple[np.ndarray, Future[Any]] | None = None

    def of(self, data: RoundData, client_ids: Array, following: Array) -> RoundData:
        """The data of a round with the examples of some clients, whose rows in the table are 0, 1, …

        Args:
            data: of the round.
            client_ids: (k,) int32.
            following: int32, the clients that will be asked for next.
        """
        k, width = client_ids.shape[0], self._table.shape[1]
        shapes = [
            jax.ShapeDtypeStruct((k, width, *array.shape[1:]), array.dtype) for array in (self._x, self._y)
        ]
        x, y = jax.pure_callback(self.read, shapes, client_ids, following, vmap_method="sequential")
        return data._replace(
            x=x.reshape(k * width, *x.shape[2:]),
            y=y.reshape(k * width, *y.shape[2:]),
            table=jnp.arange(k * width, dtype=jnp.int32).reshape(k, width),
            counts=data.counts[client_ids],
        )

    def read(self, client_ids: Any, following: Any) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (k, s_max, *input_shape) and labels (k, s_max, ...) of clients; 0 in empty slots."""
        wanted, following = np.asarray(client_ids), np.asarray(following)
        with self._lock:
            ahead = self._ahead
            # The last chunk of a cohort may be smaller than those before.
            if ahead is not None and np.array_equal(ahead[0][: len(wanted)], wanted):
                found = [part[: len(wanted)] for part in ahead[1].result()]
            else:
                found = self._gather(wanted)
            if len(following):
                self._ahead = following, self._reader.submit(self._gather, following)
        return found[0], found[1]

    def _gather(self, client_ids: np.ndarray) -> list[np.ndarray]:
        table, counts = self._table[client_ids], self._counts[client_ids]
        there = np.arange(table.shape[1]) < counts[:, None]
        places = table[there]
        # In the order of the file.
        order = np.argsort(places, kind="stable")
        found = []
        for array in (self._x, self._y):
            of_clients = np.zeros((*table.shape, *array.shape[1:]), array.dtype)
            rows = np.empty((len(places), *array.shape[1:]), array.dtype)
            rows[order] = array[places[order]]
            of_clients[there] = rows
            found.append(of_clients)
        return found


def without_clients(data: RoundData) -> RoundData:
    """The data of a round whose clients' examples stay on the host: with those of the server alone.

    Args:
        data: on the host; `x` holds the root dataset and the validation examples in the result, in this
            order.
    """
    order, positions = of_server(data)
    x: Any = np.asarray(data.x[order])
    y: Any = np.asarray(data.y)[order]
    table: Any = np.empty((len(data.counts), 0), np.int32)
    return data._replace(x=x, y=y, table=table, **positions)
