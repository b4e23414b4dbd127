"""FMPA: rows that make the server's rule arrive at a chosen model."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks.base_model import check_base, choose_base, no_model
from fljax.attacks.registry import register_attack
from fljax.attacks.searches.factor import plan, send_best
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import ArgumentError, option, whole
from fljax.numerics.subset_statistics import honest_rows, mean_of

Target = Literal["stay", "fresh", "initial"]


@register_attack(
    title="FMPA",
    source="Zhang et al. 2023",
    assumes="all updates, the rule",
    optimises="distance to a chosen model",
    make=from_factory,
)
def drive_to(
    *,
    target: Target = "stay",
    evaluations: int = 20,
    smallest: float = 0.125,
    largest: float = 64.0,
    init_params: Callable[[Array], Array] | None = None,
) -> Attack:
    """FMPA's attack: equal rows that bring the rule's result as close as possible to a chosen update.

    With u* = w* − w_t the update that leads to the chosen model w*, n rows of which m are malicious and the
    mean μ of the honest ones, malicious rows are

        g'_i = p (u* − (1 − m/n) μ),

    where p minimises ‖rule(attacked) − u*‖ among `evaluations` values: first n/m, with which the plain mean
    is u* exactly, then a geometric grid from `smallest` to `largest` (half of the others), then ever smaller
    steps up and down from the best so far.

    Args:
        target: w*, the global model as it is ("stay"), a new random initialisation ("fresh") or the global
            model in the first round with an attacker in its cohort ("initial").
        evaluations: how often the rule is run, one after the other in the memory of one stack; at least 1.
        smallest: the first p of the grid.
        largest: the last p of the grid.
        init_params: a typed PRNG key to a model's parameters (d,), for a fresh one; it is given the round's
            `run_key`.

    Returns:
        The `Attack`, with a `BaseModel`.

    Raises:
        ValueError: if a choice is none of the allowed, a number is out of range or there is no `init_params`
            for a fresh model; while tracing, if a round lacks what is needed.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> attack, rows = drive_to(), jnp.array([[1.0], [3.0], [0.0]])
        >>> known = Knowledge(Context(params=jnp.zeros(1)), rule=lambda stack: stack.mean(0))
        >>> sent, _ = attack.corrupt(rows, jnp.arange(3) == 2, attack.init(3, 1), known)
        >>> abs(round(float(sent.mean()), 5))
        0.0

    Source: Zhang et al., "Denial-of-service or fine-grained control: towards flexible model poisoning attacks
    on federated learning", IJCAI 2023. The authors' demonstration starts at p = 10 and divides it by 1.1
    until the distance grows. It scales models, this scales updates; with p = n/m both are the same.
    """
    option("target", target, get_args(Target))
    check_base(target, init_params, "target")
    evaluations = whole("evaluations", evaluations, smallest=1)
    grid, shrinking = plan(evaluations - 1, smallest, largest)

    def corrupt(updates: Array, malicious: Array, state: Any, knowledge: Knowledge) -> tuple[Array, Any]:
        if knowledge.rule is None:
            raise ArgumentError("needs rule, which this round does not provide")
        n, dtype = updates.shape[0], updates.dtype
        wanted = jnp.zeros(updates.shape[1:], dtype)
        if target != "stay":
            params, state = choose_base(target, state, malicious, knowledge, init_params)
            wanted = (state.params - params).astype(dtype)
        count = jnp.sum(malicious).astype(dtype)
        mean = mean_of(honest_rows(malicious), updates)
        exact = n / jnp.maximum(count, 1)
        sent = send_best(
            updates,
            malicious,
            knowledge.rule,
            base=jnp.zeros_like(wanted),
            direction=wanted - (1 - count / n) * mean,
            factors=jnp.concatenate([exact[None], jnp.asarray(grid, dtype)]),
            shrinking=shrinking,
            largest=largest,
            target=wanted,
            closest=True,
        )
        return sent, state

    return Attack(no_model, corrupt)
