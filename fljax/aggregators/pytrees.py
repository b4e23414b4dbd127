"""Rules on trees of arrays, such as a model's parameters."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.numerics.checks import is_real


class _Tree(NamedTuple):
    """A flat tree whose leaves carry the client axis.

    Attributes:
        leaves: its leaves, each (n, ...).
        structure: what puts leaves together again.
        was_list: whether it was stacked from one tree per client.
    """

    leaves: list[Array]
    structure: Any
    was_list: bool = False

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The leaves' shapes without the client axis."""
        return [leaf.shape[1:] for leaf in self.leaves]


def _leaves(tree: Any) -> list[Array]:
    """The leaves as arrays of real numbers.

    Raises:
        ValueError: if one is none.
    """
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        place = f"the leaf at {jax.tree_util.keystr(path)}" if path else "the tree"
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError):
            raise ValueError(f"on_pytrees: {place} must be an array, got a {type(leaf).__name__}") from None
        if not is_real(array):
            raise ValueError(f"on_pytrees: {place} must hold real numbers, got {array.dtype}")
        found.append(array)
    if not found:
        raise ValueError("on_pytrees: the updates hold no array")
    return found


def _clients(updates: Any) -> Sequence[Any] | None:
    """The trees of a list that may hold one per client: several containers or arrays alike; else None."""
    if not isinstance(updates, (list, tuple)) or hasattr(updates, "_fields") or not updates:
        return None
    structures = {jax.tree.structure(tree) for tree in updates}
    return updates if len(structures) == 1 and jax.tree.leaves(updates[0]) else None


def _with_client_axis(updates: Any) -> _Tree:
    """One tree whose leaves carry the client axis, stacked from the clients' trees if those are given."""
    leaves = _leaves(updates)
    sizes = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    is_tree = len(sizes) == 1 and None not in sizes and 0 not in sizes
    clients = _clients(updates)
    if clients is None:
        if is_tree:
            return _Tree(leaves, jax.tree.structure(updates))
        raise ValueError(
            "on_pytrees: every leaf needs the same leading client axis, or the updates must be a list of one "
            f"tree per client, got shapes {[leaf.shape for leaf in leaves]}"
        )
    size = len(leaves) // len(clients)
    of_client = [leaves[i : i + size] for i in range(0, len(leaves), size)]
    shapes = [[leaf.shape for leaf in each] for each in of_client]
    alike = [each == shapes[0] for each in shapes]
    if is_tree and all(alike):
        raise ValueError(
            f"on_pytrees: this list could be {len(clients)} clients or one tree of {leaves[0].shape[0]}; "
            "stack clients by jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), and put one tree that "
            "is a list into a dict"
        )
    if is_tree:
        return _Tree(leaves, jax.tree.structure(updates))
    if not all(alike):
        other = alike.index(False)
        raise ValueError(
            f"on_pytrees: every client's tree needs the same shapes, got {shapes[0]} from the first and "
            f"{shapes[other]} from number {other + 1} of {len(clients)}"
        )
    stacked = [jnp.stack(same) for same in zip(*of_client, strict=True)]
    return _Tree(stacked, jax.tree.structure(clients[0]), was_list=True)


def on_pytrees(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Lift a rule on (n, d) updates to a tree whose leaves carry a leading client axis, or a tree per client.

    The leaves are raveled into one matrix, so a rule that looks at whole updates (distances, cosines) sees
    them whole. A list or tuple of trees of one structure and the same shapes is stacked, where it cannot be
    one tree whose leaves share their first axis; where it could be either, that is an error. Further
    arguments that are trees of the same structure are raveled likewise, without the client axis
    (`root_update`, `center`) or with it (`history`, which may be one tree per client, too).

    Args:
        rule: a pure rule, `(n, d) -> (d,)`, alone or with its `info`; or a map from rows to rows, such as a
            pre-aggregator or an attack, `(n, d) -> (n', d)`.

    Returns:
        `lifted(updates, *args, **kwargs)` that returns a tree without the client axis, or with one of n'
        entries. Leaves keep their float type; those of integers become float32, as the result of a rule does.

    Raises:
        ValueError: by `lifted`, if the updates are no such tree or could be two, or the rule returns anything
            else.

    Example:
        >>> from fljax.aggregators import median
        >>> tree = {"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.array([1.0, 5.0, 9.0])}
        >>> {name: leaf.tolist() for name, leaf in on_pytrees(median)(tree).items()}
        {'b': 5.0, 'w': [2.0, 3.0]}
        >>> clients = [{"w": jnp.ones(2), "b": float(i)} for i in range(3)]
        >>> {name: leaf.tolist() for name, leaf in on_pytrees(median)(clients).items()}
        {'b': 1.0, 'w': [1.0, 1.0]}
    """

    def lifted(updates: Any, *args: Any, **kwargs: Any) -> Any:
        tree = _with_client_axis(updates)
        n, dtype = tree.leaves[0].shape[0], jnp.result_type(*tree.leaves)
        if any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in tree.leaves):
            # Integers are not to be rounded to half precision because it stands beside them.
            dtype = jnp.result_type(dtype, jnp.float32)
        matrix = jnp.concatenate([leaf.reshape(n, -1).astype(dtype) for leaf in tree.leaves], axis=1)

        def raveled(value: Any) -> Any:
            structure: Any = jax.tree.structure(value)
            if tree.was_list and structure == jax.tree.structure(updates):
                value = jax.tree.map(lambda *leaves: jnp.stack(leaves), *value)
                structure = tree.structure
            parts = jax.tree.leaves(value)
            shapes = [getattr(part, "shape", ()) for part in parts]
            is_leaf = len(parts) == 1 and parts[0] is value
            if structure != tree.structure or (is_leaf and len(shapes[0]) < 2):
                # Another kind of argument, or flat already.
                return value
            if shapes == tree.shapes:
                return jnp.concatenate([jnp.ravel(part).astype(dtype) for part in parts])
            if shapes == [leaf.shape for leaf in tree.leaves]:
                return jnp.concatenate([jnp.reshape(part, (n, -1)).astype(dtype) for part in parts], axis=1)
            return value

        result = rule(matrix, *map(raveled, args), **{name: raveled(value) for name, value in kwargs.items()})
        if isinstance(result, tuple):
            return _unraveled(result[0], tree), *result[1:]
        return _unraveled(result, tree)

    return lifted


def _unraveled(result: Any, tree: _Tree) -> Any:
    """A result (d,) or (n', d) as a tree."""
    sizes = [int(np.prod(shape)) for shape in tree.shapes]
    shape = jnp.shape(result)
    if len(shape) not in (1, 2) or shape[-1] != sum(sizes):
        raise ValueError(
            f"on_pytrees: the rule must return ({sum(sizes)},) or (n', {sum(sizes)}), got shape {shape}"
        )
    parts = jnp.split(result, np.cumsum(sizes)[:-1], axis=-1)

    def leaf_of(part: Array, leaf: Array) -> Array:
        dtype = leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else part.dtype
        return part.reshape(*shape[:-1], *leaf.shape[1:]).astype(dtype)

    return jax.tree.unflatten(tree.structure, list(map(leaf_of, parts, tree.leaves)))
