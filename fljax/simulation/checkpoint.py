"""Checkpoints: the run's state as one file that is whole, the one before it beside it.

`round_<r>.checkpoint` is a line that says what it is, a line with the SHA-256 of all that follows, a line of
JSON about the run, and the state as msgpack, as `flax.serialization` writes it.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import serialization

from fljax.engine.round import RoundMetrics
from fljax.engine.state import RunState
from fljax.errors import DataError
from fljax.files import read_regular, write_atomically

_NAME = re.compile(r"round_(\d+)\.(checkpoint|msgpack)")
_HEAD = b"fljax checkpoint 1\n"
# How many are kept: the newest, and the one before in case that is damaged.
KEPT = 2
# Bytes for all but the arrays: the lines of a thousand cells with a thousand evaluations each.
MOST_ABOUT = 512_000_000
# What checkpoints may cost of a run's time.
SHARE = 0.02


class Checkpoint(NamedTuple):
    """A saved state.

    Attributes:
        state: the state after some round.
        metrics: of the rounds since the last evaluation, arrays (eval_every,) of which those rounds are
            filled; None right after an evaluation.
        about: plain values about the run.
    """

    state: RunState
    metrics: RoundMetrics | None
    about: dict[str, Any]


class _DamagedError(Exception):
    """Why a file is no checkpoint of this run."""


def save_checkpoint(
    folder: Path, state: RunState, about: Mapping[str, Any] | None = None, metrics: RoundMetrics | None = None
) -> Path:
    """Write `round_<r>.checkpoint`, and remove all but that and the one before it.

    Args:
        folder: the run's `checkpoints` folder.
        state: the state after round r.
        about: plain values to go with it.
        metrics: of an evaluation interval under way.

    Returns:
        The file's path.

    Raises:
        WriteError: if the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round_{_round(state)}.checkpoint"
    plain = {"state": _fields(_plain(state)), **({} if metrics is None else {"metrics": metrics})}
    facts = dict(about or {}) | {"round": _round(state), "partial": metrics is not None}
    body = json.dumps(facts, allow_nan=False).encode() + b"\n" + serialization.to_bytes(jax.device_get(plain))
    write_atomically(path, _HEAD + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    others = [each for each in _files(folder) if each != path]
    for old in others[KEPT - 1 :]:
        old.unlink()
    return path


def load_checkpoint(
    folder: Path,
    like: RunState,
    metrics: RoundMetrics | None = None,
    *,
    run: str | None = None,
    note: Callable[[str], None] = lambda _: None,
    diverged: bool = False,
    aside: bool = True,
) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None if there is none at all.

    Args:
        folder: the run's `checkpoints` folder.
        like: a state of the same structure, for types and shapes.
        metrics: of an evaluation interval, for theirs.
        run: what the checkpoint must say as `about["run"]`, if it says anything.
        note: told of every damaged checkpoint.
        diverged: whether a checkpoint of an earlier version, which does not say so itself, may hold numbers
            that are not finite.
        aside: whether damaged checkpoints get another name, so that nobody tries them again.

    Returns:
        The checkpoint, its state bit for bit as it was saved.

    Raises:
        DataError: if there are checkpoints and none of them can be used; nothing is changed.
    """
    problems: dict[Path, str] = {}
    for path in _files(folder):
        try:
            found = _read(path, like, metrics, run, diverged)
        except (_DamagedError, OSError) as error:
            problems[path] = str(error)
            continue
        for bad, why in problems.items():
            if aside:
                note(f"{bad} {why}; it is put aside, and the run goes on from round {_round(found.state)}")
                bad.replace(bad.with_name(f"{bad.name}.damaged"))
            else:
                note(f"{bad} {why}; the state is that of round {_round(found.state)}")
        return found
    if problems:
        first, *others = (f"{path.name} {why}" for path, why in problems.items())
        more = "".join(f"; {each}" for each in others)
        raise DataError(f"no usable checkpoint in {folder}: {first}{more}")
    return None


class Cadence:
    """The rounds after which a checkpoint is due.

    Args:
        every: rounds; or {"minutes": of wall time}; or "auto", so seldom that writing them takes less than
            2 % of the time.
        done: rounds that are saved.
    """

    def __init__(self, every: int | Mapping[str, float] | Literal["auto"], done: int) -> None:
        self._rounds = every if isinstance(every, int) else None
        self._pause = every["minutes"] * 60.0 if isinstance(every, Mapping) else 0.0
        self._auto = every == "auto"
        self._saved, self._at = done, time.monotonic()

    def due(self, done: int) -> bool:
        """True if the state after so many rounds is to be saved."""
        if self._rounds is not None:
            return done // self._rounds > self._saved // self._rounds
        return time.monotonic() - self._at >= self._pause

    def saved(self, done: int, seconds: float) -> None:
        """The state after so many rounds is saved, which took so long."""
        self._saved, self._at = done, time.monotonic()
        if self._auto:
            self._pause = seconds / SHARE


def _round(state: RunState) -> int:
    return int(np.max(np.asarray(state.round)))


def _files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first."""
    if not folder.is_dir():
        return []
    names = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    # Of two of the same round, first the one with a checksum.
    return [
        path
        for _, _, path in sorted(((int(m[1]), m[2] == "checkpoint", p) for m, p in names if m), reverse=True)
    ]


def _plain(state: RunState) -> RunState:
    """The state with its typed key as an ordinary array, on the host."""
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def _fields(state: RunState) -> dict[str, Any]:
    """A state as its fields by name; what clients keep is not among them where they keep nothing."""
    return {name: value for name, value in state._asdict().items() if name != "client_state" or value != ()}


def _most_bytes(*trees: Any) -> int:
    """The bytes that a checkpoint may have: its arrays, and its notes with the lines of a batch's cells."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(trees)) + MOST_ABOUT


def _read(
    path: Path, like: RunState, metrics: RoundMetrics | None, run: str | None, diverged: bool
) -> Checkpoint:
    content, partial = read_regular(path, _most_bytes(_plain(like), metrics)), None
    about: dict[str, Any] = {}
    if path.suffix == ".checkpoint":
        about, content = _checked(content)
        if run is not None and about.get("run", run) != run:
            raise _DamagedError("is of another run")
        wanted: Any = {"state": _fields(_plain(like)), **({"metrics": metrics} if about["partial"] else {})}
        read = _restore(wanted, content)
        plain, partial, diverged = (
            RunState(**read["state"]),
            read.get("metrics"),
            bool(about.get("diverged", diverged)),
        )
    else:
        plain = RunState(**_restore(_fields(_plain(like)), content))
    if f"round_{_round(plain)}" != path.stem:
        raise _DamagedError(f"holds round {_round(plain)}")
    if not diverged and not np.all(np.isfinite(plain.params)):
        raise _DamagedError("holds parameters that are not finite")
    restored = jax.tree.map(jax.numpy.asarray, plain)
    key = jax.random.wrap_key_data(restored.key, impl=jax.random.key_impl(like.key))
    return Checkpoint(restored._replace(key=key), partial, about)


def _checked(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The file's notes on the run, and the state's bytes."""
    start = len(_HEAD) + 65
    body = content[start:]
    if content[:start] != _HEAD + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise _DamagedError("is damaged (its checksum is wrong)")
    text, _, packed = body.partition(b"\n")
    return json.loads(text), packed


def _restore(like: Any, packed: bytes) -> Any:
    """The tree, of the same structure, shapes and types as `like`."""
    try:
        read = serialization.msgpack_restore(packed)
        if isinstance(like, dict) and "metrics" in like:
            # An earlier version measured fewer numbers of a round.
            gaps = jax.tree.map(lambda blank: np.full(blank.shape, np.nan, blank.dtype), like["metrics"])
            read["metrics"] = gaps._asdict() | read["metrics"]
        tree = serialization.from_state_dict(like, read)
    except Exception as error:  # msgpack and flax raise what they come across in a damaged file
        raise _DamagedError(f"is damaged or of another kind of run ({type(error).__name__})") from None
    wanted, found = (jax.tree_util.tree_leaves_with_path(each) for each in (like, tree))
    if [place for place, _ in wanted] != [place for place, _ in found]:
        raise _DamagedError("is of another kind of run")
    for (place, old), (_, new) in zip(wanted, found, strict=True):
        if _kind(new) != _kind(old):
            name = jax.tree_util.keystr(place).lstrip(".")
            raise _DamagedError(f"is of another kind of run: {name} is {_kind(new)}, expected {_kind(old)}")
    return tree


def _kind(leaf: Any) -> str:
    return (
        f"{leaf.dtype}{list(leaf.shape)}"
        if isinstance(leaf, (np.ndarray, np.generic, jax.Array))
        else type(leaf).__name__
    )


def version_changes(before: Iterable[tuple[str, str]], now: Mapping[str, str]) -> list[str]:
    """The versions that differ, one phrase each.

    Example:
        >>> version_changes([("jax", "0.10.1"), ("numpy", "2.4.6")], {"jax": "0.10.2", "numpy": "2.4.6"})
        ['jax 0.10.1 → 0.10.2']
    """
    return [f"{name} {old} → {now[name]}" for name, old in before if now.get(name, old) != old]
