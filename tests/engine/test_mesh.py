"""Runs and sweeps whose clients and cells are divided among devices."""

import json

import jax
import numpy as np
import pytest

from fljax import ConfigError, use_cores
from fljax.config.schema import parse_config
from fljax.engine.mesh import lay_out
from fljax.engine.state import RoundData
from fljax.simulation.devices import largest_divisor, mesh_of
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from tests.support.meshes import BASE, distance
from tests.support.processes import QUICKLY, lines_of


@pytest.mark.slow
def test_runs_and_sweeps_on_meshes_are_those_on_one_device():
    variables = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=4 {QUICKLY}",
        # A program for several devices of a CPU is not read back from the cache as it was written.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    rows = [json.loads(line) for line in lines_of("-m", "tests.support.meshes", **variables)]
    assert len(rows) == 11
    for row in rows:
        assert row["used"] > 1, row
        assert max(row["columns"], row.get("params", 0.0)) < 1e-6, row


def values(**others):
    return parse_config({**BASE, "rounds": 2, **others})


def test_the_same_devices_give_the_same_bytes_whatever_the_chunk():
    found = []
    for chunk in (1, 3, 6):
        experiment = assemble(values(devices={"clients": 2}, client_chunk=chunk))
        assert experiment.mesh.size == 2
        found.append(run_experiment(experiment).params)
    assert distance(found[0], found[1]) == distance(found[0], found[2]) == 0.0


def test_a_run_goes_on_on_other_devices_with_a_note(tmp_path):
    whole = run_experiment(assemble(values(rounds=4)))
    assert "×" not in whole.summary["device"]

    def interrupt(record):
        if getattr(record, "round", 0) == 2:
            raise KeyboardInterrupt

    two = assemble(values(rounds=4, devices={"clients": 2}))
    with pytest.raises(KeyboardInterrupt):
        run_experiment(two, tmp_path, progress=interrupt)
    notes: list[str] = []
    resumed = run_experiment(assemble(values(rounds=4)), tmp_path, resume=True, note=notes.append)
    (note,) = notes
    assert note.startswith("from round 2 on the run is computed with device cpu: cpu × 2 → cpu: cpu:")
    assert resumed.summary["notes"] == notes
    assert distance(resumed.params, whole.params) < 1e-6


def test_clients_examples_are_on_their_own_device_alone():
    config = values(devices={"clients": 2})
    data = assemble(config).state.data
    alone = assemble(values()).state.data
    for array in (data.x, data.y, data.table, data.counts):
        assert array.sharding.spec[0] == "clients"
    # Six clients on the first, five on the second, and the root dataset on both.
    lengths = [shard.data.shape[0] for shard in data.x.addressable_shards]
    assert lengths[0] == lengths[1] < 0.6 * alone.x.shape[0]


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
def test_every_client_keeps_its_examples_in_their_order(devices):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2)).astype(np.float32)
    table = np.full((7, 6), -1, np.int32)
    counts = np.array([6, 0, 3, 6, 1, 2, 4], np.int32)
    free = iter(generator.permutation(40)[5:])
    for client, count in enumerate(counts):
        table[client, :count] = [next(free) for _ in range(count)]
    root = np.array([39, 3], np.int32)
    data = RoundData(x, np.arange(40), table, counts, root, np.zeros(7, bool), None, np.array([5]))
    laid = lay_out(data, devices)
    laid = laid._replace(x=np.asarray(laid.x), y=np.asarray(laid.y))
    size, length = -(-7 // devices), len(laid.x) // devices
    assert len(laid.table) == len(laid.counts) == size * devices
    for client, count in enumerate(counts):
        start = client // size * length
        own = laid.y[start + laid.table[client, :count]]
        np.testing.assert_array_equal(own, table[client, :count])
        np.testing.assert_array_equal(laid.x[start + laid.table[client, :count]], x[own])
    for device in range(devices):
        np.testing.assert_array_equal(laid.y[device * length + laid.root], root)
        np.testing.assert_array_equal(laid.y[device * length + laid.validation], [5])


def test_what_is_wrong_is_said():
    for devices, said in (
        ({"clients": 3}, "devices: runs=1 × clients=3 are 3, and there are 2: on a CPU call fljax.use_cores"),
        ({"runs": 2}, "devices.runs=2: a run alone is divided among devices.clients; give runs = 1"),
    ):
        with pytest.raises(ConfigError) as error:
            assemble(values(devices=devices))
        assert str(error.value).startswith(said)
    with pytest.raises(ConfigError, match=r"devices.clients=2 must not exceed the 1 clients of a round"):
        mesh_of(values(devices={"clients": 2}), 1)
    for count in (0, -1, True, 2.0, 5000):
        with pytest.raises(ConfigError, match="must be a whole number between 1 and 1,024"):
            use_cores(count)
    with pytest.raises(ConfigError, match="must be called before JAX is used: it has settled for 2 of 64"):
        use_cores(64)


def test_auto_takes_one_device_of_a_cpu_and_cells_share_what_divides_them():
    # There are two, but `use_cores` has not made them.
    assert jax.device_count() == 2
    assert mesh_of(values(), 11) is None
    mesh = mesh_of(values(devices={"runs": 2}), 11, runs=1)
    assert mesh is None  # a batch of one cell
    assert [largest_divisor(8, most) for most in (1, 3, 8, 20)] == [1, 2, 8, 8]


@pytest.mark.parametrize(("chunk", "shares"), [(1, 1.3), (40, 2.5)])
def test_stack_is_on_no_device_as_a_whole(chunk, shares):
    # A wide model: its updates are most of what a device holds.
    wide = {"model": {"name": "mlp", "hidden": [4001]}, "client_chunk": chunk, "attack": {"name": "none"}}
    config = values(**wide, devices={"clients": 2}, num_clients=40, rounds=2, local={"batch_size": 2})
    experiment = assemble(config)
    program = compile_experiment(experiment)
    memory = program.chunk.memory_analysis()
    stack = 4 * 40 * experiment.state.run.params.size
    # Trained one after the other, rows go to the devices that have their columns as they come; trained at
    # once, they are there beside the columns.
    assert memory.temp_size_in_bytes < shares * stack / 2
