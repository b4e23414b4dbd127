"""A cohort's updates as one stack, or as rows that are trained anew whenever somebody reads them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.engine.local_training import Result, mean_of_sums, mean_state, sum_states
from fljax.numerics.rows import Rows, in_chunks

# Bytes of the rows of a chunk, and how many rows it has at most.
CHUNK_BYTES, CHUNK_ROWS = 2**25, 1024


def rows_at_once(num_params: int) -> int:
    """The number of rows of a chunk, whatever else is: the order of sums depends on it."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * num_params)))


class Left(NamedTuple):
    """The rest of a cohort's training.

    Attributes:
        losses: (τ,) mean training losses.
        model_state: the model's state after the round.
        clients: what all n clients keep.
    """

    losses: Array
    model_state: Any
    clients: Any


class Cohort(NamedTuple):
    """The clients of a round, and what they are trained from.

    Attributes:
        train: `train(client_ids, malicious, following) -> Result`, of some of them, after whom those of
            `following` train.
        client_ids: (τ,).
        following: int32, the clients of the next round, as far as they are known.
        malicious: (τ,) boolean.
        has_examples: (τ,) boolean.
        model_state: the model's state before the round.
        clients: what all n clients keep.
    """

    train: Callable[[Array, Array, Array], Result]
    client_ids: Array
    following: Array
    malicious: Array
    has_examples: Array
    model_state: Any
    clients: Any


def whole(cohort: Cohort) -> tuple[list[Array], Callable[[], Left]]:
    """All clients trained at once: the stacks of updates and of each kind of message, and what is left."""
    result = cohort.train(cohort.client_ids, cohort.malicious, cohort.following)

    def left() -> Left:
        return Left(
            result.losses,
            mean_state(result.model_states, cohort.has_examples, cohort.model_state),
            _written(cohort.clients, cohort.client_ids, result.states),
        )

    return [result.updates, *result.messages], left


def _written(clients: Any, client_ids: Array, states: Any) -> Any:
    return jax.tree.map(lambda leaf, rows: leaf.at[client_ids].set(rows), clients, states)


def in_passes(
    cohort: Cohort, *, size: int, num_params: int, dtype: Any, num_messages: int = 0
) -> tuple[list[Rows], Callable[[], Left]]:
    """The same, a chunk of clients after the other, who train again in every pass over their rows.

    A client draws by its own key, so that it sends the same every time. The first pass gathers what is left.

    Args:
        cohort: the clients.
        size: of a chunk.
        num_params: d.
        dtype: of the updates.
        num_messages: how many kinds of messages there are.
    """
    n = cohort.client_ids.shape[0]
    gathered: list[Left] = []

    def passes(number: int, part: Callable[..., tuple[Any, Any]], *of_rows: Any) -> tuple[Any, Any]:
        is_first = not gathered

        def chunk(own: Any, clients: Any) -> tuple[Any, Any, Any]:
            client_ids, following, malicious, has_examples, others = own
            result = cohort.train(client_ids, malicious, following)
            sums, values = part((result.updates, *result.messages)[number], *others)
            if not is_first:
                return (sums, ()), (values, ()), clients
            states = sum_states(result.model_states, has_examples, n)
            return (sums, states), (values, result.losses), _written(clients, client_ids, result.states)

        following = jnp.roll(cohort.client_ids, -size)
        whole = cohort.client_ids, following, cohort.malicious, cohort.has_examples, of_rows
        (sums, states), (values, losses), clients = in_chunks(
            chunk, whole, n, size, cohort.clients if is_first else ()
        )
        if is_first:
            gathered.append(Left(losses, mean_of_sums(states, n, cohort.model_state), clients))
        return sums, values

    def left() -> Left:
        if not gathered:  # nobody has read a row
            passes(0, lambda rows: ((), ()))
        return gathered[0]

    kinds = range(1 + num_messages)
    return [Rows((n, num_params), dtype, partial(passes, number)) for number in kinds], left
