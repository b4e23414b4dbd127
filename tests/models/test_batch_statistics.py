"""Models with running batch statistics: what the round carries, averages and keeps from the attackers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import fljax
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.batches import draw_batches
from fljax.engine.keys import named_key
from fljax.engine.local_training import mean_state
from fljax.engine.objectives import objective
from fljax.losses import cross_entropy
from fljax.models import Model, ResNet20, as_model
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from tests.support.programs import jitted

draw_batches = jitted(draw_batches)

IMAGES = np.random.default_rng(0).uniform(size=(60, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(60, dtype=np.int32) % 3
DATA = Dataset(IMAGES, LABELS, IMAGES[:7] + 1, LABELS[:7], 3, "made up")
BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 3,
    "partition": {"name": "iid"},
    "local": {"batch_size": 6, "learning_rate": 0.5},
    "root": {"size": 9},
    "aggregator": {"name": "mean", "weights": "uniform"},
    "attack": {"name": "none"},
}


class Small(nn.Module):
    """One convolution and flax's own BatchNorm, told nothing of padding."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(3, (2, 2), padding="VALID")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.7)(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


def config(**changes):
    return parse_config({**BASE, **changes})


def batches_of(experiment, client, steps=1):
    """The examples a client reads in the first round, from the library's own sampler."""
    run, data = experiment.state
    key = jax.random.fold_in(named_key(jax.random.fold_in(run.key, 0), "batches"), client)
    drawn = draw_batches(
        key,
        data.table[client],
        data.counts[client],
        jnp.int32(0),
        steps=steps,
        batch_size=experiment.config.local.batch_size,
        largest=data.table.shape[1],
    )
    return [np.asarray(e)[np.asarray(w) > 0] for e, w in zip(drawn.examples, drawn.weights, strict=True)]


@cache
def gradient_of(module):
    """The gradient of a batch's mean loss, and the running statistics after it, in flax's own words."""

    def loss(params, stats, x, y):
        logits, changed = module.apply(
            {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), changed

    return jax.jit(jax.grad(loss, has_aux=True))


def by_hand(module, params, stats, batches, rate=0.5):
    """R SGD steps in flax's own words: the update, and the running statistics after them."""
    here = params
    for examples in batches:
        grads, changed = gradient_of(module)(here, stats, IMAGES[examples], LABELS[examples])
        here = jax.tree.map(lambda w, g: w - rate * g, here, grads)
        stats = changed["batch_stats"]
    return jax.tree.map(jnp.subtract, here, params), stats


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"atol": 1e-5, **tolerance}), a, b)


@pytest.mark.parametrize("steps", [1, 2])
def test_one_round_equals_a_loop_over_clients(steps):
    # 51 examples beside the root's: 17 a client.
    cfg = config(local={"batch_size": 6, "learning_rate": 0.5, "steps": steps})
    experiment = assemble(cfg, model=Small(), dataset=DATA)
    run, data = experiment.state
    params = experiment.unravel(run.params)
    results = [
        by_hand(Small(), params, run.model_state, batches_of(experiment, client, steps))
        for client in range(3)
    ]
    update, stats = jax.tree.map(lambda *rows: sum(rows) / 3, *results)
    after, metrics = jax.jit(experiment.step)(run, data)
    close(experiment.unravel(after.params - run.params), update)
    close(after.model_state, stats)
    assert metrics.finite == 1.0
    assert not np.allclose(after.model_state["BatchNorm_0"]["mean"], 0, atol=1e-2)


def test_fltrusts_server_uses_the_statistics_of_its_own_batch_and_keeps_none():
    cfg = config(aggregator={"name": "root_only"}, root={"size": 9, "batch_size": "full"})
    experiment = assemble(cfg, model=Small(), dataset=DATA)
    run, data = experiment.state
    root, _ = by_hand(Small(), experiment.unravel(run.params), run.model_state, [np.asarray(data.root)])
    after, _ = jax.jit(experiment.step)(run, data)
    close(experiment.unravel(after.params - run.params), root)
    plain, _ = jax.jit(assemble(config(), model=Small(), dataset=DATA).step)(run, data)
    close(after.model_state, plain.model_state, atol=0)


@pytest.mark.parametrize("module", [Small(), ResNet20(3, widths=(2, 4), blocks=1)])
def test_padding_enters_neither_statistics_nor_update(module):
    model = as_model(module, (4, 4, 1))
    params, state = model.init(jax.random.key(0)), model.init_state(jax.random.key(0))
    gradient = jax.jit(jax.value_and_grad(objective(cross_entropy, model.apply, model.train), has_aux=True))
    # A client with 5 examples in a batch of 8, as the sampler pads it, and the 5 alone.
    padded = jnp.array([3, 10, 17, 24, 31, 3, 3, 3])
    weights = (jnp.arange(8) < 5).astype(jnp.float32)
    whole = gradient(params, state, IMAGES[padded], LABELS[padded], weights)
    alone = gradient(params, state, IMAGES[padded[:5]], LABELS[padded[:5]], jnp.ones(5))
    close(whole, alone)
    # The padding would have changed both.
    other = gradient(params, state, IMAGES[padded], LABELS[padded], jnp.ones(8))
    assert not np.allclose(jax.tree.leaves(other[0][1])[0], jax.tree.leaves(alone[0][1])[0], atol=1e-5)
    # Nobody's batch: no update, and numbers that are left out of the mean.
    (_, _), nothing = gradient(params, state, IMAGES[padded], LABELS[padded], jnp.zeros(8))
    close(nothing, jax.tree.map(jnp.zeros_like, nothing), atol=0)


def test_the_round_masks_padding_and_leaves_out_clients_without_examples():
    experiment = assemble(config(), model=Small(), dataset=DATA)
    run, data = experiment.state
    data = data._replace(counts=jnp.array([17, 4, 0], jnp.int32))
    params = experiment.unravel(run.params)
    few = [np.asarray(data.table)[1, :4]]
    results = [
        by_hand(Small(), params, run.model_state, batches) for batches in (batches_of(experiment, 0), few)
    ]
    update = jax.tree.map(lambda a, b: (a + b) / 3, results[0][0], results[1][0])
    stats = jax.tree.map(lambda a, b: (a + b) / 2, results[0][1], results[1][1])
    after, _ = jax.jit(experiment.step)(run, data)
    close(experiment.unravel(after.params - run.params), update)
    close(after.model_state, stats)


def test_chunks_of_clients_do_not_change_the_statistics():
    states = []
    for chunk in (2, 3):
        experiment = assemble(config(client_chunk=chunk), model=Small(), dataset=DATA)
        states.append(jax.jit(experiment.step)(*experiment.state)[0])
    close(states[0].model_state, states[1].model_state, atol=1e-6)
    close(states[0].params, states[1].params, atol=1e-6)


def test_what_attackers_send_does_not_touch_the_statistics():
    attack = {"name": "constant", "fraction": 0.34, "value": float("nan")}
    attacked = assemble(config(attack=attack), model=Small(), dataset=DATA)
    assert int(attacked.state.data.malicious.sum()) == 1
    honest = assemble(config(), model=Small(), dataset=DATA)
    step = jax.jit(honest.step)
    bad, _ = jax.jit(attacked.step)(*attacked.state)
    good, _ = step(*honest.state)
    assert not np.isfinite(bad.params).all()
    close(bad.model_state, good.model_state, atol=0)


def test_statistics_that_are_not_finite_are_left_out():
    states = {"mean": jnp.array([[1.0, 2.0], [jnp.nan, 5.0], [3.0, 4.0], [9.0, 9.0], [0.0, jnp.inf]])}
    before = {"mean": jnp.array([7.0, 7.0])}
    counted = jnp.array([True, True, True, False, True])
    assert mean_state(states, counted, before)["mean"].tolist() == [2.0, 3.0]
    assert mean_state(states, jnp.zeros(5, bool), before)["mean"].tolist() == [7.0, 7.0]
    huge = {"mean": jnp.full((5, 2), 3e38)}
    np.testing.assert_allclose(mean_state(huge, jnp.ones(5, bool), before)["mean"], 3e38, rtol=1e-6)
    # In a round: the images of one client overflow, the model stays usable for the others.
    experiment = assemble(config(aggregator={"name": "median"}), model=Small(), dataset=DATA)
    run, data = experiment.state
    data = data._replace(x=data.x.at[data.table[2, :17]].set(1e38))
    after, _ = jax.jit(experiment.step)(run, data)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.model_state))
    stats = [
        by_hand(Small(), experiment.unravel(run.params), run.model_state, batches_of(experiment, c))[1]
        for c in (0, 1)
    ]
    close(after.model_state, jax.tree.map(lambda a, b: (a + b) / 2, *stats))


def test_evaluation_uses_the_running_statistics():
    experiment = assemble(config(), model=Small(), dataset=DATA)
    run = experiment.state.run
    state = {"BatchNorm_0": {"mean": jnp.array([0.3, -0.2, 0.1]), "var": jnp.array([0.5, 2.0, 0.1])}}
    variables = {"params": experiment.unravel(run.params), "batch_stats": state}
    logits = Small().apply(variables, DATA.test_x, train=False)
    expected = np.mean(np.argmax(logits, 1) != DATA.test_y)
    evaluate = jax.jit(experiment.evaluate)
    found = evaluate(run.params, DATA.test_x, DATA.test_y, state).test_error
    np.testing.assert_allclose(found, expected)
    # Not a batch's: an example alone is answered as among others.
    alone = [
        float(evaluate(run.params, DATA.test_x[i : i + 1], DATA.test_y[i : i + 1], state).test_error)
        for i in range(3)
    ]
    np.testing.assert_array_equal(alone, np.argmax(logits[:3], 1) != DATA.test_y[:3])


def test_a_run_resumes_bit_for_bit_and_compiles_once(tmp_path):
    def bits(result):
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((result.params, result.model_state))]

    compiled, at_record = [], []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        whole = fljax.run(
            config(),
            model=ResNet20(3, widths=(2, 4), blocks=1),
            dataset=DATA,
            progress=lambda record: at_record.append(len(compiled)),
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(at_record) == 2
    assert at_record[0] == at_record[1] > 0

    class StopError(Exception):
        pass

    def interrupt(record):
        raise StopError

    built = assemble(config(), model=ResNet20(3, widths=(2, 4), blocks=1), dataset=DATA)
    program = compile_experiment(built)
    with pytest.raises(StopError):
        run_experiment(built, tmp_path / "run", progress=interrupt, program=program)
    resumed = run_experiment(built, tmp_path / "run", resume=True, program=program)
    assert bits(resumed) == bits(whole)
    assert len(jax.tree.leaves(resumed.model_state)) == 2 * 6


def test_models_without_state_carry_none():
    own = Model(lambda key: {"w": jnp.zeros((16, 3))}, lambda p, x: x.reshape(len(x), -1) @ p["w"])
    for model in (own, ResNet20(3, norm="group", widths=(2,), blocks=1)):
        assert assemble(config(), model=model, dataset=DATA).state.run.model_state == ()


def test_what_cannot_be_carried_is_refused_in_one_sentence():
    good = as_model(Small(), (4, 4, 1))
    wrong = good._replace(train=lambda p, x, state, real: (good.apply(p, x, state), {}))
    with pytest.raises(fljax.ConfigError, match="same structure, shapes and types as init_state"):
        assemble(config(), model=wrong, dataset=DATA)

    class Flat(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train)(x.reshape(-1, 1))
            return nn.Dense(3)(x.reshape(-1, 16))

    with pytest.raises(fljax.ConfigError, match="the first axis must be the batch of 1"):
        assemble(config(), model=Flat(), dataset=DATA)
