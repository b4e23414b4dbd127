"""Planner and programs: cells that share a program give what each gives alone."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES, Context
from fljax.attacks import ATTACKS, Knowledge, Task
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.config.components import bind_attack, bind_rule, make_aggregator, make_attack
from fljax.config.resolve import resolve
from fljax.config.schema import AggregatorConfig, AttackConfig
from fljax.config.signatures import keyword_parameters, traceable_parameters
from fljax.errors import ConfigError
from fljax.numerics.safe import RUNS
from fljax.sweeps import make_plan, make_sweep
from fljax.sweeps import plan as planning
from fljax.sweeps.batch import CellResult, run_batch
from fljax.sweeps.executors import base as local
from fljax.sweeps.executors.base import Work, compile_within, interleaved, run_in_parts
from fljax.sweeps.executors.threads import Threads
from fljax.sweeps.known import Known
from fljax.sweeps.plan import Batch
from fljax.sweeps.program import compile_group
from fljax.sweeps.timing import estimate_seconds
from fljax.sweeps.traced import signature
from tests.attacks.quadratic import one_round, simulated
from tests.rules.case import model_of
from tests.support.sweeps import BASE, assert_alike

EXACT = {"round", "diverged"}


# Data, clients and checks are shared by the plans of a process.
KNOWN = Known()


def plan_of(table, base=BASE, **options):
    return make_plan(make_sweep(base, table), known=KNOWN, **options)


def together(plan) -> dict[int, CellResult]:
    """All cells of a plan by number."""
    found = {}
    for group in plan.groups:
        program = compile_group(group)
        for batch in group.batches:
            results = run_batch(group, batch, program)
            found |= {cell.number: result for cell, result in zip(batch.cells, results, strict=True)}
    return found


def assert_same_lines(lines, single) -> None:
    """The lines of a cell against a run's metrics, null and all."""
    assert [line["round"] for line in lines] == single.metrics["round"].tolist()
    for name in lines[0]:
        if name != "seconds":
            column = np.array([np.nan if line[name] is None else line[name] for line in lines], float)
            tolerance = 0.0 if name in EXACT else 1e-5
            np.testing.assert_allclose(
                column, single.metrics[name], rtol=tolerance, atol=tolerance, err_msg=name
            )


# --- cells alone and together ------------------------------------------------------------------------

TOGETHER = {
    # Pool of one data set's splits; no attacker at all beside many; labels by bias.
    "seeds, fractions, trim, rates, label bias": (
        {
            "data": {"name": "digits"},
            "num_clients": 10,
            "partition": {"name": "label_bias", "bias": 0.1},
            "aggregator": {"name": "trimmed_mean", "trim": 1},
            "attack": {"name": "sign_flip"},
            "local": {"steps": 1, "batch_size": 16},
        },
        {
            "zip": [
                {
                    "seed": [0, 1, 2],
                    "attack.fraction": [0.0, 0.25, 0.4],
                    "aggregator.trim": ["actual", 2, "actual"],
                    "local.learning_rate": [0.1, 0.5, 1],
                    "server.learning_rate": [1.0, 0.5, 2.0],
                    "attack.factor": [1.0, 10.0, 3],
                    "partition.bias": [0.1, 0.5, 0.9],
                }
            ]
        },
        [2],
    ),
    # Copies that attackers append make the tables' widths matter; every full batch has another size.
    "full batches, copies, root size and bias": (
        {
            "partition": {"name": "dirichlet_sizes", "alpha": 2.0},
            "aggregator": {"name": "fltrust"},
            "attack": {"name": "scaling_attack", "fraction": 0.3},
            "local": {"steps": 2, "batch_size": "full"},
        },
        {
            "zip": [
                {
                    "seed": [0, 1, 2],
                    "root.size": [10, 40, 25],
                    "attack.fraction": [0.3, 0.1, 0.0],
                    "partition.alpha": [0.5, 2.0, 9.0],
                }
            ],
            "include": [{"seed": 3, "root.bias": 0.5, "root.bias_class": 2}],
        },
        [2, 3],
    ),
    # Random batches of the root dataset, some larger than it is; sampled cohorts; an attack that pauses.
    "random root batches, cohorts, schedules": (
        {
            "cohort_size": 5,
            "root": {"size": 20, "batch_size": 16},
            "aggregator": {"name": "fltrust"},
            "attack": {
                "name": "trim_attack",
                "fraction": 0.25,
                "schedule": {"name": "periodic", "on": 1, "off": 1},
            },
        },
        {
            "zip": [{"root.size": [10, 30, 16], "attack.stretch": [2.0, 3.0, 5.0], "seed": [4, 0, 0]}],
        },
        [0],
    ),
    "state of the rule and of the attack": (
        {
            "cohort_size": 6,
            "aggregator": {"name": "foolsgold"},
            "attack": {"name": "mimic_warmup", "warmup": 2, "fraction": 0.25},
        },
        {"zip": [{"seed": [0, 1], "aggregator.confidence": [1.0, 0.5], "attack.fraction": [0.25, 0.4]}]},
        [1],
    ),
    "the patch of a3fl is searched anew, and batches are poisoned in place": (
        {
            "data": {"name": "digits"},
            "attack": {
                "name": "a3fl",
                "passes": 2,
                "batches": 1,
                "batch_size": 8,
                "adversarial_epochs": 1,
                "step": 0.1,
            },
        },
        {"zip": [{"seed": [0, 1], "attack.fraction": [0.25, 0.4]}]},
        [1],
    ),
    "nested attacks, pre-aggregators, rules with a centre": (
        {
            "aggregator": {
                "name": "centered_clipping",
                "radius": 1.0,
                "pre": [{"name": "clip", "radius": 2.0}, {"name": "nnm", "num_malicious": "actual"}],
            },
            "attack": {
                "name": "worst_case",
                "fraction": 0.25,
                "attacks": [{"name": "alie", "z": 1.0}, {"name": "gaussian", "std": 1.0}],
            },
            "server": {"optimizer": {"name": "adam"}, "learning_rate": 0.01},
        },
        {
            "zip": [
                {
                    "aggregator.radius": [0.1, 3.0],
                    "aggregator.pre.0.radius": [0.5, 5.0],
                    "attack.attacks.0.z": [0.5, 4.0],
                    "attack.attacks.1.std": [0.01, 0.02],
                    "attack.fraction": [0.125, 0.25],
                    "server.learning_rate": [0.01, 0.1],
                }
            ]
        },
        [1],
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_cells_give_together_what_each_gives_alone(name):
    changes, table, alone = TOGETHER[name]
    plan = plan_of(table, BASE | changes, size=8)
    assert len(plan.groups) == 1
    results = together(plan)
    for number in alone:
        assert_same_lines(results[number].lines, fljax.run(plan.sweep.cells[number].config))
    losses = {result.lines[-1]["loss"] for result in results.values()}
    assert len(losses) == len(plan.sweep.cells), "every cell has a course of its own"


@pytest.fixture(scope="module")
def diverging():
    """Cells of the mean: two that learn, one with NaN rows in every round, one with a hopeless rate."""
    base = BASE | {
        "rounds": 6,
        "aggregator": {"name": "mean"},
        "attack": {"name": "constant", "value": 0.0, "fraction": 0.25},
        "model": {"name": "mlp", "hidden": [8]},
    }
    rows = {
        "seed": [0, 1, 2, 3],
        "attack.value": [0.0, 0.1, math.nan, 0.0],
        "local.learning_rate": [0.1, 0.2, 0.1, 1e6],
        "server.learning_rate": [1.0, 1.0, 1.0, 1e33],
    }
    plan = plan_of({"zip": [rows]}, base, size=4)
    (group,) = plan.groups
    return plan, group, compile_group(group)


def test_a_diverging_cell_ends_where_it_does_alone_and_disturbs_nobody(diverging):
    plan, group, program = diverging
    results = run_batch(group, group.batches[0], program)
    assert [result.lines[-1]["diverged"] for result in results] == [0, 0, 1, 1]
    assert [len(result.lines) for result in results][:3] == [3, 3, 1]
    assert len(results[3].lines) < 3
    for number in (2, 3):
        assert_same_lines(results[number].lines, fljax.run(plan.sweep.cells[number].config))
    # The same program without them: the others' numbers are the same, bit for bit.
    healthy = run_batch(group, Batch(0, list(group.cells[:2])), program)
    for before, after in zip(results, healthy, strict=False):
        for mine, other in zip(before.lines, after.lines, strict=True):
            assert mine | {"seconds": 0} == other | {"seconds": 0}


def test_a_thread_with_another_device_runs_the_same_program(diverging):
    _, group, program = diverging
    expected = run_batch(group, group.batches[0], program)
    with jax.default_device(jax.local_devices()[-1]):
        results = run_batch(group, group.batches[0], program)
    for mine, other in zip(results, expected, strict=True):
        assert [line | {"seconds": 0} for line in mine.lines] == [
            line | {"seconds": 0} for line in other.lines
        ]


def test_a_batch_of_diverged_cells_stops(diverging):
    _, group, program = diverging
    rounds = []
    (result,) = run_batch(
        group, Batch(0, [group.cells[2]]), program, progress=lambda *told: rounds.append(told)
    )
    assert sum(count for count, _ in rounds) == 2
    assert not any(restored for _, restored in rounds)
    assert len(result.lines) == 1


# --- the planner -------------------------------------------------------------------------------------

BIG = {
    "num_clients": 12,
    "data": {"name": "synthetic", "num_train": 400, "num_test": 50},
    "aggregator": {"name": "krum", "num_malicious": 2},
    "attack": {"name": "alie", "z": 1.0, "fraction": 0.25},
    "partition": {"name": "label_bias", "bias": 0.5},
}
SAME = {
    "seed": [1, 2],
    "seeds.train": [1, 2],
    "attack.fraction": [0.0, 0.3],
    "aggregator.num_malicious": [1, 2, "actual"],
    "attack.z": [0.5, 2],
    "local.learning_rate": [0.1, 1],
    "server.learning_rate": [0.1, 1],
    "root.size": [20, 30],
    "root.bias": [0.1, 0.5],
    "root.bias_class": [1, 2],
    "partition.bias": [0.2, 0.9],
    "partition": ["iid", {"name": "dirichlet", "alpha": 1.0}],
    "num_clients": [12],
}
OTHER = {
    "rounds": [2, 4],
    "eval_every": [1, 2],
    "num_clients": [12, 14],
    "cohort_size": [8, 9],
    "local.steps": [1, 2],
    "local.batch_size": [8, "full"],
    "local.optimizer": [{"name": "sgd"}, {"name": "sign_sgd"}],
    "root.batch_size": [8, 9],
    "root.loss_reduction": ["mean", "sum"],
    "model": ["logistic_regression", "mlp"],
    "aggregator": ["median", "mean"],
    "attack": ["none", "sign_flip"],
    "attack.knowledge": ["full", "partial"],
    "aggregator.power": [1, 2],
    "attack.schedule": [{"name": "between", "start": 1}, {"name": "between", "start": 2}],
    "data.num_train": [400, 410],
}


@pytest.mark.parametrize("key", SAME)
def test_what_only_changes_numbers_shares_a_program(key):
    plan = plan_of({"axes": {key: SAME[key]}}, BASE | BIG)
    assert len(plan.sweep.cells) == len(SAME[key])
    assert len(plan.groups) == 1


@pytest.mark.parametrize("key", OTHER)
def test_what_changes_the_program_does_not(key):
    plan = plan_of({"axes": {key: OTHER[key]}}, BASE | BIG)
    assert [len(group.cells) for group in plan.groups] == [1] * len(OTHER[key])


def test_a_number_and_none_are_two_programs():
    base = BASE | BIG | {"attack": {"name": "alie", "fraction": 0.25}}
    tables = [{"name": "alie"}, {"name": "alie", "z": 1.0}, {"name": "alie", "z": 2.0}]
    plan = plan_of({"axes": {"attack": tables}}, base)
    assert [len(group.cells) for group in plan.groups] == [1, 2]
    assert plan.groups[0].traced == {}
    np.testing.assert_array_equal(plan.groups[1].traced["attack.z"], np.float32([1, 2]))
    # A default and the same number given are one configuration of the program.
    plan = plan_of({"axes": {"attack": [{"name": "sign_flip"}, {"name": "sign_flip", "factor": 3}]}}, base)
    assert len(plan.groups) == 1


def test_actual_numbers_of_attackers_are_clamped_to_what_the_rule_takes():
    rules = [{"name": "krum", "num_malicious": "actual"}, {"name": "trimmed_mean", "trim": "actual"}]
    plan = plan_of({"axes": {"aggregator": rules, "attack.fraction": [0.0, 0.25, 0.9]}}, BASE | BIG)
    krum, trimmed = plan.groups
    assert krum.traced["aggregator.num_malicious"].tolist() == [0, 3, 4]  # n > 2f + 2
    assert trimmed.traced["aggregator.trim"].tolist() == [0, 3, 5]  # n > 2f
    assert [parts.num_malicious for parts in krum.parts] == [0, 3, 11]
    # Without attack the rule is the one that is attacked in the other cells.
    plan = plan_of(
        {"axes": {"attack.fraction": [0.0, 0.25]}},
        BASE | BIG | {"aggregator": rules[0], "attack": {"name": "none"}},
    )
    assert [p.config.aggregator.parameters["num_malicious"] for p in plan.groups[0].parts] == [0, 3]
    assert [parts.num_malicious for parts in plan.groups[0].parts] == [0, 0]
    # In a cohort, what the round expects, rounded up, and no more than the rule takes there.
    cohort = BASE | BIG | {"cohort_size": 6, "aggregator": rules[1]}
    plan = plan_of({"axes": {"attack.fraction": [0.1, 0.25, 0.5]}}, cohort)
    assert [p.config.aggregator.parameters["trim"] for p in plan.groups[0].parts] == [1, 2, 2]
    # Behind buckets there are fewer rows.
    behind = rules[1] | {"pre": [{"name": "bucketing", "bucket_size": 3}]}
    plan = plan_of({"axes": {"attack.fraction": [0.25]}}, BASE | BIG | {"aggregator": behind})
    assert plan.groups[0].parts[0].config.aggregator.parameters == {"trim": 1}
    # Beside a number that JSON lacks.
    behind = rules[1] | {"pre": [{"name": "clip", "radius": math.inf}]}
    plan = plan_of({"axes": {"attack.fraction": [0.5]}}, BASE | BIG | {"aggregator": behind})
    assert plan.groups[0].parts[0].config.aggregator.parameters == {"trim": 5}


def test_a_large_sweep_has_one_program_for_a_rule_and_an_attack():
    table = {
        "seeds": 2,
        "axes": {
            "aggregator": "paper",
            "attack": ["none", "label_flip", "scaling_attack", "gaussian"],
            "attack.fraction": [0.1, 0.2, 0.3],
        },
        "include": [],
    }
    base = BASE | {"num_clients": 10, "attack": {"name": "gaussian", "std": 1.0}}
    plan = plan_of(table, base)
    assert len(plan.sweep.cells) == 120
    assert len(plan.groups) == 20
    assert sorted(cell.number for group in plan.groups for cell in group.cells) == list(range(120))
    batches = [batch for group in plan.groups for batch in group.batches]
    assert sorted(cell.number for batch in batches for cell in batch.cells) == list(range(120))


def test_every_program_is_compiled_once(monkeypatch, tmp_path):
    calls = []

    def compile_group_once(group, shared):
        calls.append(group.number)
        return Fake(group.size)

    monkeypatch.setattr(local, "compile_group", compile_group_once)
    monkeypatch.setattr(local, "run_batch", lambda group, batch, program, **_: [])
    table = {"seeds": 9, "axes": {"aggregator": ["mean", "median"], "attack": ["none", "sign_flip"]}}
    plan = plan_of(table, size=2)
    batches = [batch for group in plan.groups for batch in group.batches]
    assert len(batches) == 4 * 5
    for workers in (1, 2, 3):
        calls.clear()
        with Threads(workers).run(Work(plan, batches)) as finished:
            done = list(finished)
        assert sorted(calls) == [0, 1, 2, 3]
        assert len(done) == len(batches)
        assert all(finished.error is None for finished in done)


class Fake:
    """Stands for a compiled program."""

    seconds_compile = 0.5
    devices = 1

    def __init__(self, size, bytes_of_one=10):
        self.size, self.bytes = size, size * bytes_of_one


def test_workers_compile_different_programs():
    batches = [Batch(group, []) for group in (0, 0, 0, 1, 2, 2)]
    assert [batch.group for batch in interleaved(batches, 1)] == [0, 0, 0, 1, 2, 2]
    assert [batch.group for batch in interleaved(batches, 2)] == [0, 1, 0, 0, 2, 2]
    assert [batch.group for batch in interleaved(batches, 9)] == [0, 1, 2, 0, 2, 0]


def test_the_batch_size_follows_memory_device_and_workers(monkeypatch):
    table = {"seeds": 20}
    assert plan_of(table).groups[0].size == 7  # 8 at most on a CPU: three batches
    assert plan_of(table, size=20).groups[0].size == 20
    assert len(plan_of({"seeds": 4}, workers=4).groups[0].batches) == 4
    group = plan_of(table, size=20).groups[0]
    fits = plan_of(table, size=20, budget=group.shared_bytes + 5 * group.cell_bytes).groups[0]
    assert fits.size == 5
    assert plan_of(table, budget=1).groups[0].size == 1
    with monkeypatch.context() as changed:
        changed.setattr(planning, "num_convolutions", lambda params: 2)
        assert plan_of(table).groups[0].size == 1
    # Of four devices that have a memory each every one holds its share of the cells: two, so eight together.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    options = {"base": {**BASE, "devices": {"runs": 4}}, "size": 20}
    group = plan_of(table, **options).groups[0]
    group = plan_of(table, **options, budget=group.shared_bytes + 2 * group.cell_bytes).groups[0]
    assert (group.size, len(group.batches)) == (7, 3)
    assert group.bytes == group.shared_bytes + 2 * group.cell_bytes


@pytest.mark.parametrize(
    ("table", "fragment"),
    [
        ({"axes": {"aggregator": ["mean", {"name": "krum", "num_malicious": 9}]}}, "aggregator=Krum"),
        ({"axes": {"aggregator": ["mean", "krum"]}}, "aggregator=Krum"),
        ({"axes": {"attack": ["none", {"name": "scale", "factor": "x"}]}}, "attack=Scaling"),
        ({"axes": {"attack": ["none", {"name": "alie", "zz": 1.0}]}}, "'zz'"),
        ({"axes": {"root.size": [20, 5000]}}, "root.size=5000"),
        ({"axes": {"partition": ["iid", "by_client"]}}, "partition=by_client"),
        ({"axes": {"local.optimizer.name": ["sgd", "sdg"]}}, "local.optimizer.name=sdg"),
        ({"axes": {"cohort_size": [4, 9]}}, "cohort_size=9"),
        ({"axes": {"local.learning_rate": [0.1, "a\nb"]}}, "local.learning_rate=a b"),
    ],
)
def test_a_cell_that_cannot_be_run_is_named(table, fragment):
    with pytest.raises(ConfigError) as error:
        plan_of(table)
    assert fragment in str(error.value)
    assert "in the cell" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_estimate_of_the_time_grows_with_the_work():
    few, many = (plan_of({"seeds": 2, "axes": {"rounds": [rounds]}}) for rounds in (4, 4_000_000))
    (first,), (second,) = estimate_seconds(few, 1), estimate_seconds(many, 1)
    assert 0 < first < second


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "size"), [(10**9, 8), (80, 8), (79, 4), (45, 4), (25, 2), (5, 1)])
def test_a_program_that_is_too_large_is_compiled_for_fewer_cells(monkeypatch, budget, size):
    monkeypatch.setattr(local, "compile_group", lambda group, shared: Fake(group.size))
    group = plan_of({"seeds": 8}).groups[0]
    assert compile_within(group, budget).size == size


def test_in_parts_the_results_are_the_same(diverging):
    _, group, program = diverging
    whole = run_batch(group, group.batches[0], program)
    half = compile_within(group, program.bytes - 1)
    assert half.size < program.size
    parts = run_in_parts(group, group.batches[0], half)
    for mine, other in zip(whole, parts, strict=True):
        assert_alike(mine.lines, other.lines)


def test_the_estimate_of_the_memory_is_near_the_compiler_s(diverging):
    _, group, program = diverging
    assert program.bytes / 3 < group.bytes < program.bytes * 3


# --- every parameter that may be traced --------------------------------------------------------------

N, D = 9, 12
PAIRS: dict[str, tuple[float, float]] = {
    "num_malicious": (1, 2),
    "trim": (1, 3),
    "num_neighbors": (2, 4),
    "num_selected": (2, 5),
    "tolerance": (1e-6, 0.5),
    "max_iterations": (1, 50),
    "smoothing": (1e-6, 1.0),
    "smoothing_unit": (1.0, 1e6),
    "radius": (0.5, 2.0),
    "pivot": (0, 4),
    "lower": (0.1, 0.7),
    "upper": (1.3, 3.0),
    "quantile": (0.2, 0.8),
    "confidence": (0.5, 1.0),
    "filter_fraction": (0.5, 1.0),
    "factor": (1.0, 3.0),
    "threshold": (1e-5, 10.0),
    "spread": (0.0, 0.5),
    "std": (0.1, 2.0),
    "value": (-1.0, 2.0),
    "z": (0.5, 2.0),
    "epsilon": (0.5, 2.0),
    "target": (0, 2),
    "stretch": (2.0, 5.0),
    "probe_variance": (0.5, 2.0),
    "probe_step": (0.005, 0.1),
    "learning_rate": (0.01, 0.5),
    "norm": (0.2, 2.0),
    "share": (0.5, 1.0),
    "alpha": (0.2, 0.9),
    "bound": (0.5, 5.0),
    "strength": (0.1, 2.0),
    "server_lr": (0.5, 2.0),
}
OWN: dict[str, dict[str, tuple[float, float]]] = {
    "chameleon": {"norm": (0.5, 5.0), "pull": (1.0, 6.0), "temperature": (0.1, 1.0)},
    "layer_backdoor": {"threshold": (0.5, 0.9)},
    "bulyan": {"num_malicious": (0, 1)},
    "flame": {"noise_multiplier": (0.0, 0.5)},
    "alignins": {"sign_limit": (0.5, 3.0), "direction_limit": (0.5, 3.0)},
    "lasa": {"norm_limit": (0.5, 3.0), "sign_limit": (0.5, 3.0)},
    "deepsight": {"max_share": (0.0, 1.0)},  # no cluster counts, or all
    "flare": {"temperature": (0.5, 5.0)},
    "auror": {"threshold": (0.5, 100.0)},
    "rflbat": {"first_limit": (1.1, 2.0), "last_limit": (1.05, 2.0)},
    "zeno": {"penalty": (0.0, 10.0)},
    "stat_opt": {"start": (0.1, 10.0)},
    "krum": {"num_neighbors": (1, 6)},
    "huber": {"tolerance": (1e-6, 1e-5), "radius": (0.2, 2.0)},
    "residual_reweighting": {"bound": (0.5, 2.0), "threshold": (0.1, 0.5)},
    "crfl": {"radius": (0.5, 1.0), "growth": (0.0, 0.5), "cap": (5.0, 6.0), "std": (0.0, 0.1)},
    "afa": {"width": (0.5, 2.0), "growth": (0.1, 0.5)},
    "flod": {"step": (0.5, 1.0), "threshold": (0.5, 0.8)},
    "sparse_fed": {"num_sent": (2, 6), "decay": (0.5, 0.9)},
    "zeno_pp": {"rate": (0.1, 0.2), "rho": (0.05, 0.01), "epsilon": (0.0, 1.0)},
    "spectral_filter": {"sigma": (0.01, 0.3)},
    "robust_learning_rate": {"threshold": (1.0, 5.0)},
    "flip_disputed": {"threshold": (1.0, 5.0)},
    "quantile_clip": {"start": (0.5, 2.0), "rate": (0.1, 0.2), "noise": (0.0, 1.0)},
    "geometric_median": {"tolerance": (1e-6, 1e-5), "smoothing": (1e-6, 2.0)},
}
# What else a component needs.
NEEDED: dict[str, dict[str, Any]] = {
    "aksel": {"count": "n-f"},
    "fltrust_attack": {"sweeps": 1, "steps": 1, "start": "honest"},
    "optimize_attack": {"steps": 2},
    "constrain_and_scale": {"backdoor": {"name": "badnets", "every": 2}},
    "projected_gradient": {"backdoor": {"name": "badnets", "every": 2}},
    "alie_backdoor": {"backdoor": {"name": "badnets", "every": 2}},
    "train_and_scale": {"backdoor": {"name": "badnets", "every": 2}},
    "chameleon": {"backdoor": {"name": "badnets", "every": 2}, "encoder_steps": 2, "classifier_steps": 2},
    "layer_backdoor": {"backdoor": {"name": "badnets", "every": 2, "target": 2}, "examples": 4},
    "alternating_minimisation": {"backdoor": {"name": "badnets", "every": 2}},
    "neurotoxin": {"backdoor": {"name": "badnets", "every": 2}},
}


def _traceables():
    registries = (
        ("rule", RULES, ()),
        ("pre", PRE_AGGREGATORS, ()),
        ("post", POST_AGGREGATORS, ()),
        ("attack", ATTACKS, TASK_ARGUMENTS),
    )
    for kind, registry, hidden in registries:
        for name, entry in registry.items():
            found = traceable_parameters(entry.function, hidden)
            if found:
                yield pytest.param(kind, name, found, id=f"{kind} {name}")


def _stack():
    draw = jax.random.normal(jax.random.key(7), (N, D)) + 0.5
    return draw.at[:2].multiply(3.0)


def _context():
    known = {"client_ids": jnp.arange(N), "weights": jnp.ones(N), "params": jnp.ones(D)}
    root = {"root_update": _stack().mean(0), "root_x": jnp.eye(2), "root_loss": lambda w: jnp.sum(w**2)}
    return Context(key=jax.random.key(1), **root, **known, **model_of(D))


def _component(kind, name, given):
    """`(traced) -> what the component makes of the stack`."""
    updates = _stack()
    if kind == "attack":
        config = AttackConfig(name=name, **given)
        middle = make_aggregator(bind_rule(AggregatorConfig(name="mean")))

        def rule(stack):
            return middle.aggregate(stack, (), _context())[0]

        def attack(traced):
            made = make_attack(bind_attack(config).replaced(traced), Task(10, 3))
            if made.train is not None:
                # In the second round there is a first one to remember.
                return simulated(one_round(made), made, rounds=2)[1]
            malicious = jnp.arange(N) % 4 == 1
            training = {"local_rate": jnp.float32(0.1), "batch_size": jnp.float32(8.0)}
            known = Knowledge(_context(), rule=rule, surrogate=rule, **training)
            return made.corrupt(updates, malicious, made.init(N, D), known)[0]

        return attack
    table = {"name": name, **given} if kind == "rule" else {"name": "mean", kind: [{"name": name, **given}]}

    def aggregate(traced):
        made = make_aggregator(bind_rule(AggregatorConfig(**table)).replaced(traced))
        return made.aggregate(updates, made.init(N, D), _context())[0]

    return aggregate


@pytest.mark.parametrize(("kind", "name", "found"), list(_traceables()))
def test_two_values_in_one_program_give_what_each_gives_alone(kind, name, found):
    functions = {"rule": RULES, "pre": PRE_AGGREGATORS, "post": POST_AGGREGATORS, "attack": ATTACKS}[kind]
    hidden = TASK_ARGUMENTS if kind == "attack" else ()
    needed = {
        key: PAIRS[key][0] if key in PAIRS else None
        for key, (_, default) in keyword_parameters(functions[name].function, hidden).items()
        if default is ... or (default is None and key in found)
    }
    whole = {key: kind_of for key, (kind_of, _) in found.items()}
    pairs = PAIRS | OWN.get(name, {})
    pair = [needed | {key: whole[key](pairs[key][i]) for key in found} | NEEDED.get(name, {}) for i in (0, 1)]
    prefix = f"{kind}.0." if kind in ("pre", "post") else ""
    traced = {
        f"{prefix}{key}": jnp.array([values[key] for values in pair], np.int32 if whole[key] is int else None)
        for key in found
    }
    both = jax.jit(jax.vmap(_component(kind, name, pair[0]), axis_name=RUNS))(traced)
    # The first cell has the values the program was built with; the second must not notice.
    alone = jax.jit(_component(kind, name, pair[1]))({})
    np.testing.assert_allclose(both[1], alone, rtol=1e-5, atol=1e-5)
    assert not np.allclose(both[0], both[1], atol=1e-4), "the two values do the same"


def test_the_planner_finds_every_traceable_parameter():
    rule = {
        "name": "krum",
        "num_malicious": 1,
        "num_neighbors": 3,
        "pre": [{"name": "nnm", "num_malicious": 1}, {"name": "clip", "radius": 1}],
    }
    attack = {"name": "worst_case", "attacks": [{"name": "alie", "z": 1}, {"name": "sign_flip"}]}
    config = make_sweep(BASE | {"aggregator": rule, "attack": attack}, {}).cells[0].config
    assert resolve(config).numbers == {
        "aggregator.num_malicious": 1,
        "aggregator.num_neighbors": 3,
        "aggregator.pre.0.num_malicious": 1,
        "aggregator.pre.1.radius": 1.0,
        "attack.attacks.0.z": 1.0,
        "attack.attacks.1.factor": 1.0,
        "local.learning_rate": 0.1,
        "server.learning_rate": 1.0,
    }
    part = plan_of({}, BASE | {"aggregator": rule, "attack": attack}).groups[0].parts[0]
    assert "traced" in signature(part, part.resolved.numbers)


def test_an_attack_follows_the_surrogate_of_a_rule_without_a_gradient():
    rule = {"name": "covariance_filter", "num_malicious": 2}
    plan = plan_of({"axes": {"aggregator": [rule], "attack": ["optimize_attack"]}})
    assert len(plan.groups) == 1
