"""Joining a job of several processes, on one machine or on many."""

from typing import Any

import jax

from fljax.errors import ConfigError, first_line


def join(coordinator: str, processes: int | None = None, process: int | None = None) -> None:
    """Become one of the processes that run together; before JAX is used.

    Args:
        coordinator: HOST:PORT at which the first process is reached; "auto" finds it, and the numbers, where
            Slurm, Open MPI, Kubernetes or a TPU pod have started the processes.
        processes: how many there are.
        process: the number of this one, from 0.

    Raises:
        ConfigError: if the numbers do not fit, or the others cannot be reached.
    """
    given: dict[str, Any] = {}
    if coordinator != "auto":
        host, colon, port = coordinator.rpartition(":")
        if not (host and colon and port.isdecimal()):
            raise ConfigError(f'coordinator={coordinator!r} must be HOST:PORT, or "auto"')
        if processes is None or process is None or not 0 <= process < processes:
            raise ConfigError(
                f"coordinator {coordinator} needs the number of processes and that of this one, from 0, got "
                f"processes={processes} and process={process}"
            )
        given = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
    # On a CPU nobody else talks to other processes.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler of SIGTERM would stand before the one that saves the run.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes did not come together: {first_line(error)}") from None
