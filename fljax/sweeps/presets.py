"""Named lists of rules and attacks for the axes of a sweep."""

from collections.abc import Callable, Mapping
from typing import Any

from fljax.aggregators import RULES
from fljax.attacks import ATTACKS
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.config.components import ACTUAL, COUNTS, rule_parameters
from fljax.config.schema import ExperimentConfig
from fljax.config.signatures import keyword_parameters

Table = dict[str, Any]
Preset = Callable[[ExperimentConfig], list[Table]]

PAPER_RULES = ("mean", "krum", "trimmed_mean", "median", "fltrust")
PAPER_ATTACKS = ("none", "label_flip", "krum_attack", "trim_attack", "scaling_attack", "fltrust_attack")
# Values for what has no default; a radius or a number depends on the task and has none here.
_ATTACK_VALUES: Mapping[str, Table] = {
    "gaussian": {"std": 1.0},
    "ipm": {"epsilon": 2.0},
    "constant": {"value": 0.0},
}


def _rule(name: str) -> Table | None:
    """The rule as a table: it is told how many attackers there are; None if it needs more than that."""
    needed = {key for key, (_, default) in rule_parameters(RULES[name].function).items() if default is ...}
    return {"name": name, **dict.fromkeys(sorted(needed), ACTUAL)} if needed <= set(COUNTS) else None


def _attack(name: str) -> Table | None:
    if name == "none":
        return {"name": name}
    parameters = keyword_parameters(ATTACKS[name].function, hidden=TASK_ARGUMENTS)
    needed = {key for key, (_, default) in parameters.items() if default is ...}
    values = _ATTACK_VALUES.get(name, {})
    return {"name": name, **values} if needed <= values.keys() else None


def _tables(make: Callable[[str], Table | None], names: Any) -> Preset:
    return lambda base: [table for table in map(make, names) if table is not None]


PRESETS: Mapping[str, Mapping[str, Preset]] = {
    "aggregator": {"paper": _tables(_rule, PAPER_RULES), "all": _tables(_rule, RULES)},
    "attack": {"paper": _tables(_attack, PAPER_ATTACKS), "all": _tables(_attack, ["none", *ATTACKS])},
}
