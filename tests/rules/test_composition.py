"""Pieces in a round: pre-aggregators before rules, random ones, and rules that carry a state."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Context,
    centered_clipping,
    chain,
    fltrust,
    foolsgold_mean,
    from_registry,
    pre_from_registry,
    stateless,
    stateless_pre,
)
from tests.rules.case import D, N, compiled, first_rows, make
from tests.rules.table import PRE_CASES, RULE_CASES
from tests.support.programs import jitted

centered_clipping, fltrust, foolsgold_mean = map(jitted, (centered_clipping, fltrust, foolsgold_mean))


def each(cases):
    return pytest.mark.parametrize("case", first_rows(cases), ids=lambda case: case.name)


def context_of(others, key):
    return Context(
        key=key,
        client_ids=jnp.arange(N),
        weights=others["weights"],
        params=others["center"],
        root_update=others["root_update"],
        **{name: others[name] for name in ("layers", "head", "predict", "features", "root_x", "root_loss")},
    )


@each(PRE_CASES)
def test_fltrust_on_top_of_every_pre_aggregator(case):
    updates, others = make()
    key = jax.random.key(7)
    rule = chain(pre_from_registry(PRE_AGGREGATORS, case.name, **case.hyper), from_registry(RULES, "fltrust"))
    result, state, info = jax.jit(rule.aggregate)(updates, rule.init(N, D), context_of(others, key))
    # The first piece's key is the round's with 0 folded in.
    before = compiled(case)(updates, {**others, "key": jax.random.fold_in(key, 0)})
    np.testing.assert_allclose(result, fltrust(before, others["root_update"]), rtol=1e-6)
    assert np.linalg.norm(result) <= np.linalg.norm(others["root_update"]) * (1 + 1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(rule.init(N, D))
    # Trust scores speak of clients only while rows are clients'.
    assert ("trust_scores" in info) == (not PRE_AGGREGATORS[case.name].facts["mixes_rows"])


@pytest.mark.parametrize("make", [stateless, stateless_pre])
def test_an_array_that_no_round_has_is_refused_when_the_piece_is_made(make):
    def weighed(updates, weigths=None):
        return updates

    def served(updates, server):
        return updates

    with pytest.raises(ValueError, match=r"^weighed: takes weigths, which .*; did you mean 'weights'\?"):
        make(weighed)
    with pytest.raises(ValueError, match=r"^served: needs server, which this round does not provide "):
        make(served)
    # What a partial settles, a round need not have.
    make(partial(served, server=None))
    make(lambda updates, weights=None, root_update=None: updates)


def test_pieces_that_draw_draw_different_numbers():
    def noise(updates, key):
        return updates + jax.random.normal(key, updates.shape)

    def last(updates, key):
        return jnp.concatenate([updates[0], jax.random.normal(key, updates.shape)[0]])

    d = 5
    zeros = jnp.zeros((2, d))
    sums, drawn = [], []
    for pieces in range(4):
        rule = chain(*[stateless_pre(noise)] * pieces, stateless(last))
        result = rule.aggregate(zeros, rule.init(2, d), Context(key=jax.random.key(0)))[0]
        sums.append(result[:d])
        drawn.append(result[d:])
    noises = [after - before for before, after in pairwise(sums)]
    draws = np.stack([*noises, drawn[-1]])
    apart = np.abs(draws[:, None] - draws[None]).min(-1) + np.eye(len(draws))
    assert (apart > 1e-3).all()
    # Two rounds draw different numbers, one round the same again.
    rule = chain(stateless_pre(noise), stateless(last))
    again = [
        rule.aggregate(zeros, rule.init(2, d), Context(key=jax.random.key(seed)))[0] for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.allclose(again[0], again[2])


def test_buckets_of_buckets_are_drawn_apart():
    keep = pre_from_registry(PRE_AGGREGATORS, "bucketing", bucket_size=1)

    def itself(updates):
        return updates.ravel()

    key = jax.random.key(3)
    once, twice = (
        np.asarray(rule.aggregate(jnp.eye(N), rule.init(N, N), Context(key=key))[0]).reshape(N, N)
        for rule in (chain(keep, stateless(itself)), chain(keep, keep, stateless(itself)))
    )
    # The second permutation is not the first.
    assert not np.allclose(twice, once @ once)
    assert not np.allclose(twice, np.eye(N))


@each(RULE_CASES)
def test_every_rule_keeps_its_state_in_a_scan(case):
    rounds = [make(seed) for seed in range(3)]
    updates = jnp.stack([u for u, _ in rounds])
    keys = jax.random.split(jax.random.key(0), 3)
    others = rounds[0][1]
    rule = from_registry(RULES, case.name, **case.hyper)

    def round_of(state, given):
        update, state, info = rule.aggregate(given[0], state, context_of(others, given[1]))
        return state, (update, info)

    start = rule.init(N, D)
    state, step = start, jax.jit(round_of)
    for given in zip(updates, keys, strict=True):
        state, (update, info) = step(state, given)
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)
        assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, start)
        assert all(value.shape == (N,) for value in info.values())
        assert np.isfinite(update).all()
    # A scan refuses a state that changes its structure, shape or type, when it is traced; half precision must
    # not change the state's type either.
    for dtype in (jnp.float32, jnp.bfloat16):
        jax.eval_shape(partial(jax.lax.scan, round_of), start, (updates.astype(dtype), keys))


def test_centered_clipping_carries_its_centre():
    rule = from_registry(RULES, "centered_clipping", radius=3.0, num_iterations=2)
    aggregate, state, center = jax.jit(rule.aggregate), rule.init(N, D), jnp.zeros(D)
    for seed in range(4):
        updates, _ = make(seed)
        update, state, _ = aggregate(updates, state, Context())
        center = centered_clipping(updates, center, radius=3.0, num_iterations=2)
        np.testing.assert_allclose(update, center, rtol=1e-6, atol=1e-7)
    # Started from zero every time it would be another rule.
    assert not np.allclose(
        update, centered_clipping(updates, jnp.zeros(D), radius=3.0, num_iterations=2), rtol=0.1
    )


def test_foolsgold_remembers_sampled_cohorts():
    clients, cohort = 20, 6
    rule = from_registry(RULES, "foolsgold")
    state, history = rule.init(clients, D), np.zeros((clients, D), np.float64)
    aggregate, random = jax.jit(rule.aggregate), np.random.default_rng(0)
    for seed in range(6):
        ids = random.permutation(clients)[:cohort]
        updates, _ = make(seed, n=cohort)
        update, state, info = aggregate(updates, state, Context(client_ids=jnp.asarray(ids)))
        history[ids] += updates
        expected = foolsgold_mean(updates, history[ids].astype(np.float32))
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
        assert info["weights"].shape == (cohort,)
    np.testing.assert_allclose(state, history, rtol=1e-5, atol=1e-5)
    # Taking rows for clients in order would be another history.
    assert not np.allclose(state[:cohort], history[ids])
