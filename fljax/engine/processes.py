"""The processes of a job that run one program together, and what they have to agree on."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fljax.engine.keys import on_data


def is_first() -> bool:
    """True in the process that writes and reports, which in a job of one is the only one."""
    return jax.process_index() == 0


def of_another(error: Exception) -> bool:
    """True for the error of an exchange with a process that is gone."""
    words = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service")
    return jax.process_count() > 1 and any(word in str(error) for word in words)


def agreed(value: int) -> int:
    """The number that the first process has, in all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_of(flag: bool) -> bool:
    """True in all processes if it is in any."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


def told(text: bytes) -> bytes:
    """The bytes that the first process has, in all of them."""
    if jax.process_count() == 1:
        return text
    size = agreed(len(text))
    line = np.zeros(size, np.uint8)
    if is_first():
        line[:] = np.frombuffer(text, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(line)).astype(np.uint8).tobytes()


def told_arrays(tree: Any) -> Any:
    """The arrays that the first process has, in all of them, which have a tree of the same shapes."""
    if jax.process_count() == 1:
        return tree

    def told_array(array: Any) -> Any:
        return multihost_utils.broadcast_one_to_all(np.asarray(array))

    return jax.tree.map(lambda leaf: on_data(told_array, leaf), tree)


def whole(tree: Any) -> Any:
    """Arrays of which every process holds its part, as a whole in each; typed keys stay keys."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: on_data(_whole, leaf), tree)


def _whole(array: Any) -> Any:
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return array
    if array.is_fully_replicated:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)
