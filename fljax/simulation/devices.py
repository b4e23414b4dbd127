"""The configured devices."""

from contextlib import suppress

import jax
from jax.sharding import Mesh

from fljax.config.schema import DevicesConfig, ExperimentConfig
from fljax.engine.mesh import make_mesh
from fljax.errors import ConfigError
from fljax.host.cores import cores_in_use, use_cores

_FOR_ONE_DEVICE = (
    "the examples of a mapped file are read for one device, unless all clients train in every round with "
    "examples that nobody else reads"
)


def settle(config: ExperimentConfig) -> None:
    """Make as many devices of a CPU's cores as a configuration asks for; too late once JAX is used."""
    asked = config.devices
    if isinstance(asked, DevicesConfig) and asked.runs * asked.clients > 1:
        with suppress(ConfigError):  # what there is then is said by `mesh_of`
            use_cores(asked.runs * asked.clients)


def usable() -> int:
    """The devices that "auto" takes: all, but of a CPU alone those of `use_cores`."""
    alone_on_a_cpu = jax.default_backend() == "cpu" and jax.process_count() == 1
    return min(cores_in_use(), jax.device_count()) if alone_on_a_cpu else jax.device_count()


def shared_among(
    config: ExperimentConfig,
    cohort_size: int,
    runs: int | None = None,
    mapped: bool = False,
    apart: bool = False,
) -> tuple[int, int]:
    """The numbers of devices that runs, and the clients of each, are to be divided among.

    Those that a configuration gives need not be here.

    Args:
        config: the configuration.
        cohort_size: τ; more devices than clients have nothing to do.
        runs: how many runs a batch of a sweep holds; None for a run alone.
        mapped: whether clients' examples are in a mapped file. It is read as they train, for one device;
            several devices get those of their own clients before the first round, where `apart`.
        apart: whether nobody but a client's own device ever needs its examples.

    Raises:
        ConfigError: if the configuration divides a run alone, or more than there is to divide.
    """
    asked = config.devices
    if not isinstance(asked, DevicesConfig):
        if mapped and not (apart and jax.process_count() > 1):
            return 1, 1
        free = usable()
        among_runs = largest_divisor(runs or 1, free)
        return among_runs, min(free // among_runs, cohort_size)
    if mapped and not apart and asked.clients > 1:
        raise ConfigError(f"devices.clients={asked.clients}: {_FOR_ONE_DEVICE}, so that it must be 1")
    if runs is None and asked.runs > 1:
        raise ConfigError(
            f"devices.runs={asked.runs}: a run alone is divided among devices.clients; give runs = 1"
        )
    if asked.clients > cohort_size:
        raise ConfigError(
            f"devices.clients={asked.clients} must not exceed the {cohort_size} clients of a round"
        )
    return min(asked.runs, runs or 1), asked.clients


def mesh_of(
    config: ExperimentConfig,
    cohort_size: int,
    runs: int | None = None,
    mapped: bool = False,
    apart: bool = False,
) -> Mesh | None:
    """The mesh that a configuration asks for; None for one device. Arguments as for `shared_among`.

    Raises:
        ConfigError: if it asks for more devices than there are, or for some that would have nothing to do.
    """
    among, asked = shared_among(config, cohort_size, runs, mapped, apart), config.devices
    there, processes = jax.device_count(), jax.process_count()
    if isinstance(asked, DevicesConfig) and (count := asked.runs * asked.clients) > there:
        raise ConfigError(
            f"devices: runs={asked.runs} × clients={asked.clients} are {count}, and there "
            + ("is 1" if there == 1 else f"are {there}")
            + (": on a CPU call fljax.use_cores before JAX is used" if jax.default_backend() == "cpu" else "")
        )
    if mapped and not apart and processes > 1:
        raise ConfigError(f"{_FOR_ONE_DEVICE}, and this job has {processes} processes")
    return _of_job(*among)


def _of_job(runs: int, clients: int) -> Mesh | None:
    """The mesh; the processes of a job have a part of it each."""
    if jax.process_count() > 1 and runs * clients != jax.device_count():
        raise ConfigError(
            f"devices: {runs} × {clients} are asked for, and the {jax.process_count()} processes of this job "
            f"use all of their {jax.device_count()} devices"
        )
    return make_mesh(runs, clients)


def largest_divisor(count: int, most: int) -> int:
    """The largest number up to `most` that divides `count`.

    Example:
        >>> largest_divisor(6, 4), largest_divisor(7, 4)
        (3, 1)
    """
    return max(number for number in range(1, max(most, 1) + 1) if count % number == 0)
