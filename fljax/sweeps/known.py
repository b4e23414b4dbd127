"""A memory of the planner, so that cells share what they have in common: data, clients, checks, programs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import pydantic

from fljax.aggregators import Aggregator, mean, stateless
from fljax.attacks import NO_ATTACK
from fljax.base import Attack
from fljax.config.components import make_aggregator, make_client
from fljax.config.schema import ExperimentConfig
from fljax.data import DATASETS, Dataset
from fljax.engine.state import RoundData
from fljax.errors import ConfigError
from fljax.host.limits import available, gigabytes
from fljax.simulation.assembly import Parts, check_names, compose, facts_of, load_dataset, make_parts
from fljax.simulation.checks import cannot_stream, check_pieces
from fljax.simulation.clients import choose_malicious, with_malicious
from fljax.simulation.known import FACTS, asked
from fljax.simulation.memory import Gradient, gradient_of
from fljax.simulation.model import num_params
from fljax.sweeps.cells import text_of
from fljax.sweeps.traced import ARRAYS, FIELDS, identity, masked, signature

# The tables that the pieces of a cell are made of, besides its data.
_OF_PARTS = (
    "aggregator",
    "attack",
    "local",
    "client",
    "server",
    "model",
    "loss",
    "metrics",
    "stop",
    "validation",
)
# Share of the available memory that data may take before anything runs.
DATA_SHARE = 0.5


class Member(NamedTuple):
    """A cell as the planner sees it.

    Attributes:
        parts: its pieces.
        numbers: dotted keys of the numbers that may enter a program as arrays, and their values.
        program: what decides which program it needs.
    """

    parts: Parts
    numbers: Mapping[str, Any]
    program: str


class Known:
    """The results of earlier cells; keys are the texts of their tables, or the tables themselves."""

    def __init__(self) -> None:
        self._members: dict[Any, Member] = {}
        self._malicious: dict[int, int] = {}
        self._kept: list[ExperimentConfig] = []
        self._texts: dict[int, tuple[Any, str]] = {}
        self._datasets: dict[Any, Dataset] = {}
        self._bytes = 0
        self._clients: dict[Any, RoundData] = {}
        self._parts: dict[Any, Parts] = {}
        self._masked: dict[Any, str] = {}
        self._checked: set[Any] = set()
        # Bytes that every rule and attack that was checked holds beside the updates.
        self._decided: dict[Any, int] = {}
        self._num_params: dict[Any, int] = {}
        # Attacks that ask the rule.
        self._asking: set[Any] = set()
        self._gradients: dict[Any, Gradient] = {}

    def member(self, config: ExperimentConfig) -> Member:
        """A cell, checked with its data.

        Raises:
            ConfigError: if it cannot be run.
            DataError: if its data cannot be read.
        """
        # Most cells differ from one before in their seed alone.
        fields = tuple(identity(getattr(config, name)) for name in FIELDS)
        if fields in self._checked:
            dataset = self._dataset(config)
            data = self._dealt(config, dataset)
            like = self._members.get((fields, *self._shapes(dataset, data))) if data is not None else None
            if data is not None and like is not None:
                if config.aggregator is not like.parts.config.aggregator:
                    config = config.model_copy(update={"aggregator": like.parts.config.aggregator})
                return like._replace(parts=like.parts._replace(config=config, dataset=dataset, data=data))
        parts = self._parts_of(config)
        numbers = parts.resolved.numbers
        self._check(parts)
        member = Member(parts, numbers, signature(parts, numbers, self._mask))
        self._kept.append(config)  # the identities of its tables stay theirs
        self._checked.add(fields)
        self._members[(fields, *self._shapes(parts.dataset, parts.data))] = member
        return member

    def _shapes(self, dataset: Dataset, data: RoundData) -> tuple[Any, ...]:
        """The shapes and counts on which a cell depends besides its tables."""
        if id(data) not in self._malicious:
            self._malicious[id(data)] = int(data.malicious.sum())
        shapes = len(dataset.train_y), len(dataset.test_y), dataset.format
        return (*shapes, len(data.counts), self._malicious[id(data)])

    def gradient(self, parts: Parts) -> Gradient:
        """The cost of training the cell's model."""
        config, attack = parts.config, parts.resolved.make_attack(parts.task)
        trains = attack.train is not None or attack.poison_data is not None
        tables = "model", "loss", "local", "client", "root", *(("attack",) if trains else ())
        sizes = parts.data.table.shape, parts.cohort_size, parts.dataset.format, config.client_chunk
        key = *(self._text(getattr(config, name)) for name in tables), *sizes
        if key not in self._gradients:
            self._gradients[key] = gradient_of(parts)
        return self._gradients[key]

    def _text(self, table: Any) -> str:
        """A table as text; cells share tables, so that it is written once."""
        if not isinstance(table, pydantic.BaseModel):
            return text_of([each.model_dump() for each in table] if isinstance(table, tuple) else table)
        if id(table) not in self._texts:
            self._texts[id(table)] = table, text_of(table.model_dump())
        return self._texts[id(table)][1]

    def _dataset(self, config: ExperimentConfig) -> Dataset:
        # A data set that ignores the seed is read once.
        seed = config.seed_for("data") if DATASETS.find(config.data.name).facts["seeded"] else None
        key = self._text(config.data), seed
        if key not in self._datasets:
            dataset = load_dataset(config)
            if dataset.mapped:
                raise ConfigError(
                    f"data {config.data.name}: mapped is for a run alone; the cells of a sweep share "
                    "examples that are read whole"
                )
            self._bytes += dataset.train_x.nbytes + dataset.test_x.nbytes
            if self._datasets and self._bytes > DATA_SHARE * available().bytes:
                raise ConfigError(
                    f"sweep: its data sets take more than {gigabytes(self._bytes)} of memory, one for each "
                    f"seed ({len(self._datasets):,} so far); take fewer seeds, or set seeds.data for all"
                )
            self._datasets[key] = dataset
        return self._datasets[key]

    def _dealt(self, config: ExperimentConfig, dataset: Dataset) -> RoundData | None:
        """The clients of an earlier cell with the same data, with this cell's attackers; None if none was."""
        data = self._clients.get(self._clients_key(config, dataset))
        return None if data is None else self._with_attackers(config, data)

    def _with_attackers(self, config: ExperimentConfig, data: RoundData) -> RoundData:
        """The same clients, of which those are malicious that the configuration draws."""
        fraction = 0.0 if config.attack.name == "none" else config.attack.fraction
        key = id(data), fraction
        if key not in self._clients:
            malicious = choose_malicious(config.seed_for("data"), len(data.counts), fraction)
            self._clients[key] = with_malicious(data, malicious)
        return self._clients[key]

    def _clients_key(self, config: ExperimentConfig, dataset: Dataset) -> Any:
        tables = [self._text(getattr(config, name)) for name in ("partition", "root", "validation")]
        return id(dataset), config.seed_for("data"), *tables, config.num_clients

    def _parts_of(self, config: ExperimentConfig) -> Parts:
        tables = ("data", "partition", "aggregator", "local", "client", "server", "loss", "metrics")
        named = ("names", *(self._text(getattr(config, name)) for name in tables))
        if named not in self._checked:
            check_names(config)
            self._checked.add(named)
        dataset = self._dataset(config)
        data = self._dealt(config, dataset)
        if data is None:
            dealt = self._clients[self._clients_key(config, dataset)] = make_parts(config, dataset).data
            data = self._with_attackers(config, dealt)
        key = (
            *(self._text(getattr(config, name)) for name in _OF_PARTS),
            *(config.cohort_size, config.streaming, *self._shapes(dataset, data)),
        )
        if key not in self._parts:
            self._parts[key] = make_parts(config, dataset, data=data)
        like = self._parts[key]
        config = config.model_copy(update={"aggregator": like.config.aggregator})
        return like._replace(config=config, dataset=dataset, data=data)

    def _mask(self, table: Any, arrays: tuple[str, ...]) -> str:
        if not isinstance(table, pydantic.BaseModel):
            return masked(table, arrays)
        key = self._text(table), arrays
        if key not in self._masked:
            self._masked[key] = masked(table, arrays)
        return self._masked[key]

    def decided(self, parts: Parts) -> int:
        """Bytes that a checked cell's rule and attack hold beside the updates."""
        return max(self._decided[key] for key in self._pieces(parts))

    def _pieces(self, parts: Parts) -> tuple[Any, Any]:
        """The keys of the checks of the rule and of the attack."""
        config = parts.config
        sizes = (parts.num_clients, parts.cohort_size, parts.dataset.format, parts.streams, self._d(parts))
        attack = self._mask(config.attack, ARRAYS["attack"])
        facts: tuple[str, ...] = ()
        if asked(parts.resolved.rule, parts.resolved.attack) & FACTS:
            facts = self._text(config.model), self._text(config.loss), self._text(config.root)
        return (self._text(config.aggregator), sizes, facts), (attack, sizes, facts)

    def _d(self, parts: Parts) -> int:
        """The number of parameters of a cell's model."""
        key = self._text(parts.config.model), parts.dataset.format
        if key not in self._num_params:
            shapes = jax.eval_shape(parts.model.init, jax.random.key(0))
            self._num_params[key] = num_params(shapes)
        return self._num_params[key]

    def _check(self, parts: Parts) -> None:
        """Check rule and attack on their own, and together if the attack asks the rule."""
        config = parts.config
        if parts.streams and (obstacle := cannot_stream(parts.resolved)):
            raise ConfigError(obstacle)

        def check(rule: Aggregator, attack: Attack) -> int:
            sizes = (parts.num_clients, parts.cohort_size, parts.dataset.format)
            facts = facts_of(parts, _asked(parts, attack))
            return check_pieces(
                rule, attack, *sizes, streams=parts.streams, num_params=self._d(parts), **facts
            )

        rest = tuple(
            self._text(getattr(config, name)) for name in ("local", "client", "root", "server", "model")
        )
        if rest not in self._checked:
            compose(parts, check=False)
        rule, attack = pieces = self._pieces(parts)
        if rule not in self._decided:
            self._decided[rule] = check(make_aggregator(parts.resolved.rule), NO_ATTACK)
        if attack not in self._decided:
            spy = _Spy()
            self._decided[attack] = check(spy.rule, parts.resolved.make_attack(parts.task))
            if spy.asked > 1:
                self._asking.add(attack)
        whole = (*pieces, self._text(config.client))
        together = attack in self._asking or make_client(parts.resolved.client).num_messages > 0
        if together and whole not in self._checked:
            compose(parts)
        self._checked |= {rest, whole}


def _asked(parts: Parts, attack: Attack) -> set[str]:
    """What a cell's rule and attack ask of the model and the task."""
    names = asked(parts.resolved.rule, parts.resolved.attack)
    return names if attack.train is None else names | set(attack.train.needs)


class _Spy:
    """The mean, as a rule that counts its calls: more than one if the attack asks the rule, too."""

    def __init__(self) -> None:
        self.asked = 0
        plain = stateless(mean)

        def aggregate(*arguments: Any) -> Any:
            self.asked += 1
            return plain.aggregate(*arguments)

        self.rule = Aggregator(plain.init, aggregate)
