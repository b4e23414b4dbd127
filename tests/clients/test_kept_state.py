"""State of the clients in run folders, checkpoints and sweeps."""

import json

import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from fljax.sweeps import make_plan, make_sweep
from tests.support.run_folders import VALUES, InterruptError, assert_same_run, interrupt_at

KEEPING = {
    **VALUES,
    "client": {"name": "scaffold"},
    "cohort_size": 3,
    "local": {"epochs": 0.5, "batch_size": 8},
    "aggregator": {"name": "median"},
}


def saved(folder):
    (newest,) = folder.glob("checkpoints/round_4.checkpoint")
    return newest.read_bytes()


def test_an_interrupted_run_goes_on_with_what_its_clients_keep(tmp_path):
    built = assemble(parse_config(KEEPING))
    program = compile_experiment(built)
    whole = tmp_path / "whole", run_experiment(built, tmp_path / "whole", program=program)
    out = tmp_path / "run"
    with pytest.raises(InterruptError):
        run_experiment(built, out, progress=interrupt_at(4), program=program)
    assert b"client_state" in saved(out)
    assert_same_run(out, run_experiment(built, out, resume=True, program=program), whole)


def test_a_checkpoint_of_clients_that_keep_nothing_is_as_it_was(tmp_path):
    built = assemble(parse_config(VALUES))
    with pytest.raises(InterruptError):
        run_experiment(built, tmp_path / "run", progress=interrupt_at(4))
    assert b"model_state" in saved(tmp_path / "run")
    assert b"client_state" not in saved(tmp_path / "run")


def test_the_cells_of_a_sweep_are_the_runs():
    """Numbers of an algorithm are an axis in one program; its state has a leading axis for the cells."""
    base = {**KEEPING, "rounds": 4, "client": {"name": "momentum"}}
    axes = {"client.beta": [0.0, 0.5, 0.9]}
    sweep = make_sweep(base, {"axes": axes, "seeds": 2})
    plan = make_plan(sweep)
    assert [list(group.traced) for group in plan.groups] == [["client.beta"]]
    table = fljax.sweep(sweep, progress=False)
    assert len(table) == 6
    assert len({tuple(curve) for curve in table.curve_loss}) == 6
    cell = table[(table["client.beta"] == 0.9) & (table.seed == 1)].iloc[0]
    config = parse_config(json.loads(cell.config))
    assert config.client.parameters == {"beta": 0.9}
    result = fljax.run(config, progress=False)
    np.testing.assert_allclose(cell.curve_loss, result.metrics["loss"], rtol=1e-5)


def test_algorithms_are_an_axis():
    both = ["sgd", {"name": "fedprox", "mu": 0.1}]
    sweep = make_sweep(VALUES, {"axes": {"client": both}})
    assert [cell.config.client.name for cell in sweep.cells] == ["sgd", "fedprox"]
    assert len(make_plan(sweep).groups) == 2
    plain = make_sweep(VALUES, {"seeds": 1})
    assert plain.cells[0].id == sweep.cells[0].id
