"""The number of attackers that a rule is told to expect."""

import json
from functools import lru_cache
from typing import Any

from fljax.attacks.wrappers import NO_ATTACK
from fljax.config.components import (
    ACTUAL,
    COUNTS,
    PIECES,
    bind_rule,
    make_aggregator,
)
from fljax.config.schema import AggregatorConfig
from fljax.data import Format
from fljax.errors import ConfigError
from fljax.simulation.checks import check_pieces


def without_actual(config: AggregatorConfig, count: int = 0) -> AggregatorConfig:
    """The table with a number for every "actual"."""

    def settled(table: dict[str, Any]) -> dict[str, Any]:
        numbers = {name: count for name in COUNTS if table.get(name) == ACTUAL}
        return {**table, **numbers}

    table = settled(config.model_dump())
    pieces = {key: [settled(piece) for piece in table[key]] for key in PIECES}
    return AggregatorConfig.model_validate({**table, **pieces})


def with_actual(config: AggregatorConfig, num_malicious: int, num_rows: int) -> AggregatorConfig:
    """The table with the number of attackers for every "actual", or the largest below it that the rule takes.

    Args:
        config: an aggregator table.
        num_malicious: how many attackers a round has, or without attack would have.
        num_rows: rows the rule gets.

    Returns:
        The table with numbers only.

    Example:
        >>> rule = AggregatorConfig(name="trimmed_mean", trim="actual")
        >>> with_actual(rule, 4, 20).parameters, with_actual(rule, 12, 20).parameters
        ({'trim': 4}, {'trim': 9})
    """
    if not any(ACTUAL in table.parameters.values() for table in (config, *config.pre, *config.post)):
        return config
    return without_actual(config, _largest_taken(_as_text(config), num_malicious, num_rows))


def _as_text(config: AggregatorConfig) -> str:
    """A table as JSON that keeps infinities, unlike pydantic's."""
    return json.dumps(config.model_dump(), default=str)


@lru_cache(maxsize=1024)
def _largest_taken(table: str, num_malicious: int, num_rows: int) -> int:
    config = AggregatorConfig.model_validate(json.loads(table))

    def taken(count: int) -> bool:
        rule = make_aggregator(bind_rule(without_actual(config, count)))
        try:
            check_pieces(rule, NO_ATTACK, num_rows, num_rows, Format((1,), None, (), 1))
        except ConfigError:
            return False
        return True

    if taken(num_malicious):
        return num_malicious
    low, high = 0, num_malicious
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return low
