"""A rule is told of the model and the root dataset by the names of its arguments, or why it cannot be."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import fljax
from fljax.aggregators import RULES, lasa, register_rule, stateless
from fljax.config.schema import parse_config
from fljax.models import as_model
from fljax.models.resnet import BatchNorm
from fljax.simulation.experiment import assemble

BASE = {
    "rounds": 1,
    "eval_every": 1,
    "num_clients": 3,
    "data": {"name": "synthetic", "num_train": 60, "num_test": 10, "num_classes": 3},
    "local": {"batch_size": 4},
    "root": {"size": 7},
    "aggregator": {"name": "mean"},
}


class Net(nn.Module):
    """With batch statistics, and more hidden units than classes."""

    @nn.compact
    def __call__(self, x, train=False):
        x = BatchNorm()(nn.Dense(7)(x.reshape(len(x), -1)), use_running_average=not train)
        return nn.Dense(3)(nn.relu(x))


class Soft(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.log_softmax(nn.Dense(3)(x.reshape(len(x), -1)))


def test_a_rule_is_told_of_model_and_root_dataset():
    seen = {}

    def spy(updates, params, layers, head, predict, features, root_x, root_loss):
        moved = params + updates[0]
        parts = (predict(moved, root_x), features(moved, root_x), root_loss(moved), moved, root_x)
        seen.update(layers=layers, head=head, shapes=[part.shape for part in parts])
        jax.debug.callback(lambda *values: seen.update(values=values), *parts)
        return updates[0]

    experiment = assemble(parse_config(BASE), model=Net(), aggregator=stateless(spy))
    run, data = experiment.state
    jax.block_until_ready(jax.jit(experiment.step)(run, data))
    jax.effects_barrier()
    logits, features, loss, moved, x = map(np.asarray, seen["values"])
    module = as_model(Net(), x.shape[1:])
    params, unravel = ravel_pytree(module.init(jax.random.key(0)))
    assert seen["layers"].shapes == tuple(leaf.shape for leaf in jax.tree.leaves(unravel(params)))
    head = seen["head"]
    kernel = moved[head.kernel : head.kernel + 21].reshape(7, 3)
    bias = moved[head.bias : head.bias + 3]
    model_state = run.model_state
    np.testing.assert_allclose(logits, module.apply(unravel(moved), x, model_state), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    assert (features >= 0).all()
    assert features.any()
    y = np.asarray(data.y)[np.asarray(data.root)]
    np.testing.assert_array_equal(x, np.asarray(data.x)[np.asarray(data.root)])
    np.testing.assert_allclose(loss, -np.mean(jax.nn.log_softmax(logits)[np.arange(7), y]), rtol=1e-5)


@pytest.fixture
def picky():
    """A rule that needs the last layer, by its name."""

    @register_rule("picky")
    def picky(updates, head):
        return updates[0]

    yield
    RULES.remove("picky")


def test_what_a_model_lacks_is_said_before_anything_is_compiled(picky):
    config = parse_config({**BASE, "aggregator": {"name": "picky"}})
    with pytest.raises(fljax.ConfigError) as caught:
        assemble(config, model=Soft())
    said = "picky: needs head, but the model's last layer is not a dense one whose outputs are the model's"
    assert str(caught.value) == said
    assemble(config, model=Net())
    # What an optional argument asks for may be missing.
    optional = stateless(lambda updates, head=None: updates[0] if head is None else updates[1])
    assemble(parse_config(BASE), model=Soft(), aggregator=optional)


def test_messages_are_no_updates_of_a_model():
    config = parse_config({**BASE, "client": {"name": "scaffold"}})
    needy = stateless(lambda updates, predict: updates[0])
    with pytest.raises(fljax.ConfigError, match="client scaffold: .*: needs predict, which this round does"):
        assemble(config, aggregator=needy)
    assemble(config, aggregator=stateless(lambda updates, layers, head: updates[0]))


def test_layers_are_checked_where_a_rule_is_called():
    rows = np.ones((3, 4), np.float32)
    for layers, said in (
        ([(2, 1)], "layers have 2 entries in all, the updates 4"),
        (None, "layers must be the shapes of a model's tensors, got None"),
    ):
        with pytest.raises(ValueError, match=f"^lasa: {said}$"):
            lasa(rows, layers)
