"""A backdoor's tensors: which of a model's it depends on, and updates that take them from another update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Params


def mixed(chosen: Array, ones: Params, others: Params) -> Params:
    """The tensors that are chosen of one tree, those that are not of another; `chosen` (L,) is boolean."""
    leaves, structure = jax.tree.flatten(ones)
    pairs = zip(leaves, jax.tree.leaves(others), strict=True)
    taken = [jnp.where(chosen[k], one, other) for k, (one, other) in enumerate(pairs)]
    return jax.tree.unflatten(structure, taken)


def critical(
    success: Callable[[Params], Array], benign: Params, bad: Params, threshold: float | Array
) -> Array:
    """The tensors (L,) that the success of a backdoor depends on.

    Args:
        success: of an update.
        benign: u_b.
        bad: u_m.
        threshold: τ.
    """
    number = len(jax.tree.leaves(bad))
    each = jnp.arange(number)
    best = success(bad)
    without = lax.map(lambda k: success(mixed(each != k, bad, benign)), each)
    order = jnp.argsort(without)
    ranks = jnp.zeros(number, jnp.int32).at[order].set(each, unique_indices=True)
    reached = lax.map(lambda k: success(mixed(ranks <= k, bad, benign)), each) >= threshold * best
    # All of them are u_m. A backdoor that never works is put nowhere.
    return (ranks <= jnp.argmax(reached.at[-1].set(True))) & (threshold * best > 0)


def crafted(bad: Params, center: Params, chosen: Array, factor: float | Array) -> Params:
    """λ u_m + max(0, 1 − λ) u_c in the chosen tensors, u_c elsewhere."""
    rest = jnp.maximum(0.0, 1.0 - factor)
    pushed = jax.tree.map(lambda own, other: factor * own + rest * other, bad, center)
    return mixed(chosen, pushed, center)
