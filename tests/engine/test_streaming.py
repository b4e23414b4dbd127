"""Rounds that train a chunk of clients after the other, against the same with the whole stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.attacks import on_updates
from fljax.base import Task
from fljax.config.schema import parse_config
from fljax.engine.local_training import mean_of_sums, mean_state, sum_states
from fljax.errors import ConfigError
from fljax.simulation import assembly
from fljax.simulation.experiment import assemble
from fljax.sweeps import make_plan, make_sweep
from tests.models.test_batch_statistics import DATA, Small
from tests.support.sweeps import BASE as SMALL

BASE = {**SMALL, "num_clients": 11, "partition": {"name": "dirichlet", "alpha": 1.0}}


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch):
    """Chunks of 4 clients, so that 11 or 9 of them leave some over."""
    monkeypatch.setattr(assembly, "rows_at_once", lambda num_params: 4)


def rounds(values, streaming, number=2, **components):
    """The arrays of the state and the metrics after some rounds."""
    round_fn, state = fljax.build(parse_config({**values, "streaming": streaming}), **components)
    state, metrics = jax.jit(lambda state: jax.lax.scan(round_fn, state, length=number))(state)
    return jax.tree.leaves((state.run._replace(key=None), metrics))


def assert_same_rounds(values, **components):
    pairs = zip(*(rounds(values, streaming, **components) for streaming in (True, False)), strict=True)
    for streamed, stacked in pairs:
        np.testing.assert_allclose(streamed, stacked, rtol=1e-5, atol=1e-6)


CASES = {
    "client state, messages, a sampled cohort, attackers who know the mean": {
        "cohort_size": 9,
        "client": {"name": "scaffold"},
        "aggregator": {"name": "mean", "pre": [{"name": "adaptive_clip", "num_malicious": 2}]},
        "attack": {"name": "alie", "z": 1.5, "knowledge": "full", "fraction": 0.3},
    },
    "momentum, a carried centre, noise by rows, several steps": {
        "client": {"name": "momentum"},
        "aggregator": {"name": "centered_clipping", "radius": 0.05, "num_iterations": 2},
        "attack": {"name": "gaussian", "std": 0.1, "around": "own", "fraction": 0.3},
    },
    "epochs with unequal clients, poisoned copies, trust scores": {
        "local": {"epochs": 1.5, "batch_size": 8},
        "aggregator": {"name": "fltrust"},
        "attack": {
            "name": "scaling_attack",
            "fraction": 0.3,
            "schedule": {"name": "periodic", "on": 1, "off": 1},
        },
    },
    "attackers who train in their own way, a filter by norms": {
        "cohort_size": 9,
        "aggregator": {"name": "norm_filter", "num_malicious": 3},
        "attack": {"name": "constrain_and_scale", "fraction": 0.3, "in_cohort": 3, "bound": 1.0},
    },
    "nobody reads the rows": {"aggregator": {"name": "root_only"}, "attack": {"name": "label_flip"}},
}


@pytest.mark.parametrize("name", CASES)
def test_a_streaming_round_is_the_round(name):
    assert_same_rounds({**BASE, **CASES[name]})


def test_batch_statistics_are_averaged_in_a_streaming_round():
    values = {**SMALL, "num_clients": 6, "local": {"batch_size": 6}, "root": {"size": 9}}
    values["attack"] = {"name": "constant", "value": float("nan"), "fraction": 0.3}
    assert_same_rounds({**values, "aggregator": {"name": "sign_majority"}}, dataset=DATA, model=Small())


def test_the_parts_of_clients_add_up_to_the_mean_of_their_states():
    random = np.random.default_rng(0)
    states = {"mean": random.normal(size=(5, 3)).astype(np.float32), "count": np.full((5,), 7, np.int32)}
    states["mean"][1] = np.nan
    states["mean"][3] = 3e38
    before = {"mean": jnp.ones(3), "count": jnp.int32(6)}
    for counted in (np.arange(5) != 4, np.arange(5) == 1):
        parts = [
            sum_states(jax.tree.map(lambda leaf: leaf[rows], states), jnp.asarray(counted[rows]), 5)  # noqa: B023
            for rows in (slice(0, 2), slice(2, 5))
        ]
        result = mean_of_sums(jax.tree.map(jnp.add, *parts), 5, before)
        expected = mean_state(jax.tree.map(jnp.asarray, states), jnp.asarray(counted), before)
        np.testing.assert_allclose(result["mean"], expected["mean"], rtol=1e-6)
        assert result["count"] == expected["count"]


# --- who streams, and when ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"aggregator": {"name": "krum", "num_malicious": 2}}, "aggregator krum reads all updates"),
        (
            {"aggregator": {"name": "mean", "pre": [{"name": "nnm", "num_malicious": 2}]}},
            "pre-aggregator nnm",
        ),
        ({"attack": {"name": "min_max"}}, r"attack min_max reads all .* do not: .*sign_flip, scale,"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_the_stack_is_refused(changes, sentence):
    values = {**BASE, **changes, "streaming": True}
    with pytest.raises(ConfigError, match=sentence):
        assemble(parse_config(values))
    with pytest.raises(ConfigError, match=sentence):
        make_plan(make_sweep(values, {"seeds": 2}))


def test_an_attack_of_ones_own_is_told_of_as_such():
    attack = on_updates(lambda updates, malicious: updates, Task(10))
    with pytest.raises(ConfigError, match="this attack reads all updates"):
        assemble(parse_config({**BASE, "streaming": True}), attack=attack)


WIDE = {**BASE, "num_clients": 40, "client_chunk": 1, "model": {"name": "mlp", "hidden": [3000]}}


def test_a_round_streams_where_the_stack_does_not_fit():
    """40 rows of 93,010 parameters are 15 MB."""
    streams = assemble(parse_config({**WIDE, "aggregator": {"name": "mean"}}), memory=0.006)
    (note,) = streams.facts["data"]["notes"]
    assert "streaming" in note
    assert not assemble(parse_config({**WIDE, "aggregator": {"name": "mean"}})).facts["data"]["notes"]
    for stacks in ({"aggregator": {"name": "median"}}, {"aggregator": {"name": "mean"}, "streaming": False}):
        with pytest.raises(ConfigError, match="the updates, 40 clients"):
            assemble(parse_config({**WIDE, **stacks}), memory=0.006)


def test_the_cells_of_a_sweep_stream_together():
    values = {**BASE, "aggregator": {"name": "fltrust"}, "attack": {"name": "sign_flip", "fraction": 0.3}}
    table = fljax.sweep(
        make_sweep(values, {"axes": {"streaming": [True, False]}, "seeds": 2}), progress=False
    )
    streamed, stacked = (table[table.streaming == value] for value in (True, False))
    assert len(streamed) == len(stacked) == 2
    for name in ("curve_loss", "curve_test_error"):
        np.testing.assert_allclose(np.stack(streamed[name]), np.stack(stacked[name]), rtol=1e-5)
