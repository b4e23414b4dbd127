"""A model that attackers drag the global one towards, the same in every round."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.base import Knowledge
from fljax.numerics.checks import ArgumentError
from fljax.numerics.safe import for_any

Base = Literal["fresh", "initial"]


class BaseModel(NamedTuple):
    """The base model, as attackers remember it.

    Attributes:
        chosen: bool scalar, whether a round with an attacker has chosen it.
        params: (d,), it.
    """

    chosen: Array
    params: Array


def no_model(num_clients: int, num_params: int) -> BaseModel:
    """None has been chosen yet."""
    return BaseModel(jnp.zeros((), bool), jnp.zeros((num_params,)))


def check_base(base: str, init_params: Callable[[Array], Array] | None, name: str) -> None:
    """Check that a fresh base model can be made; `name` is the parameter that asks for it.

    Raises:
        ArgumentError: if it cannot.
    """
    if base == "fresh" and init_params is None:
        raise ArgumentError(f'{name}="fresh" needs init_params, the initialisation of the model')


def choose_base(
    base: Base,
    state: BaseModel,
    malicious: Array,
    knowledge: Knowledge,
    init_params: Callable[[Array], Array] | None,
) -> tuple[Array, BaseModel]:
    """The global model (d,) and the base model, chosen in the first round with an attacker in its cohort.

    Args:
        base: "initial" for the global model in that round, "fresh" for `init_params` of the run's key.
        state: the base model before the round.
        malicious: (n,) boolean.
        knowledge: of the round.
        init_params: a typed PRNG key to a model's parameters (d,).

    Raises:
        ArgumentError: if the round does not provide what is needed.
    """
    if knowledge.context.params is None:
        raise ArgumentError("needs params, which this round does not provide")
    params = knowledge.context.params.astype(state.params.dtype)
    first = params
    if base == "fresh" and init_params is not None:
        run_key = knowledge.run_key
        if run_key is None:
            raise ArgumentError("a fresh model needs run_key, which this round does not provide")

        def drawn() -> Array:
            return init_params(run_key).astype(params.dtype)

        first = jax.lax.cond(for_any(~state.chosen), drawn, lambda: params)
    known = jnp.where(state.chosen, state.params, first)
    return params, BaseModel(state.chosen | jnp.any(malicious), known)
