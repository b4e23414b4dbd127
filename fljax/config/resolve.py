"""A configuration resolved once: its components bound to checked parameters, its optimizers made."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from fljax.attacks import scheduled
from fljax.base import Attack, Task, Trigger, asks
from fljax.config import keys
from fljax.config.components import (
    Bound,
    Traced,
    bind_attack,
    bind_client,
    bind_rule,
    make_attack,
    make_attack_schedule,
)
from fljax.config.optimizers import Optimizer, make_optimizer, make_schedule
from fljax.config.schema import Component, ExperimentConfig
from fljax.engine.evaluate import natural_columns


class Training(NamedTuple):
    """The steps of the clients or of the server.

    Attributes:
        optimizer: learning rate to an optax optimizer.
        rate: a number, where it is traced an array, or round to learning rate.
    """

    optimizer: Optimizer
    rate: Any

    @property
    def schedule(self) -> Callable[[Any], Any]:
        """Round to learning rate."""
        return self.rate if callable(self.rate) else optax.constant_schedule(self.rate)


class Resolved(NamedTuple):
    """The components of a round. Their numbers can be replaced by traced ones, without another check.

    Attributes:
        rule: with what runs before and after it.
        attack: the attack.
        active: which clients would attack in a round; None for all of them in every round.
        local: training of the clients.
        server: training of the server.
        client: what clients do.
        natural: further attacks, whose triggers are evaluated.
    """

    rule: Bound
    attack: Bound
    active: Any
    local: Training
    server: Training
    client: Bound
    natural: tuple[Bound, ...] = ()

    @property
    def numbers(self) -> dict[str, Any]:
        """Dotted keys of the numbers that may enter a program as arrays, and their values."""
        found = {f"aggregator.{key}": value for key, value in self.rule.all_numbers().items()}
        found |= {f"attack.{key}": value for key, value in self.attack.all_numbers().items()}
        found |= {f"client.{key}": value for key, value in self.client.all_numbers().items()}
        for key, part in (("local", self.local), ("server", self.server)):
            if not callable(part.rate):
                found[f"{key}.learning_rate"] = float(part.rate)
        return found

    def replaced(self, traced: Traced) -> "Resolved":
        """The same with some of its `numbers` replaced, by dotted key."""
        local, server = (
            part._replace(rate=traced.get(f"{key}.learning_rate", part.rate))
            for key, part in (("local", self.local), ("server", self.server))
        )
        return self._replace(
            rule=self.rule.replaced(keys.within(traced, "aggregator")),
            attack=self.attack.replaced(keys.within(traced, "attack")),
            local=local,
            server=server,
            client=self.client.replaced(keys.within(traced, "client")),
        )

    def make_attack(self, task: Task) -> Attack:
        """The attack on a task, by its schedule.

        Raises:
            ConfigError: for a value that the attack does not take.
        """
        attack = make_attack(self.attack, task)
        return attack if self.active is None else scheduled(attack, self.active)

    def natural_triggers(self, task: Task) -> dict[str, Trigger]:
        """The triggers of the further attacks on a task, by column; none of those that are made by attacking.

        Raises:
            ConfigError: for a value that one of the attacks does not take.
        """
        found = {}
        columns = natural_columns(each.name for each in self.natural)
        for column, attack in zip(columns, self.natural, strict=True):
            trigger = make_attack(attack, task).trigger
            if trigger is not None and not asks(trigger.embed, "state"):
                found[column] = trigger
        return found


def resolve(config: ExperimentConfig) -> Resolved:
    """Find the components of a round and check their parameters.

    Args:
        config: with numbers for every "actual".

    Returns:
        The `Resolved` components.

    Raises:
        ConfigError: for a name or a parameter that there is not.

    Example:
        >>> from fljax.config import parse_config
        >>> resolve(parse_config({"aggregator": {"name": "trimmed_mean", "trim": 2}})).numbers
        {'aggregator.trim': 2, 'local.learning_rate': 0.1, 'server.learning_rate': 1.0}
    """
    attack = bind_attack(config.attack)
    active = None if config.attack.schedule is None else make_attack_schedule(config.attack.schedule)
    return Resolved(
        bind_rule(config.aggregator),
        attack,
        None if attack.entry is None else active,
        _training("local", config.local),
        _training("server", config.server),
        bind_client(config.client),
        tuple(bind_attack(each) for each in config.attack.natural or ()),
    )


def without_attack(resolved: Resolved) -> Resolved:
    """The same components where nobody attacks."""
    return resolved._replace(attack=bind_attack(Component(name="none")), active=None, natural=())


def _training(key: str, part: Any) -> Training:
    rate = part.learning_rate
    if isinstance(rate, Component):
        rate = make_schedule(f"{key}.learning_rate", rate)
    return Training(make_optimizer(f"{key}.optimizer", part.optimizer), rate)
