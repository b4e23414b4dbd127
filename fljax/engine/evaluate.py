"""Testing error and attack success rate of a model on the test set."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Trigger
from fljax.engine.metrics import Metric


class Evaluation(NamedTuple):
    """Scalars of one evaluation.

    Attributes:
        test_error: share of clean test examples the model gets wrong.
        attack_success_rate: share of triggered test examples answered with the target, over those whose true
            label is another; NaN where the attack has no trigger.
    """

    test_error: Annotated[Array | float, Metric("test error", kind="error", panel="test error")]
    attack_success_rate: Annotated[
        Array | float,
        Metric(
            "attack success rate",
            brief="attack success",
            kind="share",
            absent="no trigger",
            panel="attack success rate",
            who="attacker",
        ),
    ]


def make_evaluation(
    apply: Callable[..., Array],
    unravel: Callable[[Array], Any],
    trigger: Trigger | None,
    batch_size: int = 500,
) -> Callable[..., Evaluation]:
    """Build `evaluate(params, test_x, test_y, model_state=())`, which reads the test set batch by batch.

    Args:
        apply: `(params, x) -> logits`; with the model's state as a third argument where it has one.
        unravel: (d,) to the parameter pytree.
        trigger: the backdoor whose success is measured, or None.
        batch_size: examples per batch.

    Returns:
        The pure function; a prediction is the label with the largest logit, 0 where all logits are NaN.

    Source: Cao et al., NDSS 2021, section V. Like the group's code, and unlike SAFEFL, A3FL, DarkFed and
    FLPoison, the success rate leaves out test examples that already have the target label. With them it is
    ((M − 1) · rate + a) / M for M equally frequent labels and a share a of the target's answered right.
    """

    def evaluate(params: Array, test_x: Array, test_y: Array, model_state: Any = ()) -> Evaluation:
        tree = unravel(params)
        extra = (model_state,) if jax.tree.leaves(model_state) else ()

        def batch(example: tuple[Array, Array]) -> tuple[Array, Array]:
            x, y = example
            wrong = jnp.argmax(apply(tree, x[None], *extra)[0]) != y
            if trigger is None:
                return wrong, jnp.zeros((), bool)
            hit = jnp.argmax(apply(tree, trigger.embed(x)[None], *extra)[0]) == trigger.target
            return wrong, hit & (y != trigger.target)

        # lax.map vmaps a batch at a time: the single-example calls become batched ones.
        wrong, hit = lax.map(batch, (test_x, test_y), batch_size=min(batch_size, test_x.shape[0]))
        error = jnp.mean(wrong.astype(jnp.float32))
        if trigger is None:
            return Evaluation(error, jnp.full((), jnp.nan))
        return Evaluation(error, jnp.sum(hit) / jnp.sum(test_y != trigger.target))

    return evaluate
