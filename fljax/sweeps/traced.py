"""The text that decides which program a cell of a sweep needs."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pydantic

from fljax.config import keys
from fljax.config.schema import ExperimentConfig, jsonable
from fljax.simulation.assembly import Parts, asks_for_clients
from fljax.simulation.clients import num_test_clients

# Fields of a configuration that do not decide which program a cell needs; the shapes they lead to do.
NOT_DECISIVE = ("seed", "seeds", "partition", "num_clients", "cohort_size", "stop", "plugins")


# Keys of tables for which the same holds.
ARRAYS: Mapping[str, tuple[str, ...]] = {"root": ("size", "bias", "bias_class"), "attack": ("fraction",)}


def masked(table: Any, arrays: tuple[str, ...]) -> str:
    """A field of a configuration as text, the dotted keys `arrays` of it left open."""
    values = jsonable(table.model_dump() if isinstance(table, pydantic.BaseModel) else table)
    for key in arrays:
        keys.put(values, key, "traced")
    return json.dumps(values, sort_keys=True, default=str)


def signature(
    parts: Parts,
    numbers: Mapping[str, Any],
    mask: Callable[[Any, tuple[str, ...]], str] = masked,
    leaving_out: Collection[str] = (),
) -> str:
    """The key of a cell's program: its configuration as text, without the numbers that may be arrays.

    Args:
        parts: its pieces.
        numbers: those that may be arrays, by dotted key.
        mask: `masked`, or a version that remembers.
        leaving_out: tables that the program does not read.
    """
    arrays = dict(ARRAYS)
    for key in numbers:
        top, _, rest = key.partition(".")
        arrays[top] = (*arrays.get(top, ()), rest)
    fields = [
        mask(getattr(parts.config, name), arrays.get(name, ()))
        for name in _DECISIVE
        if name not in leaving_out
    ]
    shapes = [parts.num_clients, parts.cohort_size, parts.in_cohort, parts.dataset.train_x.shape]
    shapes.append(parts.dataset.format.moments)
    shapes.append(num_test_clients(parts.dataset) if asks_for_clients(parts) else None)
    return " ".join([*fields, str(shapes), str(parts.dataset.test_x.shape)])


def identity(value: Any) -> Any:
    """A table by identity, since cells share them; anything else as it is."""
    return id(value) if isinstance(value, pydantic.BaseModel) else value


FIELDS = sorted(ExperimentConfig.model_fields.keys() - {"seed"})


_DECISIVE = sorted(ExperimentConfig.model_fields.keys() - {*NOT_DECISIVE})
