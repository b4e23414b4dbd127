"""The examples of local steps: drawn anew in every step, or a pass over all of them in every epoch."""

import math
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.engine.keys import named_key

BatchSize = int | Literal["full"]
# Floyd's algorithm compares a draw with all before it; a larger subset is found by a sort. Measured, see
# benchmarks/README.md.
LARGEST_LOOP = 512


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

    Robert Floyd's algorithm: number j is drawn from 0 … t_j with t_j = count − size + j, and if it is there
    already, t_j is taken in its place. Time and memory depend on `size` alone. With fewer than `size` numbers
    all of them are returned, and the rest is marked as padding.

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
    if size > LARGEST_LOOP or not _steps_are_cheap():
        numbers = jnp.where(_taken(draws, draws - (population - size)), tops, draws)
        return numbers, numbers < count

    def place(i: Array, chosen: Array) -> Array:
        taken = jnp.any(chosen == draws[i])
        return chosen.at[i].set(jnp.where(taken, tops[i], draws[i]))

    numbers = lax.fori_loop(0, size, place, jnp.full((size,), -1, jnp.int32))
    return numbers, numbers < count


def _steps_are_cheap() -> bool:
    """Elsewhere than on a CPU a step of a loop is a launch of several kernels."""
    return jax.default_backend() == "cpu"


def _taken(draws: Array, links: Array) -> Array:
    """Whether each draw of Floyd's algorithm is taken when it is made, without one step after another.

    It is if an earlier draw is the same, or if it is some earlier t_j and draw j was taken, and so on.

    Args:
        draws: (size,) the draws.
        links: (size,) the j with t_j = draws[i], out of range if there is none.
    """
    size = draws.shape[0]
    places = jnp.arange(size, dtype=jnp.int32)
    if size > LARGEST_LOOP:
        in_order, origin = lax.sort((draws, places), num_keys=1)
        again = jnp.concatenate([jnp.zeros(1, bool), in_order[1:] == in_order[:-1]])
        taken = jnp.zeros(size, bool).at[origin].set(again, unique_indices=True)
    else:
        taken = jnp.any((draws == draws[:, None]) & (places < places[:, None]), axis=1)
    links = jnp.where((links >= 0) & (links < places), links, places)
    for _ in range(size.bit_length()):
        taken, links = taken | taken[links], links[links]
    return taken


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
        size = _size(batch_size, largest)
        keys = jax.random.split(key, steps)
        slots, real = jax.vmap(lambda k: sample_without_replacement(k, total, size))(keys)
    return _batch(table, count, slots, real)


class Passes(NamedTuple):
    """One client's examples in the order of every epoch.

    Attributes:
        table: (s_max,) the client's row of the index table.
        order: (E, S) int32 slots, in every row first a random order of those that the client has.
        own: int32 scalar, number of its examples; slot own + k is a copy of slot k mod own.
        limits: (E,) int32, how many slots an epoch takes from its row: all, in the last one perhaps a share.
        size: static number of slots in a batch.
        key: typed PRNG key, from which every step has one of its own; None where it draws nothing besides.
    """

    table: Array
    order: Array
    own: Array
    limits: Array
    size: int
    key: Array | None = None

    @property
    def steps(self) -> Array:
        """The number of batches, int32 scalar: ⌈slots / size⌉ in every epoch."""
        return jnp.sum(-(-self.limits // self.size))

    def batch(self, step: Array) -> Batches:
        """The batch (b,) of one step; the last of an epoch may have fewer examples."""
        in_epoch = jnp.maximum(-(-self.limits[0] // self.size), 1)
        epoch = step // in_epoch
        places = step % in_epoch * self.size + jnp.arange(self.size, dtype=jnp.int32)
        real = places < self.limits[epoch]
        slots = self.order[epoch, jnp.minimum(places, self.order.shape[1] - 1)]
        key = None if self.key is None else jax.random.fold_in(self.key, step)
        return _batch(self.table, self.own, slots, real)._replace(key=key)


def _batch(table: Array, count: Array, slots: Array, real: Array) -> Batches:
    examples = table[jnp.where(real, slots % jnp.maximum(count, 1), 0)]
    return Batches(examples, real.astype(jnp.float32), real & (slots >= count))


def draw_passes(
    key: Array,
    table: Array,
    count: Array,
    copies: Array,
    *,
    epochs: float,
    batch_size: BatchSize,
    largest: int,
) -> Passes:
    """One client's examples in a new order for every epoch.

    Args:
        key: typed PRNG key of this client and round.
        table: (s_max,) the client's row of the index table.
        count: number of its examples.
        copies: number of copies an attacker appends.
        epochs: E > 0; of a last broken epoch the first ⌈share · (count + copies)⌉ slots are taken.
        batch_size: b, or "full" for all examples at once.
        largest: static upper bound of count + copies.

    Returns:
        The `Passes`.
    """
    total = count + copies
    whole, rows = math.floor(epochs), math.ceil(epochs)
    slots = jnp.arange(largest, dtype=jnp.int32)
    bits = jax.random.bits(key, (rows, largest))
    # Slots that the client does not have come last; a sort is stable, so that equal bits have an order, too.
    ranks = jnp.where(slots < total, bits >> 1, jnp.uint32(2**32 - 1))
    _, order = lax.sort((ranks, jnp.broadcast_to(slots, (rows, largest))), num_keys=1)
    shares = [1.0] * whole + [epochs - whole] * (rows - whole)
    limits = jnp.stack([total if share == 1.0 else num_copies(share, total) for share in shares])
    return Passes(table, order, count, limits, _size(batch_size, largest))


def all_of(table: Array, count: Array, copies: Array, batch_size: BatchSize, largest: int) -> Passes:
    """One pass over a client's examples in their own order; arguments as for `draw_passes`."""
    order = jnp.arange(largest, dtype=jnp.int32)[None]
    return Passes(table, order, count, (count + copies)[None], _size(batch_size, largest))


def _size(batch_size: BatchSize, largest: int) -> int:
    """Slots in a batch: no client has more than `largest`, so a larger batch is all of them."""
    return largest if batch_size == "full" else min(batch_size, largest)


Plan = TypeVar("Plan", Batches, Passes)


def with_keys(batches: Plan, key: Array) -> Plan:
    """One client's batches with a key for every step, whatever their number; `key` is the client's."""
    own = named_key(key, "step")
    if isinstance(batches, Passes):
        return batches._replace(key=own)
    steps = jnp.arange(batches.weights.shape[0])
    return batches._replace(key=jax.vmap(lambda step: jax.random.fold_in(own, step))(steps))


def marked_in_place(batch: Batches, share: Array) -> Batches:
    """The batch of one step with ⌊share · (its real examples)⌋ of them, drawn at random, in place of copies.

    Args:
        batch: arrays (b,), with a key.
        share: scalar, between 0 and 1.
    """
    real = batch.weights > 0
    assert batch.key is not None
    bits = jax.random.bits(named_key(batch.key, "in place"), real.shape)
    order = jnp.argsort(jnp.where(real, bits >> 1, jnp.uint32(2**32 - 1)))
    number = jnp.floor(share * jnp.sum(real) * (1 + 1e-6)).astype(jnp.int32)
    first = jnp.arange(real.shape[0], dtype=jnp.int32) < number
    return batch._replace(is_copy=jnp.zeros_like(real).at[order].set(first, unique_indices=True))


def num_copies(share: Array | float, count: Array | float) -> Array:
    """⌈share · count⌉, without the last digits, on which float32 and float64 do not agree."""
    return jnp.ceil(share * count * (1 - 1e-6)).astype(jnp.int32)
