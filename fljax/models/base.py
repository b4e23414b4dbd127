"""A model as the simulator sees it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Params = Any


class Model(NamedTuple):
    """A model as the simulator sees it.

    Without state it is `Model(init, apply)`. With running batch statistics, or any other state that a forward
    pass in training changes and that is not trained, it has all four functions. The state is no part of an
    update: no rule sees it and no attack writes it. `fljax.local.mean_state` says how it is averaged.

    Attributes:
        init: `init(key) -> params`.
        apply: `apply(params, x) -> logits`, x (b, *input_shape) to (b, M); for a model with state
            `apply(params, x, state) -> logits`, the prediction in evaluation.
        init_state: `init_state(key) -> state`, with the same key as `init`; None for a model without state.
        train: `train(params, x, state, real) -> (logits, state)`, the forward pass in training. `real`
            (b,) is False for examples that only pad the batch, which the state and the other examples'
            logits must not depend on. None for a model without state.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., Array]
    init_state: Callable[[Array], Any] | None = None
    train: Callable[[Params, Array, Any, Array], tuple[Array, Any]] | None = None
