"""Rules that look at a model's tensors or call it, on numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from fljax.aggregators import (
    Context,
    Head,
    Layers,
    fl_defender,
    fl_defender_aggregator,
    flare,
    freq_fed,
    lasa,
    lfighter,
    zeno,
)
from fljax.aggregators.layers import low_frequencies
from tests.rules.case import make, quadratic
from tests.rules.deepsight import shares_of_energy
from tests.rules.fl_defender import agreement
from tests.rules.fl_defender import fl_defender as reference_fl_defender
from tests.rules.flare import discrepancies, weights_of
from tests.rules.foolsgold import cosine
from tests.rules.freq_fed import features_of
from tests.rules.rounding import wide
from tests.support.programs import jitted

lasa, zeno = jitted(lasa), jax.jit(zeno)

# Five rows alike and one hostile, of a model of four parameters.
ROWS = np.array(
    [
        (1.0, 0.5, -0.2, 0.3),
        (0.8, 0.6, -0.1, 0.4),
        (1.1, 0.4, -0.3, 0.1),
        (0.9, 0.7, 0.1, 0.2),
        (1.2, 0.3, -0.2, 0.5),
        (-3.0, 2.0, 4.0, -1.0),
    ],
    np.float32,
)
PARAMS = np.array([0.5, -0.5, 0.25, 1.0], np.float32)


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        ("sparse", [0.968918, 0.438756, 0.0, 0.0]),
        ("dense", [0.968918, 0.491841, -0.123834, 0.249611]),
    ],
)
def test_lasa_chooses_rows_for_every_tensor(average, expected):
    # m = 3 of 4: the larger two entries of every row stay. Rows 1–5 are kept in the first tensor, 1–4 in the
    # second.
    update = lasa(ROWS, Layers([(2, 1), (2, 1)]), sparsity=0.25, average=average)
    np.testing.assert_allclose(update, expected, atol=2e-6)


def test_freq_fed_reads_low_frequencies_of_outputs_by_inputs():
    tensor = (4 * np.arange(3)[:, None] + np.arange(4)) ** 1.5 / 10
    # A dense kernel is (inputs, outputs); beside it a convolution and a vector, of which the mean stays.
    kernel = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    rows = np.concatenate([tensor.T.ravel(), kernel.ravel(), [1.0, 2.0, 4.0]])[None].astype(np.float32)
    layers = Layers([(4, 3), (2, 2, 3, 4), (3,)])
    found = np.asarray(jax.jit(low_frequencies)(rows, layers))[0]
    np.testing.assert_allclose(found[:3], [5.171765, -1.271096, -3.843425], rtol=1e-6)
    np.testing.assert_allclose(found[-1], 7 / 3**0.5, rtol=1e-6)
    np.testing.assert_allclose(found, features_of(wide(rows[0]), layers), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='^freq_fed: on="models" needs params, the global model$'):
        freq_fed(rows, layers, on="models")


def test_zeno_scores_rows_by_the_loss():
    # Scores .689310, .654415, .654265, .614325, .629090 and −18.115.
    target = np.array([1.5, 0.0, 0.05, 1.3], np.float32)
    for f, kept in ((1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 4]), (3, [0, 1, 2]), (5, [0])):
        update = zeno(ROWS, PARAMS, Partial(quadratic, target), num_malicious=f)
        np.testing.assert_allclose(update, ROWS[kept].mean(0), rtol=1e-6)


def test_flare_weighs_by_votes():
    # Model i answers with the features FEATURES[i], which its only parameter selects.
    given = [[(0, 0), (1, 0)], [(0, 0.1), (1, 0.1)], [(0.2, 0), (1, 0)], [(3, 3), (4, 3)]]
    samples = np.array(given, np.float32)
    apart = discrepancies(samples)
    inputs = jnp.asarray(samples)
    np.testing.assert_allclose(
        apart[[0, 0, 1, 0], [1, 2, 2, 3]], [0.008013, 0.009901, 0.018162, 1.605654], atol=1e-6
    )
    rows = np.arange(4, dtype=np.float32)[:, None]
    read = jax.jit(
        lambda rows: flare.explained(rows, jnp.zeros(1), lambda p, x: x[p[0].astype(int)], inputs)[1]
    )
    expected = [0.413622, 0.413622, 0.152163, 0.020593]
    np.testing.assert_allclose(read(rows)["weights"], expected, atol=1e-6)
    np.testing.assert_allclose(weights_of(samples, by="votes"), [0.375, 0.375, 0.25, 0.0])


def test_deepsight_counts_the_labels_trained_on():
    first = np.array([(0.1, 0.3, 0.0), (-0.2, 0.1, 0.1)]), np.array([0.1, 0.1, 0.05])
    second = np.array([(0.01, 0.9, 0.0), (0.0, -0.8, 0.02)]), np.array([0.0, 0.3, 0.01])
    np.testing.assert_allclose(shares_of_energy(*first), [0.369942, 0.578035, 0.052023], atol=1e-6)
    np.testing.assert_allclose(1 - cosine(first[1], second[1]), 0.322598, atol=1e-6)


def test_fl_defender_trusts_what_is_above_the_first_quartile():
    update, info = jax.jit(fl_defender.explained)(ROWS, Head(0, 2, 2), np.zeros(6, np.float32))
    np.testing.assert_allclose(info["weights"], [1, 0.862872, 0.994592, 0, 0.999846, 0], atol=2e-5)
    np.testing.assert_allclose(update, [1.032887, 0.444744, -0.203415, 0.322642], atol=1e-5)


def test_fl_defender_adds_up_the_scores_of_the_clients_that_are_there():
    rule = fl_defender_aggregator()
    aggregate, state, sums = jax.jit(rule.aggregate), rule.init(9, 12), np.zeros(9)
    for seed, ids in enumerate(([8, 1, 3, 4, 0, 7], [1, 2, 3, 5, 6, 8], [0, 1, 2, 3, 4, 5])):
        updates, others = make(seed, n=6, d=12)
        context = Context(client_ids=jnp.array(ids), head=others["head"])
        update, state, _ = aggregate(updates, state, context)
        expected = reference_fl_defender(updates, others["head"], sums[ids])
        np.testing.assert_allclose(update, expected, rtol=1e-3, atol=1e-4)
        sums[ids] += agreement(wide(updates), others["head"])
    np.testing.assert_allclose(state, sums, atol=1e-4)
    with pytest.raises(
        ValueError, match="^fl_defender: got 6 rows for 9 clients and no client_ids to say whose$"
    ):
        rule.aggregate(updates, state, Context(head=others["head"]))
    with pytest.raises(ValueError, match="^fl_defender: needs head, which this round does not provide$"):
        rule.aggregate(updates, state, Context(client_ids=jnp.arange(6)))


def test_lfighter_keeps_the_larger_cluster_of_two_disputed_classes():
    changes = [
        [(0.1, 0.1), (0.5, 0.4), (-0.5, -0.3)],
        [(0.1, 0.0), (0.6, 0.4), (-0.4, -0.3)],
        [(0.0, 0.1), (0.4, 0.5), (-0.5, -0.4)],
        [(0.1, 0.1), (-0.5, -0.2), (0.4, 0.6)],
    ]
    # By class, as PyTorch has them; and by input.
    for rows, head in (
        (np.reshape(changes, (4, 6)), Head(0, 2, 3, transposed=True)),
        (np.swapaxes(changes, 1, 2).reshape(4, 6), Head(0, 2, 3)),
    ):
        update, info = jax.jit(lfighter.explained)(rows.astype(np.float32), head)
        assert info["selected"].tolist() == [True, True, True, False]
        np.testing.assert_allclose(update, rows[:3].mean(0), rtol=1e-6)
