"""How much memory there is: of an accelerator, of this machine, of a container, of this process."""

from pathlib import Path
from typing import NamedTuple

import jax

from fljax.errors import ConfigError

# How much too large an estimate may be: only what exceeds the memory by more is refused unseen.
MARGIN = 1.4


class Limit(NamedTuple):
    """Memory that can be had.

    Attributes:
        bytes: how much.
        whose: for a sentence: "6.3 GB are ...".
        margin: how many times as much an estimate may come to.
    """

    bytes: int
    whose: str
    margin: float = MARGIN

    @property
    def most(self) -> float:
        """Bytes that an estimate may come to."""
        return self.margin * self.bytes


def available() -> Limit:
    """What an accelerator has left, or this machine, within the limits of its group and of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if jax.default_backend() != "cpu" and "bytes_limit" in stats:
        return Limit(stats["bytes_limit"] - stats.get("bytes_in_use", 0), "free on the device")
    import psutil

    used = psutil.Process().memory_info().vms
    found = [Limit(psutil.virtual_memory().available, "free on this machine")]
    found += [Limit(limit - held, "left of the container's limit") for limit, held in group_limits()]
    found += [Limit(limit - used, "left of the process's limit (ulimit -v)") for limit in _process_limit()]
    least = min(found)
    return least._replace(bytes=max(least.bytes, 0))


def device_memory(workers: int = 1) -> int:
    """Bytes a program may use: most of an accelerator, or a share of half of the machine's memory.

    It does not depend on what else is running, so that a sweep that is resumed has the same batches.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if jax.default_backend() != "cpu" and "bytes_limit" in stats:
        return int(0.9 * stats["bytes_limit"])
    import psutil

    limits = [psutil.virtual_memory().total, *(limit for limit, _ in group_limits()), *_process_limit()]
    return int(0.5 * min(limits)) // max(workers, 1)


def _process_limit() -> list[int]:
    """The limit of this process's address space, if there is one."""
    try:
        import resource
    except ImportError:  # Windows has none
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if soft == resource.RLIM_INFINITY else [soft]


# Version 2 and version 1 of Linux's control groups: folder, limit, use, and the part of it that can be freed.
_CONTROLLERS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def group_limits(
    proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Limit and use of the control groups of this process, bytes; none where there is no limit."""
    found = []
    try:
        lines = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:
        return []
    for name, limit, current, free in _CONTROLLERS:
        # In a container the path is often that of the host, and its own group is the root.
        paths = [line[2] for line in lines if len(line) == 3 and name in line[1].split(",")]
        for path in dict.fromkeys(each for inner in paths for each in _with_those_above(root / name, inner)):
            try:
                most, used = int((path / limit).read_text()), int((path / current).read_text())
                stat = dict(line.split() for line in (path / "memory.stat").read_text().splitlines())
                found.append((most, max(0, used - int(stat.get(free, 0)))))
            except (OSError, ValueError):  # no such group, or "max"
                continue
    return found


def _with_those_above(root: Path, path: str) -> list[Path]:
    """A group and those it is in."""
    parts = [part for part in path.split("/") if part]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def room(memory: float | None) -> Limit:
    """What the user allows, or what there is.

    Args:
        memory: gigabytes, or None.

    Raises:
        ConfigError: if it is no positive number.
    """
    if memory is None:
        return available()
    if not 0 < memory < float("inf"):
        raise ConfigError(f"memory={memory} must be a positive number of gigabytes")
    return Limit(int(memory * 1e9), "allowed (memory)", 1.0)


def gigabytes(count: float) -> str:
    """Bytes as a person reads them.

    Example:
        >>> gigabytes(48.0016e9), gigabytes(6.31e9), gigabytes(3.2e6)
        ('48 GB', '6.3 GB', '3.2 MB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count / 1e3:.1f} kB"
