"""MPAF: fake clients that drag the global model towards a model of their own."""

from collections.abc import Callable
from typing import get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks.base_model import Base, BaseModel, check_base, choose_base, no_model
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import option, real
from fljax.numerics.subset_statistics import replaced


@register_attack(
    title="MPAF",
    source="Cao & Gong 2022",
    assumes="the global model",
    optimises="error under any rule",
    make=from_factory,
    streams=True,
)
def mpaf(
    *,
    factor: float = 1e6,
    base: Base = "fresh",
    init_params: Callable[[Array], Array] | None = None,
) -> Attack:
    """MPAF: in every round a long step from the global model towards a bad one that stays the same.

    g'_i = λ (w_b − w_t) for malicious i, with a base model w_b that is chosen in the first round. Attackers
    need no data and know neither the rule nor other updates. Among clients with weights a fake one counts by
    the number of its examples.

    Args:
        factor: λ.
        base: w_b, a new random initialisation of the model ("fresh"), or the global model in the first round
            with an attacker in its cohort ("initial").
        init_params: a typed PRNG key to a model's parameters (d,), for a fresh one; it is given the round's
            `run_key`.

    Returns:
        The `Attack`, with a `BaseModel`.

    Raises:
        ValueError: if `base` is neither, a static `factor` is not finite or there is no `init_params` for a
            fresh model; while tracing, if a context lacks what is needed.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> attack, rows, mask = mpaf(factor=10.0, base="initial"), jnp.ones((2, 1)), jnp.array([True, False])
        >>> before, now = (Knowledge(Context(params=jnp.array([w]))) for w in (5.0, 5.5))
        >>> _, state = attack.corrupt(rows, mask, attack.init(2, 1), before)
        >>> attack.corrupt(rows, mask, state, now)[0].tolist()
        [[-5.0], [1.0]]

    Source: Cao & Gong, "MPAF: model poisoning attacks to federated learning based on fake clients", CVPR
    Workshops 2022. The fake clients there come on top of n genuine ones. The code of PoisonedFL drags to the
    initial model.
    """
    option("base", base, get_args(Base))
    size = real("factor", factor, finite=True)
    check_base(base, init_params, "base")

    def corrupt(
        updates: Array, malicious: Array, state: BaseModel, knowledge: Knowledge
    ) -> tuple[Array, BaseModel]:
        params, state = choose_base(base, state, malicious, knowledge, init_params)
        sent = (jnp.asarray(size, params.dtype) * (state.params - params)).astype(updates.dtype)
        return replaced(updates, malicious, lambda rows: sent), state

    return Attack(no_model, corrupt, streams=True)
