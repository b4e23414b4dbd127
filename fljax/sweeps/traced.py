"""Numbers of a configuration that may enter a program as arrays, and what decides the program."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.config.components import parse_tables
from fljax.config.schema import Component, ExperimentConfig, jsonable
from fljax.config.signatures import traceable_parameters
from fljax.simulation.assembly import Parts

# Fields of a configuration that do not decide which program a cell needs; the shapes they lead to do.
NOT_DECISIVE = ("seed", "seeds", "partition", "num_clients", "cohort_size")


# Keys of tables for which the same holds.
ARRAYS: Mapping[str, tuple[str, ...]] = {"root": ("size", "bias", "bias_class"), "attack": ("fraction",)}


def traceable(config: ExperimentConfig) -> dict[str, Any]:
    """Dotted keys of the numbers that may enter a program as arrays, and their values."""
    found: dict[str, Any] = {}

    def look(prefix: str, table: Component, function: Any, hidden: Any = ()) -> None:
        for name, (kind, default) in traceable_parameters(function, hidden).items():
            value = table.parameters.get(name, default)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[f"{prefix}{name}"] = kind(value)

    look("aggregator.", config.aggregator, RULES[config.aggregator.name].function)
    for number, piece in enumerate(config.aggregator.pre):
        look(f"aggregator.pre.{number}.", piece, PRE_AGGREGATORS[piece.name].function)

    def look_at_attack(prefix: str, table: Component) -> None:
        if table.name == "none":
            return
        look(prefix, table, ATTACKS[table.name].function, TASK_ARGUMENTS)
        if "attacks" in table.parameters:
            for number, other in enumerate(parse_tables(prefix, table.parameters["attacks"])):
                look_at_attack(f"{prefix}attacks.{number}.", other)

    look_at_attack("attack.", config.attack)
    for key, part in (("local", config.local), ("server", config.server)):
        if not isinstance(part.learning_rate, Component):
            found[f"{key}.learning_rate"] = float(part.learning_rate)
    return found


def masked(table: Any, arrays: tuple[str, ...]) -> str:
    """A field of a configuration as text, the dotted keys `arrays` of it left open."""
    values = jsonable(table.model_dump() if isinstance(table, pydantic.BaseModel) else table)
    for key in arrays:
        place: Any = values
        *parents, name = key.split(".")
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        place[name] = "traced"
    return json.dumps(values, sort_keys=True, default=str)


def signature(
    parts: Parts, numbers: Mapping[str, Any], mask: Callable[[Any, tuple[str, ...]], str] = masked
) -> str:
    """The key of a cell's program: its configuration as text, without the numbers that may be arrays.

    Args:
        parts: its pieces.
        numbers: from `traceable`.
        mask: `masked`, or a version that remembers.
    """
    arrays = dict(ARRAYS)
    for key in numbers:
        top, _, rest = key.partition(".")
        arrays[top] = (*arrays.get(top, ()), rest)
    fields = [mask(getattr(parts.config, name), arrays.get(name, ())) for name in _DECISIVE]
    shapes = [parts.num_clients, parts.cohort_size, parts.in_cohort, parts.dataset.train_x.shape]
    return " ".join([*fields, str(shapes), str(parts.dataset.test_x.shape)])


def identity(value: Any) -> Any:
    """A table by identity, since cells share them; anything else as it is."""
    return id(value) if isinstance(value, pydantic.BaseModel) else value


FIELDS = sorted(ExperimentConfig.model_fields.keys() - {"seed"})


_DECISIVE = sorted(ExperimentConfig.model_fields.keys() - {*NOT_DECISIVE})
