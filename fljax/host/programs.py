"""Compiled programs kept for the next process, in JAX's persistent cache, where the command line says so."""

import hashlib
import os
import platform
import re
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

# A folder of the user's choice, or one of these words.
SETTING = "FLJAX_CACHE"
OFF = ("off", "0", "none", "false", "no")
# Bytes of one version and device; a program of a round has some ten to some hundred thousand.
MOST_BYTES = 256 * 2**20
# A program that compiles faster is not worth its file.
LEAST_SECONDS = 0.1
# Days after which the programs of another version or device are dropped, if nothing has read them.
UNUSED = 30
# Names of JAX's: a program's file, and that of when it was last used, which is written after it.
_PROGRAM, _USED, _LOCK = "-cache", "-atime", ".lockfile"
_keeps = False


class Kept(NamedTuple):
    """The programs of one version and device.

    Attributes:
        folder: where they are.
        programs: how many.
        bytes: of all of them.
    """

    folder: Path
    programs: int
    bytes: int


def place() -> Path | None:
    """The folder that holds a folder for every version and device; None where programs are not kept."""
    setting = os.environ.get(SETTING, "").strip()
    if setting.lower() in OFF:
        return None
    return Path(setting).expanduser().absolute() if setting else user_cache_path("fljax") / "programs"


def keep_programs() -> Path | None:
    """Let this process read compiled programs from the user's cache, and add those that it compiles.

    It does nothing if JAX's own settings name a folder or forbid one, and on several devices of a CPU, whose
    programs do not always come back right from JAX's cache. A folder that cannot be written is left alone,
    and a file that cannot be read is dropped. JAX must have its devices already.

    Returns:
        The folder; None if nothing is kept.
    """
    global _keeps
    import jax

    root, config = place(), cast(Any, jax.config)
    if root is None or config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        return None
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        return None
    folder = root / f"jaxlib-{metadata.version('jaxlib')}-{_kind(jax.local_devices()[0])}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            return None
        _tidy(folder)
    except (OSError, Timeout):
        return None
    _drop_unused(root, folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in (
        ("jax_compilation_cache_max_size", MOST_BYTES),
        ("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    if not _keeps:
        _drop_damaged(folder)
    _keeps = True
    return folder


def keeps_programs() -> bool:
    """True once `keep_programs` has found a folder in this process."""
    return _keeps


def kept() -> list[Kept]:
    """The folders of programs that are there."""
    return [
        Kept(folder, len(files := list(folder.glob(f"*{_PROGRAM}"))), sum(map(_size, files)))
        for folder in _folders(place())
    ]


def clear() -> None:
    """Drop all programs that are kept; a process that uses them compiles what it does not find.

    Raises:
        OSError: if one cannot be removed.
    """
    for folder in _folders(place()):
        shutil.rmtree(folder)


def _folders(root: Path | None) -> Iterator[Path]:
    """The folders below that are of this module's making."""
    if root is not None and root.is_dir():
        yield from sorted(path for path in root.glob("jaxlib-*") if path.is_dir())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # dropped by another process
        return 0


def _kind(device: Any) -> str:
    """What programs are compiled for: a processor with its instructions, or the kind of an accelerator."""
    if device.platform != "cpu":
        return re.sub(r"[^A-Za-z0-9.]+", "-", device.device_kind).strip("-").lower()
    lines: list[str] = []
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.startswith(("model name", "flags", "Features"))]
    known = "\n".join(sorted(set(lines))) or platform.processor()
    return f"cpu-{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def _tidy(folder: Path) -> None:
    """Drop what a process that was killed as it wrote has left: a program without the time of its use."""
    with FileLock(folder / _LOCK, timeout=1):
        used = {path.name.removesuffix(_USED) for path in folder.glob(f"*{_USED}")}
        for path in folder.glob(f"*{_PROGRAM}"):
            if path.name.removesuffix(_PROGRAM) not in used:
                path.unlink(missing_ok=True)


def _drop_unused(root: Path, own: Path) -> None:
    """Drop the programs of versions and devices that have not been used for long."""
    oldest = time.time() - UNUSED * 86_400
    for folder in _folders(root):
        # Every use writes a file in it.
        with suppress(OSError):
            if folder != own and max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                shutil.rmtree(folder)


def _drop_damaged(folder: Path) -> None:
    """Answer JAX's warnings of files that it cannot read or write: such a program is compiled, and kept anew.

    JAX goes on without it, but never replaces it.
    """
    shown = warnings.showwarning

    def show(message: Any, *where: Any, **how: Any) -> None:
        if "persistent compilation cache entry" not in str(message):
            shown(message, *where, **how)
            return
        for path in folder.glob(f"*{_PROGRAM}"):
            if not _readable(path):
                path.unlink(missing_ok=True)

    warnings.showwarning = show


def _readable(path: Path) -> bool:
    """True if a program's file is as it was written, or gone."""
    try:
        content = path.read_bytes()
        # JAX uses zstandard where it is installed, whose files begin so.
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            import zstandard

            zstandard.decompress(content)
        else:
            zlib.decompress(content)
    except FileNotFoundError:
        return True
    except Exception:
        return False
    return True
