"""The stages of a round that groups of a sweep may share, and what decides the program of each."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from fljax.attacks import NO_ATTACK
from fljax.base import Attack
from fljax.config.components import make_client
from fljax.config.resolve import without_attack
from fljax.simulation.assembly import Parts
from fljax.simulation.model import clients_at_once
from fljax.sweeps.traced import signature


class Recipe(NamedTuple):
    """What a stage of a round is made of.

    Attributes:
        name: of the stage.
        parts: of a run; without an attack if the stage reads none.
        reads: tables of the configuration whose numbers it reads, of those that may be arrays.
    """

    name: str
    parts: Parts
    reads: frozenset[str]

    def numbers(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some numbers by dotted key that the stage reads."""
        return {key: value for key, value in values.items() if key.partition(".")[0] in self.reads}

    def asking(self) -> "Recipe":
        """The same stage if it asks the rule."""
        return self._replace(reads=self.reads | {"aggregator"})

    def text(self, traced: Iterable[str]) -> str:
        """What decides the stage's program, but for the shapes of its arguments.

        Args:
            traced: dotted keys of the numbers that are arguments.
        """
        parts = self.parts
        numbers = self.numbers(parts.resolved.numbers)
        fixed = {key: value for key, value in numbers.items() if key not in traced}
        model = jax.eval_shape(parts.model.init, jax.random.key(0))
        at_once = clients_at_once(parts.config, model, parts.cohort_size, parts.data.counts)
        most = parts.task.max_malicious if "attack" in self.reads else None
        tables = signature(parts, numbers, leaving_out=_PIECES - self.reads)
        return json.dumps([self.name, tables, fixed, at_once, most], default=str)


# Tables that not every stage reads, and those that all of a round may read.
_PIECES = frozenset({"aggregator", "attack"})
_TRAINING = ("local", "client", "server")


class Recipes(NamedTuple):
    """The stages of a run's rounds.

    Attributes:
        train: local training.
        root: the server's own training.
        corrupt: what attackers make of the updates; None if they change none.
        finish: the rule and the server's step.
        evaluate: the evaluation between rounds.
    """

    train: Recipe
    root: Recipe
    corrupt: Recipe | None
    finish: Recipe
    evaluate: Recipe


def recipes(parts: Parts) -> Recipes:
    """The stages of a run's rounds, each with what it reads."""
    attack = parts.resolved.make_attack(parts.task)
    plain = parts._replace(resolved=without_attack(parts.resolved))

    def recipe(name: str, reads_attack: bool, *others: str) -> Recipe:
        reads = frozenset(("attack", *others) if reads_attack else others)
        return Recipe(name, parts if reads_attack else plain, reads)

    triggers = attack.trigger is not None or bool(attack.triggers) or bool(parts.resolved.natural)
    return Recipes(
        train=recipe("train", _acts_before_sending(attack), *_TRAINING),
        root=recipe("root", False, *_TRAINING),
        corrupt=None if attack.corrupt is NO_ATTACK.corrupt else recipe("corrupt", True, *_TRAINING),
        finish=recipe("finish", attack.active is not None, "aggregator", *_TRAINING),
        evaluate=recipe("evaluate", triggers),
    )


def can_be_staged(parts: Parts) -> bool:
    """True if a run's rounds can be several programs: those of one stack, which is there as a whole."""
    return not parts.streams and make_client(parts.resolved.client).num_messages == 0


def _acts_before_sending(attack: Attack) -> bool:
    return attack.poison_data is not None or attack.train is not None or attack.prepare is not None
