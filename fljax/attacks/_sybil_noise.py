"""Sybils that hide from FoolsGold: they poison only while their histories do not look alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.training import backdoored
from fljax.attacks.wrappers import from_factory, malicious_rows
from fljax.base import Attack, Knowledge, Task
from fljax.numerics.checks import ArgumentError, real
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.safe import dot, finite_rows, gram, row_norms


class SybilState(NamedTuple):
    """What the attackers remember.

    Attributes:
        history: (num_clients, d), the sum of what each malicious client has sent.
        poisoned: int32 scalar, rounds of poison.
        hidden: int32 scalar, rounds of noise.
    """

    history: Array
    poisoned: Array
    hidden: Array


@register_attack(
    title="Sybil noise",
    source="Fung et al. 2020",
    assumes="all lengths",
    optimises="a backdoor that FoolsGold does not see",
    make=from_factory,
)
def sybil_noise(
    *,
    similarity: float = 0.25,
    backdoor: Attack | None = None,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    max_malicious: int | None = None,
) -> Attack:
    """Poison while the sybils' histories are not alike, else noise that makes them less so.

    With H_i the sum of what malicious client i has sent and p_i what another attack sends for it, all send
    p_i if every cos(H_i + p_i, H_j + p_j) ≤ θ. Otherwise they send noise: the first ⌈m/2⌉ of the m malicious
    rows are orthogonal vectors of the length of the longest row of the round, and the others their negatives.
    The directions are drawn once for the run. With an even m the noise cancels in a sum, and cosines between
    it are 0 or −1.

    Args:
        similarity: θ.
        backdoor: the attack that poisons data and trains as honest clients do; None for `badnets`.
        num_classes: as for `badnets`.
        image_shape: as for `badnets`.
        max_malicious: an upper bound on the number of malicious rows, to draw fewer vectors. Rows beyond it
            stay as they are.

    Returns:
        The `Attack`; the first part of its state is a `SybilState`, whose counts say in which share of the
        rounds there was poison.

    Raises:
        ValueError: if a number is out of range, or `backdoor` poisons no data, trains in its own way or has a
            schedule; while tracing, if there is no `run_key`.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> attack = sybil_noise(num_classes=2, image_shape=(8, 8, 1))
        >>> rows = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.9, 0.1], [0.0, 0.0, 9.0]])
        >>> known = Knowledge(Context(), run_key=jax.random.key(0))
        >>> sent, state = attack.corrupt(rows, jnp.arange(3) < 2, attack.init(3, 3), known)
        >>> float(jnp.abs(sent[0] + sent[1]).max()), int(state[0].hidden)
        (0.0, 1)

    Source: Fung, Yoon & Beschastnikh, "The limitations of federated learning in Sybil settings", RAID 2020,
    section on intelligent perturbation, with θ from 0.25 to 0.29. The authors' code shortens all rows to
    length 1 first, and its sybils flip labels. Where clients are sampled, who sends which vector is decided
    by the order in the cohort.
    """
    limit = real("similarity", similarity, at_least=-1, at_most=1)

    def init(num_clients: int, num_params: int) -> SybilState:
        return SybilState(jnp.zeros((num_clients, num_params)), jnp.int32(0), jnp.int32(0))

    poisoner = backdoored(backdoor, Task(num_classes, image_shape=image_shape), init=init)

    def corrupt(updates: Array, malicious: Array, both: Any, knowledge: Knowledge) -> tuple[Array, Any]:
        poison, (state, inner) = poisoner.corrupt(updates, malicious, both, knowledge)
        n, d = updates.shape
        ids = jnp.arange(n) if knowledge.context.client_ids is None else knowledge.context.client_ids
        rows = malicious_rows(malicious, max_malicious)
        places = jnp.where(rows < n, ids[jnp.minimum(rows, n - 1)], state.history.shape[0])
        before = state.history.at[places].get(mode="fill", fill_value=0.0)
        planned = poison.at[rows].get(mode="fill", fill_value=0.0)
        cosines = pairwise_cosines(before + planned.astype(before.dtype)).cosines
        # What fills the array is no sybil.
        there = rows < n
        pairs = there[:, None] & there & ~jnp.eye(len(rows), dtype=bool)
        alike = jnp.max(jnp.where(pairs, cosines, -jnp.inf)) > limit
        longest = jnp.max(jnp.where(finite_rows(updates), row_norms(updates), 0.0))
        noise = longest * _pairs(knowledge.run_key, len(rows), jnp.sum(there), d, updates.dtype)
        sent = jnp.where(alike, noise, planned)
        present = jnp.any(malicious)
        after = SybilState(
            state.history.at[places].set(before + sent.astype(before.dtype), mode="drop"),
            state.poisoned + (present & ~alike),
            state.hidden + (present & alike),
        )
        return poison.at[rows].set(sent.astype(updates.dtype), mode="drop"), (after, inner)

    return poisoner._replace(corrupt=corrupt, streams=False)


def _orthonormal(vectors: Array) -> Array:
    """The vectors (k, d) made orthonormal in order by their Gram matrix, sums over d alone."""
    lower = jnp.linalg.cholesky(gram(vectors))
    eye = jnp.eye(len(vectors), dtype=vectors.dtype)
    return dot(jax.scipy.linalg.solve_triangular(lower, eye, lower=True), vectors)


def _pairs(run_key: Array | None, size: int, count: Array, d: int, dtype: Any) -> Array:
    """(size, d) noise of length 1: the first ⌈count/2⌉ rows are orthogonal, the next ones their negatives."""
    if run_key is None:
        raise ArgumentError("needs run_key, which this round does not provide")
    # More than d of them cannot be orthogonal.
    vectors = jax.random.normal(run_key, (min(-(-size // 2), d), d), dtype)
    for _ in range(2):  # again, for what rounding left
        vectors = _orthonormal(vectors)
    half = (count + 1) // 2
    number = jnp.arange(size)
    first = number < half
    chosen = vectors[jnp.where(first, number, number - half) % len(vectors)]
    return jnp.where(first[:, None], chosen, -chosen)
