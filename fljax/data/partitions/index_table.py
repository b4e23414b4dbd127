"""Index tables, which every partition returns; examples are never copied.

`(table, counts)`: `table` (n, s_max) int32 holds the positions of client i's examples in its first
`counts[i]` slots and -1 after them. The order inside a client is random.
"""

from collections.abc import Callable

import jax
import numpy as np

from fljax.errors import ConfigError

IndexTable = tuple[np.ndarray, np.ndarray]
Seed = int | np.random.Generator | jax.Array

# A scheme whose client sizes are random is drawn this often before its minimum size is given up.
MOST_DRAWS = 100


def as_generator(seed: Seed) -> np.random.Generator:
    """A NumPy generator from a whole number, a typed or raw JAX key, or a generator (returned as it is)."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, jax.Array):
        typed = jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key)
        return np.random.default_rng(np.asarray(jax.random.key_data(seed) if typed else seed).ravel())
    return np.random.default_rng(seed)


def check_sizes(name: str, num_examples: int, num_clients: int, min_size: int) -> None:
    """Check that the wanted numbers are possible at all.

    Args:
        name: the partition, for the message.
        num_examples: N.
        num_clients: n.
        min_size: examples that every client must get.

    Raises:
        ConfigError: a number is below 1, or N < n · min_size.

    Example:
        >>> check_sizes("iid", 10, 5, 2)
    """
    if num_clients < 1:
        raise ConfigError(f"{name}: num_clients={num_clients} must be at least 1")
    if min_size < 1:
        raise ConfigError(f"{name}: min_size={min_size} must be at least 1")
    if num_examples < num_clients * min_size:
        raise ConfigError(
            f"{name}: {num_examples} examples cannot give each of {num_clients} clients "
            f"min_size={min_size}; use fewer clients or more data"
        )


def check_alpha(name: str, alpha: float) -> None:
    """Check a Dirichlet concentration; beyond these bounds its draws are no numbers any more.

    Args:
        name: the partition, for the message.
        alpha: the concentration.

    Raises:
        ConfigError: it is not between 1e-6 and 1e6.

    Example:
        >>> check_alpha("dirichlet", 0.5)
    """
    if not 1e-6 <= alpha <= 1e6:
        raise ConfigError(f"{name}: alpha={alpha} must be between 1e-6 and 1e6")


def draw_owners(
    draw: Callable[[], np.ndarray], num_clients: int, min_size: int, name: str, advice: str
) -> np.ndarray:
    """Draw a whole partition, again while a client is too small, at most `MOST_DRAWS` times.

    What comes out follows the scheme's law on the condition that every client has `min_size` examples. A
    first draw that is good enough is kept, so that a smaller `min_size` does not change it.

    Args:
        draw: () to (N,) the owner of each example; random.
        num_clients: n.
        min_size: examples that every client must get.
        name: the partition, for the message.
        advice: what would help, for the message.

    Returns:
        (N,) the owner of each example.

    Raises:
        ConfigError: every draw left a client with fewer examples.

    Example:
        >>> draw_owners(lambda: np.array([0, 1, 1]), 2, 1, "mine", "more data").tolist()
        [0, 1, 1]
    """
    best: tuple[int, int] = (-1, 0)
    for _ in range(MOST_DRAWS):
        owner = draw()
        counts = np.bincount(owner, minlength=num_clients)
        if counts.min() >= min_size:
            return owner
        best = max(best, (int(counts.min()), -int((counts < min_size).sum())))
    raise ConfigError(
        f"{name}: none of {MOST_DRAWS} draws gave every client min_size={min_size} examples (in the best one "
        f"{-best[1]} of {num_clients} clients got fewer, the smallest {best[0]}); use {advice}"
    )


def index_table(owner: np.ndarray, num_clients: int, random: np.random.Generator) -> IndexTable:
    """The table from each example's owner, in random order inside a client.

    Args:
        owner: (N,) integers in [0, n).
        num_clients: n.
        random: for the order.

    Returns:
        `(table, counts)`, both int32.

    Example:
        >>> table, counts = index_table(np.array([1, 0, 1]), 2, np.random.default_rng(0))
        >>> counts.tolist(), table[0].tolist()
        ([1, 2], [1, -1])
    """
    counts = np.bincount(owner, minlength=num_clients)
    order = random.permutation(len(owner))
    order = order[np.argsort(owner[order], kind="stable")]
    table = np.full((num_clients, counts.max()), -1, np.int32)
    table[np.arange(counts.max()) < counts[:, None]] = order
    return table, counts.astype(np.int32)
