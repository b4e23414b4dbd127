"""The examples of a local step, drawn without replacement."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.engine.keys import named_key

BatchSize = int | Literal["full"]


class Batches(NamedTuple):
    """The examples of every local step.

    Attributes:
        examples: (..., R, b) int32 positions in the training set.
        weights: (..., R, b) float32, 1 for a real example and 0 for padding.
        is_copy: (..., R, b) boolean, True for a copy an attacker appended.
        key: (..., R) typed PRNG keys of what a step draws besides its examples; None where it draws nothing.
    """

    examples: Array
    weights: Array
    is_copy: Array
    key: Array | None = None


def sample_without_replacement(key: Array, count: Array, size: int) -> tuple[Array, Array]:
    """A uniformly random subset of `size` of the numbers 0 … count − 1.

    Robert Floyd's algorithm: `size` steps whatever the count, no sort over all examples. With fewer than
    `size` numbers all of them are returned, and the rest is marked as padding.

    Args:
        key: typed PRNG key.
        count: int32 scalar.
        size: static size of the subset.

    Returns:
        (size,) int32 numbers and (size,) boolean, True where the number is below `count`.

    Example:
        >>> numbers, real = sample_without_replacement(jax.random.key(0), jnp.int32(3), 4)
        >>> sorted(numbers[real].tolist())
        [0, 1, 2]

    Source: Bentley and Floyd, "Programming pearls: a sample of brilliance", CACM 1987.
    """
    population = jnp.maximum(count, size)
    tops = population - size + jnp.arange(size, dtype=jnp.int32)
    draws = jax.random.randint(key, (size,), 0, tops + 1)

    def place(i: Array, chosen: Array) -> Array:
        taken = jnp.any(chosen == draws[i])
        return chosen.at[i].set(jnp.where(taken, tops[i], draws[i]))

    numbers = lax.fori_loop(0, size, place, jnp.full((size,), -1, jnp.int32))
    return numbers, numbers < count


def draw_batches(
    key: Array, table: Array, count: Array, copies: Array, *, steps: int, batch_size: BatchSize, largest: int
) -> Batches:
    """One client's batches for its R local steps, without replacement inside a batch.

    Args:
        key: typed PRNG key of this client and round.
        table: (s_max,) the client's row of the index table.
        count: number of its examples.
        copies: number of copies an attacker appends (slot count + k is a copy of slot k mod count).
        steps: R.
        batch_size: b, or "full" for all examples at every step.
        largest: static upper bound of count + copies.

    Returns:
        `Batches` with arrays (R, b).
    """
    total = count + copies
    if batch_size == "full":
        slots = jnp.broadcast_to(jnp.arange(largest, dtype=jnp.int32), (steps, largest))
        real = slots < total
    else:
        # No client has more than `largest`, so a larger batch is all of them.
        size = min(batch_size, largest)
        keys = jax.random.split(key, steps)
        slots, real = jax.vmap(lambda k: sample_without_replacement(k, total, size))(keys)
    is_copy = real & (slots >= count)
    examples = table[jnp.where(real, slots % jnp.maximum(count, 1), 0)]
    return Batches(examples, real.astype(jnp.float32), is_copy)


def with_keys(batches: Batches, key: Array) -> Batches:
    """One client's batches (R, b) with a key for every step, whatever their number; `key` is the client's."""
    steps = jnp.arange(batches.weights.shape[0])
    own = named_key(key, "step")
    return batches._replace(key=jax.vmap(lambda step: jax.random.fold_in(own, step))(steps))


def num_copies(share: Array | float, count: Array | float) -> Array:
    """⌈share · count⌉, without the last digits, on which float32 and float64 do not agree."""
    return jnp.ceil(share * count * (1 - 1e-6)).astype(jnp.int32)
