"""ROP: a perturbation orthogonal to where the server stands, sent from there."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fljax.attacks._alie import alie_factor
from fljax.attacks.registry import register_attack
from fljax.attacks.units import known_rate
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import ArgumentError, Float, real
from fljax.numerics.safe import dot, row_norms, unit
from fljax.numerics.subset_statistics import Sight, known_rows, mean_of, replaced

# In units of the precision: below this share, what is left of a vector beside another one is rounding.
PARALLEL = 100.0


class ROPState(NamedTuple):
    """What the attackers remember.

    Attributes:
        rounds: int32 scalar, rounds so far.
        params: (d,), the global model of the round before.
    """

    rounds: Array
    params: Array


@register_attack(
    title="ROP",
    source="Ozfatura et al. 2024",
    assumes="all updates, the last change",
    optimises="error of rules with a memory",
    make=from_factory,
    streams=True,
)
def rop(
    *,
    location: float = 1.0,
    reference: float = 0.9,
    angle: float = 270.0,
    length: float | None = None,
    server_lr: float = 1.0,
    knowledge: Sight = "full",
) -> Attack:
    """ROP: a perturbation at an angle to the last aggregate, relocated to it.

    With the last aggregate r = (w_t − w_(t−1))/α and the mean μ of the known rows, for malicious i

        g'_i = π r + (1 − π) μ + L (cos θ · e − sin θ · o),

    e the unit vector along λ r + (1 − λ) μ, and o that along the ones less their part along e. In the first
    round r = 0 and e is along μ. Where the ones are along e, o is made of the axis that is least along it;
    where there is no e, o is along the ones. It breaks rules that clip around the last aggregate: rows no
    farther than their radius from it pass as they are, and push in the same direction in every round.

    Args:
        location: π, 1 for around the last aggregate, 0 for around μ.
        reference: λ.
        angle: θ in degrees: 270 is along o, 90 against it, 180 against e.
        length: L; None for β times `alie_factor`, the published z being a length of gradients.
        server_lr: α, the server's learning rate of plain SGD.
        knowledge: what μ is taken over: "full", the honest rows, or "partial", the attackers' own.

    Returns:
        The `Attack`, with an `ROPState`.

    Raises:
        ValueError: if a number is out of range or `knowledge` is neither; while tracing, if a context lacks
            `params`.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> rows, mask = jnp.array([[3.0, 0.0], [3.0, 0.0]]), jnp.array([True, False])
        >>> attack, known = rop(length=2.0), Knowledge(Context(params=jnp.zeros(2)))
        >>> abs(attack.corrupt(rows, mask, attack.init(2, 2), known)[0]).round(3).tolist()
        [[0.0, 2.0], [3.0, 0.0]]

    Source: Özfatura et al., "Byzantines can also learn from history: fall of centered clipping in federated
    learning", IEEE TIFS 2024 (arXiv 2022); the defaults are those of the authors' FL-Byzantine-Library, which
    works on momenta of gradients: there the sign of e, not that of o, is the other one.
    """
    pi = real("location", location, finite=True)
    weight = real("reference", reference, finite=True)
    theta = real("angle", angle, finite=True)
    size = None if length is None else real("length", length, at_least=0, finite=True)
    rate = real("server_lr", server_lr, above=0, finite=True)
    known_rows(jnp.zeros((1,), bool), knowledge)

    def init(num_clients: int, num_params: int) -> ROPState:
        return ROPState(jnp.int32(0), jnp.zeros((num_params,)))

    def corrupt(
        updates: Array, malicious: Array, state: ROPState, known: Knowledge
    ) -> tuple[Array, ROPState]:
        if known.context.params is None:
            raise ArgumentError("needs params, which this round does not provide")
        params = known.context.params.astype(state.params.dtype)
        dtype = updates.dtype
        last = jnp.where(state.rounds > 0, (params - state.params) / rate, 0.0).astype(dtype)
        mean = mean_of(known_rows(malicious, knowledge), updates)
        share = jnp.where(state.rounds > 0, jnp.asarray(weight, dtype), 0.0)
        along, across = _plane(share * last + (1 - share) * mean)
        far: Float = alie_factor(len(updates), jnp.sum(malicious)) if size is None else size
        if size is None:
            far = known_rate(known.local_rate) * far
        radians = jnp.asarray(theta, dtype) * (math.pi / 180)
        step = jnp.cos(radians) * along - jnp.sin(radians) * across
        at = jnp.asarray(pi, dtype)
        sent = at * last + (1 - at) * mean + jnp.asarray(far, dtype) * step
        after = ROPState(state.rounds + 1, params)
        return replaced(updates, malicious, lambda rows: sent), after

    return Attack(init, corrupt, streams=True)


def _plane(vector: Array) -> tuple[Array, Array]:
    """The direction of a vector, 0 where it has none, and one across it."""
    along = unit(vector, row_norms(vector[None])[0])
    ones = jnp.ones_like(vector)

    def beside(other: Array) -> tuple[Array, Array]:
        rest = other - dot(other, along) * along
        rest = rest - dot(rest, along) * along  # again, so that a small rest is across it too
        return rest, jnp.sqrt(dot(rest, rest))

    rest, size = beside(ones)
    axis, axis_size = beside(jnp.zeros_like(vector).at[jnp.argmin(jnp.abs(along))].set(1.0))
    parallel = size <= PARALLEL * jnp.finfo(vector.dtype).eps * math.sqrt(vector.shape[0])
    across = jnp.where(parallel, unit(axis, axis_size), unit(rest, size))
    return along, across
