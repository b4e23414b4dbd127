"""One row per registry entry: how to call it, how many malicious rows it survives, which properties hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import reference

from fljax.aggregators import PRE_AGGREGATORS, RULES


@dataclass(frozen=True)
class RuleCase:
    """A rule with its arguments for n = 12 rows; `hyper` may depend on n."""

    name: str
    reference: Callable[..., Any]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    traced: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    tolerated: int = 0
    translation: bool = True
    scaling: bool = True
    duplicates: bool = False  # repeating the whole stack leaves the result alone
    differentiable: bool = True
    registry: Mapping[str, Any] = field(default_factory=lambda: RULES)

    @property
    def function(self) -> Callable[..., Any]:
        return self.registry[self.name].function

    @property
    def id(self) -> str:
        shown = ",".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.name}({shown})" + (f"+{'+'.join(self.arrays)}" if self.arrays else "")


N, D = 12, 37

RULE_CASES = [
    RuleCase("mean", reference.mean, duplicates=True),
    RuleCase("mean", reference.mean, arrays=("weights",)),
    RuleCase("median", reference.median, tolerated=5, duplicates=True, differentiable=False),
    RuleCase(
        "trimmed_mean", reference.trimmed_mean, {"trim": 3}, ("trim",), tolerated=3, differentiable=False
    ),
    RuleCase("trimmed_mean", reference.trimmed_mean, {"trim": 0}, ("trim",), differentiable=False),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 4},
        ("num_malicious",),
        tolerated=4,
        differentiable=False,
    ),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 3, "power": 1},
        ("num_malicious",),
        tolerated=3,
        differentiable=False,
    ),
    RuleCase(
        "krum",
        reference.krum,
        {"num_malicious": 3, "num_neighbors": 8},
        ("num_neighbors",),
        tolerated=3,
        differentiable=False,
    ),
    *(
        RuleCase(
            "fltrust",
            reference.fltrust,
            hyper,
            arrays=("root_update",),
            tolerated=tolerated,
            translation=False,
            duplicates="include_root" not in hyper,
        )
        for hyper, tolerated in (
            ({}, 10),
            ({"normalize": "shrink"}, 10),
            ({"include_root": True}, 10),
            ({"clip_negative": False}, 3),
            ({"normalize": "none"}, 0),
        )
    ),
    RuleCase(
        "root_only",
        reference.root_only,
        arrays=("root_update",),
        tolerated=12,
        translation=False,
        duplicates=True,
    ),
]

PRE_CASES = [
    RuleCase(
        "clip",
        reference.clip,
        {"radius": 2.0},
        ("radius",),
        tolerated=12,
        translation=False,
        scaling=False,
        registry=PRE_AGGREGATORS,
    ),
]
