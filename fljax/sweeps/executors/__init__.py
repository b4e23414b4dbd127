"""The places where the batches of a sweep run: threads of this process, or a Ray cluster."""

from typing import Literal

from fljax.errors import ConfigError
from fljax.sweeps.executors.base import Executor
from fljax.sweeps.executors.threads import Threads

ExecutorName = Literal["local", "ray"]


def make_executor(
    executor: ExecutorName | Executor = "local",
    *,
    workers: int | None = None,
    address: str | None = None,
    ray_cpus: float = 1.0,
    ray_gpus: float | None = None,
) -> Executor:
    """The executor that the options of `fljax.sweep` ask for.

    Args:
        executor: its name, or the executor itself, which then takes no options.
        workers, address, ray_cpus, ray_gpus: as for `fljax.sweep`.

    Raises:
        ConfigError: if there is no such executor, or its options do not fit.
    """
    if not isinstance(executor, str):
        if (workers, address, ray_cpus, ray_gpus) != (None, None, 1.0, None):
            raise ConfigError(
                "executor: an executor of your own takes no workers, address, ray_cpus or ray_gpus"
            )
        return executor
    if executor == "ray":
        from fljax.sweeps.executors.ray import Ray

        return Ray(address, ray_cpus, ray_gpus, workers)
    if executor != "local":
        raise ConfigError(f'executor={executor!r} must be "local" or "ray"')
    if address is not None:
        raise ConfigError(f'address={address!r} is of a Ray cluster and needs executor="ray"')
    return Threads(workers)
