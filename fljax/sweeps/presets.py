"""Named lists of rules and attacks for the axes of a sweep."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fljax.aggregators import RULES
from fljax.attacks import ATTACKS
from fljax.config.components import ACTUAL, COUNTS, attack_parameters, rule_parameters
from fljax.config.schema import ExperimentConfig
from fljax.registry import load_installed

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
    parameters = attack_parameters(ATTACKS[name].function)
    needed = {key for key, (_, default) in parameters.items() if default is ...}
    values = _ATTACK_VALUES.get(name, {})
    return {"name": name, **values} if needed <= values.keys() else None


def _tables(make: Callable[[str], Table | None], names: Iterable[str]) -> list[Table]:
    return [table for table in map(make, names) if table is not None]


def _all_rules(base: ExperimentConfig) -> list[Table]:
    load_installed()
    return _tables(_rule, RULES)


def _all_attacks(base: ExperimentConfig) -> list[Table]:
    load_installed()
    return _tables(_attack, ["none", *ATTACKS])


PRESETS: Mapping[str, Mapping[str, Preset]] = {
    "aggregator": {"paper": lambda base: _tables(_rule, PAPER_RULES), "all": _all_rules},
    "attack": {"paper": lambda base: _tables(_attack, PAPER_ATTACKS), "all": _all_attacks},
}
