"""The hybrid sparse attack: large on a few sensitive coordinates, within the spread on the others."""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks._alie import alie_factor, mean_and_deviation
from fljax.attacks._neurotoxin import size_at
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import ArgumentError, fixed_real, option, real
from fljax.numerics.subset_statistics import Sight, known_rows, replaced

Direction = Literal["std", "mean"]


class HybridSparseState(NamedTuple):
    """What the attackers remember.

    Attributes:
        chosen: bool scalar, whether there is a mask.
        mask: (d,) bool, the sensitive coordinates.
    """

    chosen: Array
    mask: Array


@register_attack(
    title="Hybrid sparse",
    source="Ozfatura et al. 2024",
    assumes="all updates, the global model",
    optimises="error within the spread",
    make=from_factory,
    streams=True,
)
def hybrid_sparse(
    *,
    share: float = 0.005,
    sparse_factor: float = 1.5,
    z: float | None = None,
    direction: Direction = "std",
    knowledge: Sight = "full",
) -> Attack:
    """The hybrid sparse attack: ALIE, with a larger factor on the few coordinates that matter most.

    For malicious i, with μ and σ (divided by one less than their number) of the known rows and a mask M of
    coordinates,

        g'_i = μ + a ⊙ σ ⊙ (z (1 − M) + s M),

    a = 1 ("std") or −sign(μ) ("mean"). M has the ⌊`share` · d⌋ coordinates with the largest |w_j μ_j|, at
    least one and none of 0, in the first round with an attacker in its cohort. That is the connection
    sensitivity of pruning at initialisation (SNIP) where μ is a step along a gradient.

    Args:
        share: of the coordinates in M, between 0 and 1.
        sparse_factor: s.
        z: the factor elsewhere; None for `alie_factor`.
        direction: a.
        knowledge: what μ and σ are taken over: "full", the honest rows, or "partial", the attackers' own.

    Returns:
        The `Attack`, with a `HybridSparseState`.

    Raises:
        ValueError: if a choice is none of the allowed or a number is out of range; while tracing, if a
            context lacks `params`.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> rows = jnp.array([[1.0, 1.0], [3.0, 3.0], [0.0, 0.0]])
        >>> attack = hybrid_sparse(share=0.5, sparse_factor=5.0, z=0.0)
        >>> known = Knowledge(Context(params=jnp.array([0.1, 2.0])))
        >>> attack.corrupt(rows, jnp.arange(3) == 2, attack.init(3, 2), known)[0][2].round(3).tolist()
        [2.0, 9.071000099182129]

    Source: Özfatura et al., "Aggressive or imperceptible, or both: network pruning assisted hybrid Byzantines
    in federated learning", arXiv 2404.06230, 2024; formula and defaults are those of the authors'
    FL-Byzantine-Library, of gradients, where the first is μ − σ…. Its masks come from one of several pruning
    methods, FORCE by default, which prunes step by step and layer by layer; this is one step of SNIP over all
    layers.
    """
    fraction = fixed_real("share", share, at_least=0, at_most=1)
    large = real("sparse_factor", sparse_factor, finite=True)
    small = None if z is None else real("z", z, finite=True)
    option("direction", direction, get_args(Direction))
    known_rows(jnp.zeros((1,), bool), knowledge)

    def init(num_clients: int, num_params: int) -> HybridSparseState:
        return HybridSparseState(jnp.zeros((), bool), jnp.zeros((num_params,), bool))

    def corrupt(
        updates: Array, malicious: Array, state: HybridSparseState, known: Knowledge
    ) -> tuple[Array, HybridSparseState]:
        if known.context.params is None:
            raise ArgumentError("needs params, which this round does not provide")
        dtype = updates.dtype
        mean, deviation = mean_and_deviation(known_rows(malicious, knowledge), updates, ddof=1)
        sensitive = _largest(known.context.params.astype(dtype) * mean, fraction)
        mask = jnp.where(state.chosen, state.mask, sensitive)
        factor = alie_factor(len(updates), jnp.sum(malicious)) if small is None else small
        size = jnp.where(mask, jnp.asarray(large, dtype), jnp.asarray(factor, dtype))
        ahead = deviation if direction == "std" else -jnp.sign(mean) * deviation
        crafted = mean + size * ahead
        after = HybridSparseState(state.chosen | jnp.any(malicious), mask)
        return replaced(updates, malicious, lambda rows: crafted), after

    return Attack(init, corrupt, streams=True)


def _largest(values: Array, share: float) -> Array:
    """The ⌊share · d⌋ entries of largest size, (d,) bool, with those as large as the last; none of 0."""
    d = values.shape[0]
    # A product that rounding put just below a whole number is that number.
    sizes, limit = size_at(values, d - max(int(share * d + 1e-9), 1) + 1)
    return (sizes >= limit) & (sizes > 0)
