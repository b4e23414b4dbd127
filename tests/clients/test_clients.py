"""Client algorithms against loops written from their papers, over rounds with sampled cohorts."""

from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.base import Model
from fljax.clients import CLIENT_ALGORITHMS, ClientAlgorithm, client_algorithm_from_registry
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.batches import draw_batches, draw_passes
from fljax.engine.keys import named_key
from fljax.engine.round import draw_cohort
from fljax.simulation.experiment import assemble
from tests.clients import reference
from tests.support.programs import jitted

draw_batches, draw_passes = jitted(draw_batches), jitted(draw_passes)
draw_cohort = jax.jit(draw_cohort, static_argnums=2)

SIZES = [9, 4, 2, 12, 7, 6]  # of the natural clients, one more than the root dataset takes
RNG = np.random.default_rng(11)
NUM = sum(SIZES)
X = RNG.normal(size=(NUM, 3)).astype(np.float32)
Y = RNG.integers(0, 3, NUM).astype(np.int32)
DATA = Dataset(X, Y, X[:8], Y[:8], 3, "made up", client_ids=np.repeat(np.arange(6, dtype=np.int32), SIZES))
START = RNG.normal(size=(3, 3)).astype(np.float32)
MODEL = Model(lambda key: {"w": jnp.array(START)}, lambda params, x: x @ params["w"])
ROUNDS = 5
DECAYING = {"name": "exponential_decay", "init_value": 0.4, "transition_steps": 1, "decay_rate": 0.7}
MEAN = {"name": "mean", "weights": "uniform"}
STEPS, EPOCHS = {"steps": 2}, {"epochs": 1.5}


class Row(NamedTuple):
    """A case: the table of the algorithm, of the local training, and right and wrong versions of it."""

    client: dict
    local: dict
    right: object
    wrong: dict
    attack: dict = {"name": "none"}  # noqa: RUF012 - never written to
    aggregator: dict = MEAN


def row(name, local, right, wrong, attack=None, aggregator=MEAN, **parameters):
    return Row(
        {"name": name, **parameters},
        local,
        partial(right, **parameters),
        {what: partial(right, **parameters, **change) for what, change in wrong.items()},
        attack or {"name": "none"},
        aggregator,
    )


SCAFFOLD = {"c of the cohort": {"of_all": False}, "the other sign": {"swapped": True}}
FLIPPED = {"name": "sign_flip", "fraction": 0.34}
ROWS = {
    "sgd": row("sgd", {**STEPS, "learning_rate": 0.3}, reference.sgd, {"one step": {"steps": 1}}),
    "momentum": row(
        "momentum",
        {"steps": 1, "learning_rate": DECAYING},
        reference.momentum,
        {"undamped": {"dampening": False}, "afresh": {"forget": True}},
        beta=0.8,
    ),
    "momentum of epochs": row(
        "momentum",
        {**EPOCHS, "learning_rate": 0.3},
        reference.momentum,
        {"undamped": {"dampening": False}},
        beta=0.8,
    ),
    "fedprox": row(
        "fedprox",
        {"steps": 3, "learning_rate": 0.3},
        reference.fedprox,
        {"not squared": {"power": 1}},
        mu=0.7,
    ),
    "scaffold I": row("scaffold", {**EPOCHS, "learning_rate": 0.3}, reference.scaffold, SCAFFOLD, option="I"),
    "scaffold II": row(
        "scaffold", {**STEPS, "learning_rate": DECAYING}, reference.scaffold, SCAFFOLD, option="II"
    ),
    "scaffold II attacked": row(
        "scaffold",
        {**EPOCHS, "learning_rate": 0.3},
        reference.scaffold,
        {"the other sign": {"swapped": True}},
        attack=FLIPPED,
        aggregator={"name": "median"},
        option="II",
    ),
    "feddyn": row(
        "feddyn",
        {**STEPS, "learning_rate": 0.3},
        reference.feddyn,
        {"h of the cohort": {"of_all": False}, "only the square": {"linear": False}},
        alpha=0.4,
    ),
    "feddyn attacked": row(
        "feddyn",
        {**EPOCHS, "learning_rate": 0.3},
        reference.feddyn,
        {"only the square": {"linear": False}},
        attack=FLIPPED,
        aggregator={"name": "median"},
        alpha=0.4,
    ),
    "kept_optimizer": row(
        "kept_optimizer",
        {"steps": 1, "learning_rate": 0.05, "optimizer": {"name": "adam"}},
        reference.kept_adam,
        {"afresh": {"kept": False}},
    ),
}


def config(case, **changes):
    return parse_config(
        {
            "rounds": ROUNDS,
            "eval_every": 1,
            "cohort_size": 3,
            "partition": {"name": "by_client"},
            "root": {"size": 1},
            "local": {"batch_size": 4, **case.local},
            "client": case.client,
            "attack": case.attack,
            "aggregator": case.aggregator,
            **changes,
        }
    )


@cache
def trained(name, chunk="auto"):
    """The experiment, and its states after every round."""
    experiment = assemble(config(ROWS[name], client_chunk=chunk), dataset=DATA, model=MODEL)
    step, states = jax.jit(experiment.step), [experiment.state.run]
    for _ in range(ROUNDS):
        state, metrics = step(states[-1], experiment.state.data)
        assert np.isfinite(float(metrics.loss))
        states.append(state)
    return experiment, states


def cohort_of(experiment, number):
    key = jax.random.fold_in(experiment.state.run.key, number)
    return np.asarray(draw_cohort(named_key(key, "cohort"), experiment.state.data, 3))


def batches_of(experiment, number, client):
    """The examples of a client's steps, from the library's own sampler."""
    data, local = experiment.state.data, experiment.config.local
    key = jax.random.fold_in(
        named_key(jax.random.fold_in(experiment.state.run.key, number), "batches"), client
    )
    table, count, none = data.table[client], data.counts[client], jnp.int32(0)
    how = {"batch_size": 4, "largest": data.table.shape[1]}
    if local.epochs is None:
        drawn = draw_batches(key, table, count, none, steps=local.steps, **how)
        return [np.asarray(e)[np.asarray(w) > 0] for e, w in zip(drawn.examples, drawn.weights, strict=True)]
    order = np.asarray(draw_passes(key, table, count, none, epochs=local.epochs, **how).order)
    owned, found = np.asarray(table), []
    for row, share in zip(order, (1.0, 0.5), strict=True):
        taken = owned[row[: int(np.ceil(share * int(count)))]]
        found += [taken[start : start + 4] for start in range(0, len(taken), 4)]
    return found


def world_of(experiment, case):
    data = experiment.state.data
    table, counts = np.asarray(data.table), np.asarray(data.counts)
    cohorts = [cohort_of(experiment, number) for number in range(ROUNDS)]
    rate = case.local["learning_rate"]
    return reference.World(
        X.astype(np.float64),
        Y,
        [list(row[:count]) for row, count in zip(table, counts, strict=True)],
        START.astype(np.float64),
        cohorts,
        {
            (number, i): batches_of(experiment, number, int(i))
            for number, cohort in enumerate(cohorts)
            for i in cohort
        },
        [0.4 * 0.7**number if rate is DECAYING else rate for number in range(ROUNDS)],
        frozenset(np.flatnonzero(np.asarray(data.malicious))),
        partial(np.median if case.aggregator["name"] == "median" else np.mean, axis=0),
    )


@pytest.mark.parametrize("name", ROWS)
def test_rounds_equal_the_papers_loop(name):
    case = ROWS[name]
    experiment, states = trained(name)
    world = world_of(experiment, case)
    assert len({tuple(cohort) for cohort in world.cohorts}) > 1
    assert len(world.malicious) == (2 if case.attack["name"] == "sign_flip" else 0)
    given = [np.asarray(state.params).reshape(3, 3) for state in states[1:]]
    np.testing.assert_allclose(given, case.right(world), atol=5e-6)
    for what, wrong in case.wrong.items():
        gap = np.abs(np.asarray(wrong(world)) - given).max()
        assert gap > 1e-3, f"{what} passes for {name}"


def test_every_algorithm_has_a_row():
    assert {case.client["name"] for case in ROWS.values()} == set(CLIENT_ALGORITHMS)


@pytest.mark.parametrize("name", ["momentum of epochs", "scaffold I"])
def test_chunks_of_clients_do_not_change_the_rounds(name):
    _, states = trained(name)
    _, chunked = trained(name, chunk=2)
    for one, other in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(chunked[-1]), strict=True):
        if jnp.issubdtype(one.dtype, jnp.floating):
            np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.parametrize("name", ["momentum", "scaffold II", "kept_optimizer"])
def test_only_the_cohorts_rows_change(name):
    experiment, states = trained(name)
    for number, (before, after) in enumerate(pairwise(states)):
        others = np.setdiff1d(np.arange(6), cohort_of(experiment, number))
        for old, new in zip(
            jax.tree.leaves(before.client_state.clients),
            jax.tree.leaves(after.client_state.clients),
            strict=True,
        ):
            assert old.shape[0] == 6
            np.testing.assert_array_equal(np.asarray(old)[others], np.asarray(new)[others])
            assert (np.asarray(old) != np.asarray(new)).any()


def test_scaffolds_server_keeps_the_mean_of_its_clients():
    """c = (1/N) Σ c_i in every round, as the paper's update of c has it; by the plain mean."""
    for name in ("scaffold I", "scaffold II"):
        for state in trained(name)[1]:
            kept = state.client_state
            np.testing.assert_allclose(kept.shared, np.mean(kept.clients, 0), atol=1e-6)


def test_nothing_is_kept_where_there_is_nothing_to_keep():
    assert trained("sgd")[1][-1].client_state == trained("fedprox")[1][-1].client_state == ()


def test_an_algorithm_of_ones_own_gives_a_round():
    """One that sends another vector, and lets the server add a share of it."""

    def train(client, state, shared):
        ran = client.descend()
        return ran._replace(update=ran.update + shared, state=state + 1, messages=(jnp.full(9, state),))

    own = ClientAlgorithm(
        train,
        init=lambda params, optimizer: jnp.float32(2),
        init_shared=jnp.zeros,
        serve=lambda update, messages, shared, share: (update, shared + share * messages[0]),
        num_messages=1,
    )
    case = ROWS["sgd"]._replace(client={"name": "sgd"})
    round_fn, state = fljax.build(config(case, cohort_size=6), dataset=DATA, model=MODEL, client=own)
    first, _ = jax.jit(round_fn)(state)
    np.testing.assert_array_equal(first.run.client_state.clients, np.full(6, 3.0))
    np.testing.assert_array_equal(first.run.client_state.shared, np.full(9, 2.0))
    plain, start = fljax.build(config(case, cohort_size=6), dataset=DATA, model=MODEL)
    second, _ = jax.jit(round_fn)(first)
    gone = start._replace(run=start.run._replace(params=first.run.params, round=first.run.round))
    expected, _ = jax.jit(plain)(gone)
    np.testing.assert_allclose(second.run.params, expected.run.params + 2, atol=1e-5)


@pytest.mark.parametrize(
    ("client", "changes", "sentence"),
    [
        ({"name": "momentun"}, {}, "did you mean 'momentum'"),
        ({"name": "momentum", "beta": 1.0}, {}, "client momentum: beta=1 must be below 1"),
        ({"name": "momentum", "beta": -0.1}, {}, "client momentum: beta=-0.1 must be between 0 and 1"),
        ({"name": "fedprox"}, {}, "client fedprox.mu: this parameter is required"),
        ({"name": "fedprox", "mu": -1.0}, {}, "client fedprox: mu=-1.0 must be at least 0"),
        ({"name": "feddyn", "alpha": 0.0}, {}, "client feddyn: alpha=0.0 must be larger than 0"),
        ({"name": "scaffold", "option": "III"}, {}, "client scaffold.option: must be 'I' or 'II'"),
        ({"name": "sgd", "beta": 0.5}, {}, "client sgd: takes no parameters, got 'beta'"),
        (
            {"name": "scaffold"},
            {"local": {"steps": 2, "optimizer": {"name": "sgd", "momentum": 0.9}}},
            "local.optimizer must be sgd without momentum, got sgd with momentum",
        ),
        (
            {"name": "scaffold"},
            {"aggregator": {"name": "fltrust"}},
            "client scaffold: the server has nothing to compare its clients' other messages with",
        ),
        (
            {"name": "momentum"},
            {"local": {"steps": 1, "optimizer": {"name": "adam"}}},
            "local.optimizer adam needs local.steps of at least 2",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(client, changes, sentence):
    case = ROWS["sgd"]._replace(client=client)
    with pytest.raises(fljax.ConfigError) as error:
        assemble(config(case, **changes), dataset=DATA, model=MODEL)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_state_that_does_not_fit_the_memory_is_one_sentence():
    large = Model(lambda key: {"w": jnp.zeros((3, 300_000))}, lambda params, x: x @ params["w"][:, :3])
    case = ROWS["kept_optimizer"]
    many = config(case, cohort_size=1, partition={"name": "iid"}, num_clients=20)
    with pytest.raises(fljax.ConfigError, match="for what kept_optimizer keeps of 20 clients") as error:
        assemble(many, dataset=DATA, model=large, memory=0.05)
    assert "\n" not in str(error.value)


def test_numbers_may_be_traced():
    """As a sweep does: a traced number gives what a plain one gives."""

    def sent(name, **numbers):
        made = client_algorithm_from_registry(name, **numbers)
        update, memory = made.serve(jnp.ones(2), (), jnp.ones(2), 0.5)
        return jnp.concatenate([update, memory])

    np.testing.assert_allclose(
        jax.jit(lambda alpha: sent("feddyn", alpha=alpha))(0.3), sent("feddyn", alpha=0.3), rtol=1e-6
    )
