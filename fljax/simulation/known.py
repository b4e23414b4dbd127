"""What rules and attacks may ask of the model and the task, by the names of `Context`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.combining import array_arguments
from fljax.base import Context, Head, Lacking, Layers, Model
from fljax.config.components import Bound
from fljax.data import Format
from fljax.engine.objectives import Losses, objective
from fljax.engine.state import RoundData
from fljax.models.heads import find_head, inputs_of_head

# `told(model_state, data)` is what a round's `Context` has besides the round itself.
Told = Callable[[Any, RoundData], dict[str, Any]]
# The fields of `Context` that it has.
FACTS = frozenset(("layers", "head", "predict", "features", "root_x", "root_loss"))


def asked(*pieces: Bound) -> set[str]:
    """The fields of `Context` that components of a configuration name."""
    names: set[str] = set()
    for piece in pieces:
        if piece.entry is not None:
            names |= set(array_arguments(piece.entry.function))
        names |= asked(*piece.parts.values())
    return names & set(Context._fields)


def tell(
    model: Model,
    form: Format,
    losses: Losses,
    unravel: Callable[[Array], Any],
    names: set[str],
) -> Told:
    """The function that makes these facts of a round.

    Args:
        model: the model.
        form: of the data.
        losses: of a batch's examples.
        unravel: (d,) to the model's parameters.
        names: of the facts that anybody asks for; the others need not be found out.
    """
    params = jax.eval_shape(model.init, jax.random.key(0))
    layers = Layers(tuple(leaf.shape for leaf in jax.tree.leaves(params)))
    head: Head | Lacking | None = None
    if names & {"head", "features"}:
        key = jax.random.key(0)
        states = () if model.init_state is None else (jax.eval_shape(model.init_state, key),)
        head = find_head(model.apply, params, form.batch(2)[0], *states)

    def told(model_state: Any, data: RoundData) -> dict[str, Any]:
        state = () if model.init_state is None else (model_state,)
        # Positions that do not count repeat those that do.
        size = data.root.shape[0]
        count = size if data.root_count is None else data.root_count
        root = data.root[jnp.arange(size) % count]

        def apply(params: Any, x: Array) -> Array:
            return model.apply(params, x, *state)

        def predict(params: Array, x: Array) -> Array:
            return apply(unravel(params), x)

        def features(params: Array, x: Array) -> Array:
            return inputs_of_head(model.apply, unravel(params), head, x, *state)  # type: ignore[arg-type]

        def root_loss(params: Array) -> Array:
            counted = (jnp.arange(size) < count).astype(jnp.float32)
            loss = objective(losses, apply)
            return loss(unravel(params), (), data.x[data.root], data.y[data.root], counted)[0]

        return {
            "layers": layers,
            "head": head,
            "predict": jax.tree_util.Partial(predict),
            "features": jax.tree_util.Partial(features) if isinstance(head, Head) else head,
            "root_x": data.x[root],
            "root_loss": jax.tree_util.Partial(root_loss),
        }

    return told
