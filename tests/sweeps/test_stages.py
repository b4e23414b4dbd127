"""Rounds in several programs: the same numbers as in one, and shared wherever they do the same."""

from typing import Any

import jax
import numpy as np
import pytest

from fljax.sweeps import make_plan, make_sweep, stages
from fljax.sweeps.batch import run_batch
from fljax.sweeps.known import Known
from fljax.sweeps.program import compile_group
from fljax.sweeps.stages import SharedPrograms, StagedRounds
from tests.support.sweeps import BASE, assert_alike

ATTACKED = BASE | {"attack": {"name": "none", "fraction": 0.25}}
KNOWN = Known()


def plan_of(base, table, **options):
    return make_plan(make_sweep(ATTACKED | base, table), known=KNOWN, **options)


def lines_of(plan, shared):
    """The lines of all cells."""
    found = {}
    for group in plan.groups:
        program = compile_group(group, shared)
        assert isinstance(program.chunk, StagedRounds) == group.staged
        for batch in group.batches:
            results = run_batch(group, batch, program)
            for cell, result in zip(batch.cells, results, strict=True):
                found[cell.number] = result.lines
    return found


def assert_same(mine, other) -> None:
    assert mine.keys() == other.keys()
    for number, lines in mine.items():
        assert_alike(lines, other[number])


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    # The root update is read by a rule, by an attack, by both and by none; rule and attack have states.
    "root, states, several cells in a program": (
        {"cohort_size": 6},
        {
            "seeds": 2,
            "axes": {
                "aggregator": ["mean", "fltrust", {"name": "foolsgold"}],
                "attack": [
                    "none",
                    "sign_flip",
                    {"name": "trim_attack", "include_root": True, "fraction": 0.25},
                    {"name": "poisoned_fl", "fraction": 0.25},
                ],
            },
        },
        # Training, root update, evaluation; three attacks; three rules.
        (3 + 3 + 3, 12),
    ),
    # Attackers who poison, train or prepare, triggers that they learn, a schedule.
    "training attacks": (
        {"data": {"name": "digits"}, "model": {"name": "logistic_regression"}},
        {
            "axes": {
                "aggregator": ["median", {"name": "trimmed_mean", "trim": 1}],
                "attack": [
                    {"name": "label_flip", "fraction": 0.25},
                    {"name": "a3fl", "fraction": 0.25},
                    {"name": "neurotoxin", "fraction": 0.25},
                    {
                        "name": "scaling_attack",
                        "fraction": 0.25,
                        "schedule": {"name": "between", "start": 1, "stop": 3},
                    },
                ],
            },
        },
        # Each trains and is evaluated in its own way, three scale what they send; two rules, with a schedule
        # and without.
        (4 + 4 + 3 + 4, 8),
    ),
    # What clients keep, statistics of the model, and numbers that are arrays in one group and not in another.
    "clients' states, traced numbers": (
        {"client": {"name": "momentum"}},
        {
            "axes": {
                "aggregator": ["geometric_median", "mean"],
                "attack": [
                    {"name": "alie", "z": 1.0, "fraction": 0.25},
                    {"name": "alie", "z": 2.0, "fraction": 0.25},
                ],
                "local.learning_rate": [0.1, 0.5],
            },
        },
        # Training, evaluation, attack; two rules.
        (3 + 2, 2),
    ),
}


class Suspicious(SharedPrograms):
    """Traces a stage again wherever it is shared, to see whether it is the same."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self._compiled = stages.compiled
        self._texts: dict[Any, str] = {}
        self._text = ""
        self.shared = 0
        monkeypatch.setattr(stages, "compiled", self.traced)

    def traced(self, function, given, *rest, **how):
        closed = jax.make_jaxpr(function)(*given)
        self._text = str(closed) + str([np.asarray(const) for const in closed.consts])
        if how.pop("again", False):
            raise _SeenError
        return self._compiled(function, given, *rest, **how)

    def get(self, key, make):
        if key not in self._texts:
            program = super().get(key, make)
            self._texts[key] = self._text
            return program
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "compiled", lambda *given, **how: self.traced(*given, **how, again=True))
            with pytest.raises(_SeenError):
                make()
        assert self._text == self._texts[key]
        self.shared += 1
        return super().get(key, make)


class _SeenError(Exception):
    pass


@pytest.mark.parametrize("name", CASES)
def test_stages_give_what_one_program_gives(name, monkeypatch):
    base, table, (programs, groups) = CASES[name]
    shared = Suspicious(monkeypatch)
    staged = plan_of(base, table, staged=True, size=2)
    assert len(staged.groups) == groups
    assert all(group.staged for group in staged.groups)
    assert_same(lines_of(staged, shared), lines_of(plan_of(base, table, staged=False, size=2), shared))
    assert len(shared) == programs
    assert shared.shared > programs / 2


ASKING = {"name": "worst_case", "attacks": [{"name": "sign_flip"}, {"name": "scale"}], "fraction": 0.25}


def test_an_attack_that_asks_the_rule_is_compiled_for_each():
    table = {
        "axes": {
            "aggregator": ["median", "mean"],
            "attack": [ASKING, {"name": "sign_flip", "fraction": 0.25}],
        }
    }
    shared = SharedPrograms()
    staged = plan_of({"rounds": 2}, table, staged=True)
    programs = [compile_group(group, shared) for group in staged.groups]
    assert [program.chunk.asks_rule for program in programs] == [True, False, True, False]
    corrupting = [program.chunk.corrupt for program in programs]
    assert corrupting[0] is not corrupting[2]
    assert corrupting[1] is corrupting[3]
    assert_same(lines_of(staged, shared), lines_of(plan_of({"rounds": 2}, table, staged=False), shared))


@pytest.mark.parametrize(
    ("base", "table", "staged"),
    [
        ({}, {"axes": {"aggregator": ["mean", "median"]}}, True),
        # One training of its own each.
        ({}, {"axes": {"local.steps": [1, 2, 3]}}, False),
        # More rounds than a program of its own costs.
        ({"rounds": 10**6}, {"axes": {"aggregator": ["mean", "median"]}}, False),
        ({"streaming": True}, {"axes": {"aggregator": ["mean", "sign_majority"]}}, False),
        ({"client": {"name": "scaffold"}}, {"axes": {"aggregator": ["mean", "median"]}}, False),
    ],
)
def test_rounds_are_staged_where_that_pays_and_is_possible(base, table, staged):
    plan = plan_of(base, table)
    assert {group.staged for group in plan.groups} == {staged}
    assert not any(group.staged for group in plan_of(base, table, staged=False).groups)
