"""Checkpoints: the run's state as one file that is either whole or not there."""

import os
import re
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from flax import serialization

from fljax.errors import DataError
from fljax.types import RunState

Tree = TypeVar("Tree")
_NAME = re.compile(r"round_(\d+)\.msgpack")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds less than all of it: write beside it, flush, rename."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _plain(state: RunState) -> RunState:
    """The state with its typed key as an ordinary array, on the host."""
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def save_checkpoint(folder: Path, state: RunState) -> Path:
    """Write `round_<r>.msgpack` and remove the older ones.

    Args:
        folder: the run's `checkpoints` folder.
        state: the state after round r.

    Returns:
        The file's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round_{int(np.max(np.asarray(state.round)))}.msgpack"
    write_atomically(path, serialization.to_bytes(_plain(state)))
    for old in folder.iterdir():
        if _NAME.fullmatch(old.name) and old != path:
            old.unlink()
    return path


def load_checkpoint(folder: Path, like: RunState) -> RunState | None:
    """The newest checkpoint, or None if there is none.

    Args:
        folder: the run's `checkpoints` folder.
        like: a state of the same structure, for types and shapes.

    Returns:
        The state, bit for bit as it was saved.
    """
    rounds = (
        [int(m[1]) for m in (_NAME.fullmatch(path.name) for path in folder.iterdir()) if m]
        if folder.is_dir()
        else []
    )
    if not rounds:
        return None
    path = folder / f"round_{max(rounds)}.msgpack"
    try:
        plain = serialization.from_bytes(_plain(like), path.read_bytes())
    except Exception as error:  # msgpack and flax raise what they come across in a damaged file
        raise DataError(f"{path} is damaged or of another kind of run ({type(error).__name__})") from None
    restored = jax.tree.map(jax.numpy.asarray, plain)
    key = jax.random.wrap_key_data(restored.key, impl=jax.random.key_impl(like.key))
    return restored._replace(key=key)
