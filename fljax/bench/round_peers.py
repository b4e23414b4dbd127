"""Peers that do the work of a round; each is imported where it is asked for."""

from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from fljax.bench import flower_rounds, pfl_rounds, torch_loop
from fljax.bench.flower_rounds import FlowerRounds
from fljax.bench.pfl_rounds import PflRounds
from fljax.errors import first_line
from fljax.host.cores import count_cores
from fljax.simulation.experiment import Experiment


class Contender(NamedTuple):
    """A peer, or one way to write one.

    Attributes:
        library: its name.
        name: the name of the row.
        step: one round, which is over when it returns.
        shares: shares of a round's time by name, as far as they are known.
        close: ends what it has started.
    """

    library: str
    name: str
    step: Callable[[], object]
    shares: Callable[[], dict[str, float]] = dict
    close: Callable[[], object] = lambda: None


def _torch_loops(experiment: Experiment) -> list[Contender]:
    shape, cuda = experiment.dataset.input_shape, torch_loop.on_cuda(experiment)
    found = []
    for way in torch_loop.ways(experiment.config, shape, count_cores(), cuda):
        loop = torch_loop.TorchLoop(experiment, way)
        found.append(Contender(torch_loop.NAME, loop.name, loop, loop.shares))
    return found


def _pfl(experiment: Experiment) -> list[Contender]:
    rounds = PflRounds(experiment, count_cores())
    return [Contender(pfl_rounds.NAME, pfl_rounds.NAME, rounds)]


def _flower(experiment: Experiment) -> list[Contender]:
    rounds = FlowerRounds(experiment)
    return [Contender(flower_rounds.NAME, flower_rounds.NAME, rounds, close=rounds.close)]


PEERS: dict[str, Callable[[Experiment], list[Contender]]] = {
    torch_loop.NAME: _torch_loops,
    pfl_rounds.NAME: _pfl,
    flower_rounds.NAME: _flower,
}


def versions() -> dict[str, str]:
    """Versions of what is installed of the peers."""
    found = {}
    for package in ("torch", "pfl", "flwr", "ray"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def contenders(experiment: Experiment) -> tuple[list[Contender], dict[str, str]]:
    """All peers that can do the work of an experiment, and why the others cannot."""
    found: list[Contender] = []
    left_out = {}
    for name, make in PEERS.items():
        try:
            found += make(experiment)
        except ImportError:
            left_out[name] = "not installed"
        except Exception as error:  # what a peer cannot do must not cost our figure
            left_out[name] = first_line(error)
    return found, left_out
