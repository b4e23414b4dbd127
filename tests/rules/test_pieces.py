"""What is particular to pieces around a rule: noise, flips, a clipping radius that is tracked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import (
    PRE_AGGREGATORS,
    Context,
    add_noise,
    chain,
    clip,
    flip_disputed,
    mean,
    median,
    pre_from_registry,
    quantile_clip,
    robust_learning_rate,
    stateless,
    stateless_post,
    stateless_pre,
)
from fljax.attacks.wrappers import NO_ATTACK
from fljax.config import parse_config
from fljax.config.components import bind_rule, make_aggregator
from fljax.config.resolve import resolve
from fljax.config.titles import rule_title
from fljax.data import Format
from fljax.errors import ConfigError
from fljax.simulation.checks import cannot_stream, check_pieces
from tests.rules.case import D, N, make
from tests.rules.quantile_clip import next_radius

# defences.md's example: rows 1 to 5 agree, row 6 is hostile.
A = jnp.array(
    [
        [1.0, 0.5, -0.2, 0.3],
        [0.8, 0.6, -0.1, 0.4],
        [1.1, 0.4, -0.3, 0.1],
        [0.9, 0.7, 0.1, 0.2],
        [1.2, 0.3, -0.2, 0.5],
        [-3.0, 2.0, 4.0, -1.0],
    ]
)
KEY = jax.random.key(3)


def test_votes_are_those_of_the_clients_rows_whatever_runs_before_the_rule():
    flip = stateless_post(flip_disputed, threshold=4)
    # Behind clipping signs are the same, behind the mean of all rows they would all agree.
    mixed = stateless_pre(lambda updates: jnp.broadcast_to(updates.mean(0), updates.shape), mixes_rows=True)
    for before in ((), (mixed,)):
        rule = chain(*before, stateless(mean), flip)
        update, state, _ = rule.aggregate(A, rule.init(6, 4), Context(client_ids=jnp.arange(6)))
        np.testing.assert_allclose(update, [0.333333, 0.75, -0.55, 0.083333], atol=1e-6)
        np.testing.assert_allclose(update, robust_learning_rate(A, threshold=4), atol=1e-6)
        assert len(state) == len(before) + 2
    rule = chain(stateless(median), flip)
    np.testing.assert_allclose(
        rule.aggregate(A, rule.init(6, 4), Context())[0], [0.95, 0.55, 0.15, 0.25], atol=1e-6
    )
    for threshold, expected in ((0, mean(A)), (7, -mean(A))):
        np.testing.assert_allclose(robust_learning_rate(A, threshold=threshold), expected, atol=1e-6)


def test_clipping_with_noise_is_the_clipped_mean_and_noise_drawn_once():
    pieces = stateless_pre(clip, radius=1.0), stateless(mean)
    plain = chain(*pieces)
    clipped = plain.aggregate(A, plain.init(6, 4), Context(key=KEY))[0]
    np.testing.assert_allclose(clipped, [0.602416, 0.416705, 0.026329, 0.177973], atol=1e-6)
    rule = chain(*pieces, stateless_post(add_noise, std=0.1), stateless_post(add_noise, std=0.1))
    update = rule.aggregate(A, rule.init(6, 4), Context(key=KEY))[0]
    # A piece's key is the round's with its place folded in, so two of them draw different numbers.
    drawn = [jax.random.normal(jax.random.fold_in(KEY, place), (4,)) for place in (2, 3)]
    np.testing.assert_allclose(update, clipped + 0.1 * (drawn[0] + drawn[1]), atol=1e-6)


def test_pieces_out_of_order_are_refused():
    noise, rule, before = stateless_post(add_noise, std=0.1), stateless(mean), stateless_pre(clip, radius=1.0)
    for wrong in ((), (noise,), (noise, rule), (rule, before), (rule, rule), (rule, noise, before)):
        with pytest.raises(ValueError, match="exactly one Aggregator, then any number of PostAggregators"):
            chain(*wrong)

    def weighed(update, wieghts):
        return update

    with pytest.raises(ValueError, match="did you mean 'weights'"):
        stateless_post(weighed)


def test_the_clipping_radius_follows_the_quantile():
    # On the example nothing is as short as 1.
    piece = pre_from_registry(PRE_AGGREGATORS, "quantile_clip", start=1.0)
    clipped, radius, _ = piece.transform(A, piece.init(6, 4), Context())
    np.testing.assert_allclose(radius, 1.105171, atol=1e-6)
    np.testing.assert_allclose(mean(clipped), [0.602416, 0.416705, 0.026329, 0.177973], atol=1e-6)
    # Over rounds, with a row that is not finite: it is zero, and counts as long.
    hyper = {"start": 5.0, "quantile": 0.3, "rate": 0.5}
    piece = pre_from_registry(PRE_AGGREGATORS, "quantile_clip", **hyper)
    step, state, expected = jax.jit(piece.transform), piece.init(N, D), 5.0
    for seed in range(6):
        updates, _ = make(seed)
        updates[1, 2] = np.nan
        clipped, state, _ = step(updates, state, Context(key=KEY))
        norms = np.where(np.isfinite(updates).all(1), np.linalg.norm(updates, axis=1), np.inf)
        assert (np.linalg.norm(clipped, axis=1) <= expected * (1 + 1e-5)).all()
        assert not np.any(clipped[1])
        np.testing.assert_allclose(clipped, quantile_clip(updates, expected), rtol=1e-5, atol=1e-6)
        expected = next_radius(norms, expected, 0.3, 0.5)
        np.testing.assert_allclose(state, expected, rtol=1e-5)
    # Noise on the share is divided by the number of rows.
    noisy = pre_from_registry(PRE_AGGREGATORS, "quantile_clip", start=5.0, noise=2.0)
    moved = noisy.transform(updates, noisy.init(N, D), Context(key=KEY))[1]
    inside = np.mean(norms <= 5.0) + 2.0 * float(jax.random.normal(KEY, ())) / N
    np.testing.assert_allclose(moved, 5.0 * np.exp(-0.2 * (inside - 0.5)), rtol=1e-5)


def checked(piece):
    """A piece of a configuration, tried on shapes as a run does before it starts."""
    config = parse_config({"aggregator": {"name": "mean", "post": [piece]}})
    check_pieces(make_aggregator(bind_rule(config.aggregator)), NO_ATTACK, 6, 6, Format((1,), None, (), 1))


CONFIG = {
    "aggregator": {
        "name": "median",
        "pre": [{"name": "quantile_clip", "start": 2.0}],
        "post": [{"name": "flip_disputed", "threshold": 4}, {"name": "add_noise", "std": 0.5}],
    }
}


def test_pieces_of_a_configuration():
    config = parse_config(CONFIG)
    resolved = resolve(config)
    assert resolved.numbers["aggregator.post.1.std"] == 0.5
    assert rule_title(config.aggregator) == "Quantile clipping + Median + RLR + Noise"
    assert "median" in cannot_stream(resolved)
    rule = make_aggregator(resolved.rule.replaced({"post.1.std": jnp.float32(0.25)}))
    update = rule.aggregate(A, rule.init(6, 4), Context(key=KEY))[0]
    flipped = flip_disputed(median(quantile_clip(A, start=2.0)), A, threshold=4)
    noise = jax.random.normal(jax.random.fold_in(KEY, 3), (4,))
    np.testing.assert_allclose(update, flipped + 0.25 * noise, atol=1e-6)
    for wrong, words in (
        ({"name": "noise", "std": 0.1}, "add_noise"),
        ({"name": "add_noise"}, "std"),
        ({"name": "add_noise", "std": -1.0}, "std=-1.0"),
        ({"name": "flip_disputed", "threshold": 1, "rate": 2}, "rate"),
    ):
        with pytest.raises(ConfigError, match=words):
            checked(wrong)


@pytest.mark.slow
def test_a_run_with_pieces_around_its_rule():
    small = {"rounds": 2, "eval_every": 2, "num_clients": 6, "attack": {"name": "ipm", "epsilon": 1.0}}
    noisy, again = (fljax.run(parse_config({**CONFIG, **small})) for _ in range(2))
    plain = fljax.run(parse_config({**small, "aggregator": {**CONFIG["aggregator"], "post": []}}))
    for a, b, c in zip(*(jax.tree.leaves(run.params) for run in (noisy, again, plain)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.1
