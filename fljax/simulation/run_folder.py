"""A run's folder: config.json, metrics.jsonl, summary.json, checkpoints/, curves.png."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from fljax.config import keys
from fljax.config.plugins import without_folders
from fljax.config.schema import WITHOUT_EFFECT, parse_config
from fljax.engine.loop import Pause, Record, Start, no_metrics
from fljax.engine.processes import told, told_arrays
from fljax.engine.state import RunState
from fljax.errors import ConfigError, DataError
from fljax.files import read_json, write_atomically
from fljax.host.locking import LOCK, FolderLock, check_free
from fljax.simulation.checkpoint import Cadence, load_checkpoint, save_checkpoint, version_changes
from fljax.simulation.lines import Line, LineFile, to_json

# A lock, and the beginnings of the first file of a run or a sweep.
_FIRST = {LOCK, ".config.json.partial", ".sweep.json.partial"}


def is_empty(path: Path) -> bool:
    """True for a folder with nothing but leftovers of a process that was killed before its first file."""
    return all(each.name in _FIRST for each in path.iterdir())


def check_folder(path: Path) -> None:
    """Raise a ConfigError unless `path` is a new or empty folder, or can become one."""
    try:
        if path.is_dir():
            if not is_empty(path):
                raise ConfigError(f"{path} holds files already; use --resume or another folder")
            nearest = path
        else:
            nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    except OSError as error:
        raise ConfigError(f"cannot use {path} as a folder: {error.strerror}") from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = "cannot be written to" if nearest.is_dir() else "is a file"
        raise ConfigError(f"cannot use {path} as a folder: {nearest} {what}")


def check_run_folder(path: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise unless a run with this configuration can start, or continue, in `path`; writes nothing."""
    existing = path / "config.json"
    check_free(path)
    if not resume:
        check_folder(path)
    elif existing.is_file():
        before = read_json(existing)
        if not isinstance(before, dict):
            raise DataError(f"{existing} is damaged: it holds no configuration")
        _same_config(path, before, config)
    elif path.is_dir() and not is_empty(path):
        raise ConfigError(f"{path} holds no run to resume")
    else:
        check_folder(path)


class Begun(NamedTuple):
    """The place from which a run goes on.

    Attributes:
        start: the initial state, or that of the last checkpoint.
        lines: of metrics.jsonl up to there.
        seconds_wall: what everything up to there has taken.
    """

    start: Start
    lines: Sequence[Line] = ()
    seconds_wall: float = 0.0


def told_begun(begun: Begun, eval_every: int) -> Begun:
    """The place from which the first process of a job goes on, in all of them."""
    start = begun.start
    text = {
        "lines": list(begun.lines),
        "seconds": start.seconds,
        "seconds_wall": begun.seconds_wall,
        "inside": start.metrics is not None,
    }
    facts = json.loads(told(json.dumps(text).encode()))
    state, metrics = told_arrays((start.state, start.metrics or no_metrics(eval_every)))
    start = Start(state, metrics if facts["inside"] else None, facts["seconds"])
    return Begun(start, facts["lines"], facts["seconds_wall"])


class RunFolder:
    """Writes one run's folder, which no other process may write; nothing in it is ever half-written.

    Args:
        path: the folder.
        config: the resolved configuration.
        resume: continue the run that is there, which must have the same configuration.
        facts: what the run is computed on and with, as summary.json records it.
        note: told, in a sentence each, what a person should know about the run.

    Raises:
        ConfigError: if the folder holds something and `resume` is False, or another configuration, or if
            another process uses it.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        resume: bool,
        facts: Mapping[str, Any] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self._config, self._tell = path, config, note
        facts = facts or {}
        self._environment = {"device": facts.get("device", ""), **facts.get("versions", {})}
        self.checkpoints = path / "checkpoints"
        self.notes: list[str] = []
        check_run_folder(path, config, resume)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(path)
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            if not resume and not is_empty(path):  # another process was faster
                raise ConfigError(f"{path} holds files already; use --resume or another folder")
            if not (path / "config.json").exists():
                self.write_json("config.json", config)
            # A run is known by this file, whose text never changes.
            self._identity = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()[:16]
            undo.pop_all()
        self._metrics = LineFile(path / "metrics.jsonl", self.note)
        self._cadence = Cadence(config.get("checkpoint_every", "auto"), 0)

    def close(self) -> None:
        """Let others write the folder."""
        self._lock.release()

    def note(self, text: str) -> None:
        """Tell a person, and keep it for summary.json."""
        self.notes.append(text)
        self._tell(text)

    def begin(self, state: RunState) -> Begun:
        """The last checkpoint, or the initial state, and the lines of metrics.jsonl up to there.

        Args:
            state: the initial one.

        Raises:
            DataError: if no checkpoint can be used, or the lines are not those the run has written.
        """
        eval_every = self._config["eval_every"]
        found = load_checkpoint(
            self.checkpoints,
            state,
            no_metrics(eval_every),
            run=self._identity,
            note=self.note,
            diverged=self._metrics.ends_diverged(),
        )
        if found is None:
            if self._metrics.path.exists():
                self.note(f"{self.path} has no checkpoint: the run starts again from round 0")
            self._restore(0, None)
            return Begun(Start(state))
        done, about = int(found.state.round), found.about
        lines = self._restore(done - done % eval_every, about.get("lines"))
        self.notes = [*about.get("notes", []), *self.notes]
        if "environment" not in about:
            self.note(
                f"round {done} was saved by an earlier version of fljax: without a checksum, and with "
                "library versions that are not known"
            )
        changes = version_changes(about.get("environment", {}).items(), self._environment)
        if changes:
            self.note(
                f"from round {done} on the run is computed with {', '.join(changes)}: its numbers may differ "
                "from those of a run in one piece"
            )
        self._cadence = Cadence(self._config.get("checkpoint_every", "auto"), done)
        start = Start(found.state, found.metrics, about.get("seconds", 0.0))
        return Begun(start, lines, about.get("seconds_wall", 0.0))

    def _restore(self, last: int, digest: str | None) -> list[Line]:
        """As `LineFile.restore`; a summary of lines that are dropped is none any more."""
        lines = self._metrics.restore(last, self._config["eval_every"], digest)
        if self._metrics.shortened:
            (self.path / "summary.json").unlink(missing_ok=True)
        return lines

    def append(self, line: Line) -> None:
        """Add one line to metrics.jsonl."""
        self._metrics.append(line)

    def due(self, done: int) -> bool:
        """True if the state after so many rounds should be saved."""
        return self._cadence.due(done)

    def save(self, at: Record | Pause, seconds_wall: float) -> None:
        """Write a checkpoint, after the lines it counts on.

        Args:
            at: where the run is.
            seconds_wall: what everything up to there has taken.
        """
        start = time.perf_counter()
        self._metrics.sync()
        paused = isinstance(at, Pause)
        about = {
            "run": self._identity,
            "lines": self._metrics.digest,
            "diverged": at.diverged,
            "environment": self._environment,
            "notes": self.notes,
            "seconds": at.seconds if paused else 0.0,
            "seconds_wall": seconds_wall,
        }
        save_checkpoint(self.checkpoints, at.state, about, at.metrics if paused else None)
        self._cadence.saved(at.round, time.perf_counter() - start)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, after the lines it summarises; its notes are `self.notes`."""
        self._metrics.sync()
        self.write_json("summary.json", {**summary, "notes": self.notes})

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file in one step."""
        write_atomically(self.path / name, (to_json(values, indent=2) + "\n").encode())


def _same_config(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = (keys.flatten(without_folders(values)) for values in (_with_defaults(old), new))
    changed = sorted(
        key
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key) and key.split(".")[0] not in WITHOUT_EFFECT
    )
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} → {after.get(key)}" for key in changed[:5])
        raise ConfigError(f"{path} holds a run with another configuration ({shown})")


def _with_defaults(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration of an earlier version, which may have had fewer keys."""
    try:
        return parse_config(values).resolved()
    except ConfigError:
        return values
