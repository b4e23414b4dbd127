"""The cores of a processor as devices of their own."""

import os

import jax

from fljax.errors import ConfigError

_made = 0


def use_cores(count: int | None = None) -> int:
    """Make devices of the processor's cores, on which the clients of a round are divided.

    Whether that is faster depends on the machine and the model; on two cores it was not. It must be called
    before JAX is used for the first time in a process, since JAX then settles its devices.

    Args:
        count: how many; None for all cores that this process may use.

    Returns:
        The number of devices.

    Raises:
        ConfigError: if `count` is not between 1 and 1,024, or JAX has settled its devices.

    Example:
        >>> import fljax
        >>> fljax.use_cores(2)  # doctest: +SKIP
        2
    """
    global _made
    wanted = count_cores() if count is None else count
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= 1024:
        raise ConfigError(f"use_cores: count={count!r} must be a whole number between 1 and 1,024")
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        there = len(jax.devices("cpu"))
        if there < wanted:
            raise ConfigError(
                f"use_cores must be called before JAX is used: it has settled for {there} of {wanted} devices"
            ) from None
    _made = wanted
    return wanted


def cores_in_use() -> int:
    """The devices that `use_cores` has made of the processor; 1 if it was not called."""
    return max(_made, 1)


def count_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
