"""Rules on trees: what is one tree, what is one tree per client, and what is neither."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import (
    bucketing,
    clip,
    fltrust,
    foolsgold_mean,
    krum,
    krum_scores,
    mean,
    median,
    nnm,
    on_pytrees,
)
from fljax.attacks import sign_flip
from tests.rules.case import make

N = 5
UPDATES, OTHERS = make(n=N, d=7)
KEY = jax.random.key(0)


class Params(NamedTuple):
    b: np.ndarray
    w: np.ndarray


def split(rows):
    """One tree whose leaves keep the leading axes; raveled in this order, it is the rows again."""
    return {"b": rows[..., :3], "w": rows[..., 3:].reshape(*rows.shape[:-1], 2, 2)}


def joined(tree):
    parts = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    n = parts[0].ndim - 1
    return np.concatenate([part.reshape(*part.shape[:n], -1) for part in parts], axis=-1)


TREE = split(UPDATES)
CLIENTS = [split(row) for row in UPDATES]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_trees_is_one_tree_per_client(kind):
    expected = on_pytrees(median)(TREE)
    result = on_pytrees(median)(kind(CLIENTS))
    assert result.keys() == {"b", "w"}
    assert result["w"].shape == (2, 2)
    np.testing.assert_array_equal(joined(result), joined(expected))
    # As well compiled, and for trees that are lists, tuples with names, or hold plain numbers.
    np.testing.assert_array_equal(joined(jax.jit(on_pytrees(median))(kind(CLIENTS))), joined(expected))
    as_lists = on_pytrees(median)(kind([[tree["b"], tree["w"]] for tree in CLIENTS]))
    assert isinstance(as_lists, list)
    np.testing.assert_array_equal(joined(as_lists), joined(expected))
    named = on_pytrees(median)(kind([Params(**tree) for tree in CLIENTS]))
    assert isinstance(named, Params)
    np.testing.assert_array_equal(joined(named), joined(expected))
    numbers = on_pytrees(median)(kind([{"a": float(i), "w": tree["w"]} for i, tree in enumerate(CLIENTS)]))
    assert float(numbers["a"]) == 2.0


def test_a_list_of_leaves_with_a_client_axis_is_one_tree():
    result = on_pytrees(median)([TREE["b"], TREE["w"]])
    np.testing.assert_array_equal(joined(result), np.median(UPDATES, axis=0))
    layers = [{"w": TREE["w"]}, {"w": TREE["b"]}]
    assert [layer["w"].shape for layer in on_pytrees(mean)(layers)] == [(2, 2), (3,)]


def test_arguments_beside_the_updates_are_raveled_like_them():
    root = split(OTHERS["root_update"])
    expected = fltrust(UPDATES, OTHERS["root_update"])
    for updates in (TREE, CLIENTS):
        np.testing.assert_allclose(joined(on_pytrees(fltrust)(updates, root)), expected, rtol=1e-6)
        named = on_pytrees(fltrust)(updates, root_update=root, normalize="full")
        np.testing.assert_allclose(joined(named), expected, rtol=1e-6)
    history = OTHERS["history"]
    expected = foolsgold_mean(UPDATES, history)
    for updates, sums in (
        (TREE, split(history)),
        (CLIENTS, [split(row) for row in history]),
        (CLIENTS, split(history)),
        (TREE, history),
    ):
        result = on_pytrees(foolsgold_mean)(updates, sums, confidence=1.0)
        np.testing.assert_allclose(joined(result), expected, rtol=1e-6)
    weights = OTHERS["weights"]
    np.testing.assert_allclose(
        joined(on_pytrees(mean)(CLIENTS, weights)), weights @ UPDATES / weights.sum(), rtol=1e-5
    )


def test_a_map_from_rows_to_rows_keeps_a_client_axis():
    for updates in (TREE, CLIENTS):
        clipped = on_pytrees(partial(clip, radius=1.0))(updates)
        assert clipped["w"].shape == (N, 2, 2)
        np.testing.assert_array_equal(joined(clipped), clip(UPDATES, radius=1.0))
        mixed = on_pytrees(nnm)(updates, num_malicious=1)
        np.testing.assert_array_equal(joined(mixed), nnm(UPDATES, num_malicious=1))
        buckets = on_pytrees(bucketing)(updates, KEY, bucket_size=2)
        assert buckets["w"].shape == (3, 2, 2)
        np.testing.assert_array_equal(joined(buckets), bucketing(UPDATES, KEY, bucket_size=2))
    mask = np.arange(N) < 2
    np.testing.assert_array_equal(joined(on_pytrees(sign_flip)(TREE, mask))[mask], -UPDATES[mask])


def test_a_rule_that_explains_itself_does_on_trees():
    chosen, info = on_pytrees(krum.explained)(TREE, num_malicious=1)
    np.testing.assert_array_equal(joined(chosen), krum(UPDATES, num_malicious=1))
    np.testing.assert_array_equal(UPDATES[np.argmax(info["selected"])], joined(chosen))


def test_leaves_keep_their_types_and_means_of_integers_are_no_integers():
    tree = {"a": jnp.array([[1], [2]]), "b": jnp.ones((2, 3), jnp.bfloat16)}
    result = on_pytrees(mean)(tree)
    assert result["a"].dtype == jnp.float32
    assert float(result["a"][0]) == 1.5
    assert result["b"].dtype == jnp.bfloat16


ARRAYS = [np.ones((3, 2)), np.ones((3, 2))]


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        (ARRAYS, "could be 2 clients or one tree of 3; stack clients by jax.tree.map"),
        (tuple(ARRAYS), "could be 2 clients or one tree of 3"),
        ([{"w": np.ones((3, 2))}], "could be 1 clients or one tree of 3"),
        ([TREE, TREE], "could be 2 clients or one tree of 5"),
        ([{"w": np.ones((3, 2))}, {"w": np.ones((4, 2))}], r"same shapes, got \[\(3, 2\)\] .* \[\(4, 2\)\]"),
        ({"w": np.ones((3, 2)), "b": np.ones((4, 2))}, "same leading client axis"),
        ({"w": np.ones((3, 2)), "b": np.float32(1.0)}, r"same leading client axis.*\(\)"),
        ({"w": np.ones((3, 2)), "b": 1.0}, r"same leading client axis.*\(\)"),
        ([{"w": np.ones((3, 2))}, {"b": np.ones((2, 2))}], "same leading client axis"),
        ({"w": np.ones((0, 2))}, "same leading client axis"),
        ({"w": np.ones((3, 2)), "b": "bias"}, r"the leaf at \['b'\] must be an array, got a str"),
        ({"w": np.ones((3, 2)) * 1j}, r"the leaf at \['w'\] must hold real numbers, got complex64"),
        (np.ones((3, 2), bool), "the tree must hold real numbers, got bool"),
        ({}, "the updates hold no array"),
        ([], "the updates hold no array"),
        (None, "the updates hold no array"),
    ],
)
def test_what_is_no_tree_of_updates_is_one_sentence(updates, message):
    with pytest.raises(ValueError, match=f"^on_pytrees: .*{message}[^\n]*$"):
        on_pytrees(median)(updates)


def test_a_list_that_could_be_both_passes_in_its_two_unambiguous_forms():
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ARRAYS)
    assert on_pytrees(median)(stacked).shape == (3, 2)
    assert [leaf.shape for leaf in on_pytrees(median)({"tree": ARRAYS})["tree"]] == [(2,), (2,)]


def test_other_arguments_and_results_are_named():
    with pytest.raises(ValueError, match=r"fltrust: root_update must be \(7,\).* got a dict"):
        on_pytrees(fltrust)(TREE, {"w": np.ones((2, 2))})
    with pytest.raises(
        ValueError, match=r"on_pytrees: the rule must return \(7,\) or \(n', 7\), got shape \(5,\)"
    ):
        on_pytrees(krum_scores)(TREE, num_malicious=1)
