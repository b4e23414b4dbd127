"""Layer-wise poisoning: tensors that a backdoor depends on, and what is sent in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import Aggregator
from fljax.attacks import badnets
from fljax.attacks.layers import crafted, critical
from fljax.base import LocalAttack
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble

U_M = {"a": jnp.array([1.0, -1.0]), "b": jnp.array([2.0, -2.0]), "c": jnp.array([3.0])}
U_C = {"a": jnp.array([0.2, 0.1]), "b": jnp.array([0.2, 0.5]), "c": jnp.array([0.4])}


@pytest.mark.parametrize(
    ("factor", "sent"),
    [(0.5, [0.2, 0.1, 1.1, -0.75, 0.4]), (2.0, [0.2, 0.1, 4.0, -4.0, 0.4])],
)
def test_worked_numbers(factor, sent):
    found = crafted(U_M, U_C, jnp.array([False, True, False]), factor)
    np.testing.assert_allclose(np.concatenate(list(found.values())), sent, rtol=1e-6)


def by_loops(success, benign, bad, threshold):
    """Zhuang et al. 2024: forward substitution ranks the tensors, backward substitution takes them."""
    names, best = list(bad), success(bad)
    drops = [success({**bad, name: benign[name]}) - best for name in names]
    order = sorted(names, key=lambda name: drops[names.index(name)])
    taken: list[str] = []
    reached = 0.0
    while reached < threshold * best and len(taken) < len(names):
        taken.append(order[len(taken)])
        reached = success({**benign, **{name: bad[name] for name in taken}})
    return [name in taken for name in names]


POINTS = np.random.default_rng(0).normal(size=(64, 4))


def success_of(params, points, maths):
    """How many points a small network answers with its second output."""
    hidden = maths.maximum(points @ params["a"] + params["b"], 0.0)
    logits = hidden @ params["c"] + params["d"]
    return maths.mean((logits[:, 1] > logits[:, 0]) * 1.0)


@jax.jit
def critical_tensors(benign, bad, threshold):
    return critical(
        lambda tree: success_of(tree, jnp.asarray(POINTS, jnp.float32), jnp), benign, bad, threshold
    )


def draw_tree(random):
    shapes = {"a": (4, 5), "b": (5,), "c": (5, 2), "d": (2,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_tensors_are_those_of_the_loops():
    random = np.random.default_rng(1)
    numbers = []
    for _ in range(30):
        benign, bad = draw_tree(random), draw_tree(random)
        found = np.asarray(critical_tensors(benign, bad, 0.83))
        assert found.tolist() == by_loops(lambda tree: success_of(tree, POINTS, np), benign, bad, 0.83)
        numbers.append(found.sum())
    assert set(numbers) >= {1, 2, 3}
    # A backdoor that never works is not sent.
    nowhere = {name: np.zeros_like(value) for name, value in bad.items()}
    assert not critical_tensors(benign, nowhere, 0.83).any()


def config(**attack):
    return parse_config(
        {
            "rounds": 1,
            "eval_every": 1,
            "num_clients": 5,
            "root": {"size": 10},
            "local": {"steps": 3, "batch_size": 16},
            "model": {"name": "mlp"},
            "attack": {"fraction": 0.4, **attack},
        }
    )


def stacks_of(attack, made=None):
    """What the rule gets in a round, and the function from a row to its tensors."""
    rule = Aggregator(
        lambda n, d: jnp.zeros((5, d)), lambda stack, state, context: (jnp.mean(stack, 0), stack, {})
    )
    experiment = assemble(config(**attack), attack=made, aggregator=rule)
    state, _ = jax.jit(experiment.step)(*experiment.state)
    return np.asarray(state.aggregator_state), experiment.unravel, np.asarray(experiment.state.data.malicious)


def test_a_round_sends_some_tensors_of_the_backdoor():
    honest, unravel, _ = stacks_of({"name": "none"})
    task = {"image_shape": (8, 8, 1), "num_classes": 10, "target": 1}
    again = LocalAttack(lambda client, honest, state, context: client.descend(), steps=12, learning_rate=0.3)
    bad = stacks_of({"name": "badnets"}, badnets(**task)._replace(train=again))[0]
    attack = {"name": "layer_backdoor", "backdoor": {"name": "badnets", "target": 1}}
    sent, _, malicious = stacks_of({**attack, "steps": 12, "learning_rate": 0.3})
    assert malicious.sum() == 2
    np.testing.assert_array_equal(sent[~malicious], honest[~malicious])
    chosen = {}
    for row in np.flatnonzero(malicious):
        tensors = [jax.tree.leaves(unravel(jnp.asarray(stack[row]))) for stack in (sent, bad, honest)]
        taken = [np.allclose(mine, theirs, atol=1e-6) for mine, theirs, _ in zip(*tensors, strict=True)]
        kept = [np.allclose(mine, own, atol=1e-6) for mine, _, own in zip(*tensors, strict=True)]
        assert taken == [not each for each in kept]
        chosen[row] = taken
    assert 0 < sum(map(sum, chosen.values())) < 2 * len(taken)
    # The mean of the attackers' honest rows in the other tensors.
    shared = stacks_of({**attack, "steps": 12, "learning_rate": 0.3, "elsewhere": "mean"})[0]
    mean = jax.tree.leaves(unravel(jnp.asarray(honest[malicious].mean(0))))
    for row, taken in chosen.items():
        found, own = (jax.tree.leaves(unravel(jnp.asarray(stack[row]))) for stack in (shared, sent))
        for is_taken, one, other, middle in zip(taken, found, own, mean, strict=True):
            np.testing.assert_allclose(one, other if is_taken else middle, atol=1e-6)
