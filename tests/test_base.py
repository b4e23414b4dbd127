"""The contracts: contexts are arrays, and every argument that a function names exists."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import Context, mean, stateless, stateless_pre
from fljax.attacks import Knowledge, Task, free_rider, gaussian, on_updates

ROWS = jnp.arange(12.0).reshape(4, 3)
CONTEXT = Context(
    key=jax.random.key(3),
    round=jnp.int32(2),
    client_ids=jnp.arange(4),
    weights=jnp.array([1.0, 2.0, 3.0, 4.0]),
    params=jnp.ones(3),
    root_update=jnp.arange(3.0),
)


def test_a_context_crosses_jit_and_vmap_as_a_tree_of_arrays():
    @jax.jit
    def weighted(context):
        update, _, _ = stateless(mean).aggregate(ROWS, (), context)
        return update + context.round, context

    update, returned = weighted(CONTEXT)
    np.testing.assert_allclose(update, np.asarray(CONTEXT.weights) @ np.asarray(ROWS) / 10 + 2, rtol=1e-6)
    assert isinstance(returned, Context)
    assert jax.tree.structure(returned) == jax.tree.structure(CONTEXT)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(jax.tree.map(jnp.asarray, CONTEXT)))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), CONTEXT)
    np.testing.assert_array_equal(jax.vmap(weighted)(many)[0], jnp.stack([update, update]))
    # What a round does not have is no leaf.
    assert len(jax.tree.leaves(Context(key=CONTEXT.key))) == 2


def test_attackers_know_the_round_and_what_is_no_array():
    def spy(updates, malicious, params, rule, surrogate, local_rate, batch_size, root_update, *, factor):
        told = rule(updates) + surrogate(updates) + params + root_update + local_rate * batch_size * factor
        return jnp.where(malicious[:, None], told, updates)

    known = Knowledge(
        CONTEXT,
        rule=lambda rows: rows[0],
        surrogate=lambda rows: 10.0 * rows[1],
        local_rate=jnp.float32(0.5),
        batch_size=jnp.float32(8.0),
    )
    malicious = jnp.array([False, False, True, False])
    sent, state = on_updates(spy, Task(10), factor=2.0).corrupt(ROWS, malicious, (), known)
    expected = np.array([0, 1, 2]) + 10.0 * np.array([3, 4, 5]) + 1 + np.array([0, 1, 2]) + 8
    np.testing.assert_array_equal(sent[2], expected)
    np.testing.assert_array_equal(sent[~malicious], ROWS[~malicious])
    assert state == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: stateless(lambda updates, weigths=None: updates[0]),
            "takes weigths, which this round does not provide; did you mean 'weights'",
        ),
        (
            lambda: stateless_pre(lambda updates, client_id=None: updates),
            "takes client_id, which .* did you mean 'client_ids'",
        ),
        (
            lambda: stateless(lambda updates, rule: updates[0]),
            "needs rule, which this round does not provide",
        ),
        (lambda: on_updates(free_rider, Task(10)), "^free_rider: takes no updates; .*make=from_factory$"),
        (lambda: on_updates(lambda updates, malicous: updates, Task(10)), "did you mean 'malicious'"),
        (
            lambda: on_updates(lambda updates, malicious, root_updates=None: updates, Task(10)),
            "takes root_updates, which .* did you mean 'root_update'",
        ),
        (
            lambda: on_updates(lambda updates, malicious, factor=2.0: updates, Task(10)),
            "takes factor, which this round does not provide .it has malicious, key,.* run_key.$",
        ),
    ],
)
def test_an_argument_that_no_round_has_is_an_error_even_if_optional(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_argument_that_a_partial_settles_is_not_asked_for():
    made = on_updates(partial(gaussian, std=1.0, key=jax.random.key(1)), Task(10))
    mask = jnp.array([True, False, False, False])
    sent, _ = made.corrupt(ROWS, mask, (), Knowledge(Context()))
    np.testing.assert_array_equal(sent, gaussian(ROWS, mask, jax.random.key(1), std=1.0))
