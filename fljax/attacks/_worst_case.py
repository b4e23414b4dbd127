"""The strongest of several attacks, chosen anew in every round."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory, malicious_rows
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import ArgumentError, option
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import along


class WorstCaseState(NamedTuple):
    """The state of `worst_case`.

    Attributes:
        states: the attacks' own states.
        chosen: (k,) int32, in how many rounds each attack was the strongest.
    """

    states: tuple[Any, ...]
    chosen: Array


@register_attack(
    title="Worst case",
    source="this library",
    assumes="all updates, the rule",
    optimises="the strongest of a list of attacks",
    make=from_factory,
)
def worst_case(
    *,
    attacks: Sequence[Attack],
    objective: Literal["direction", "distance"] = "direction",
    max_malicious: int | None = None,
) -> Attack:
    """In every round the attack that does the round's own rule most damage.

    All attacks craft their rows from the same honest stack; the rule turns each of the k stacks into an
    update g'; sent is the one with the largest sᵀ(g − g') ("direction") or ‖g − g'‖ ("distance"), where g is
    the update without attack and s its sign. A g' that is not finite beats every finite one; of equal ones
    the first is sent. It costs k + 1 aggregations a round, and memory for k times the malicious rows.

    Args:
        attacks: at least one, on updates only: poisoned data would need their own training.
        objective: what damage is.
        max_malicious: an upper bound on the number of malicious rows, to hold fewer candidates; rows beyond
            it stay honest.

    Returns:
        The `Attack`; its state counts how often each was chosen (`WorstCaseState`).

    Raises:
        ValueError: if an attack poisons data, or has training or a schedule of its own, or `objective` is
            neither.

    Example:
        >>> from fljax.attacks import Context, Knowledge, Task, on_updates, scale, sign_flip
        >>> made = [on_updates(scale, Task(10)), on_updates(sign_flip, Task(10), factor=5.0)]
        >>> attack = worst_case(attacks=made)
        >>> known = Knowledge(Context(key=jax.random.key(0)), rule=lambda stack: jnp.mean(stack, 0))
        >>> rows, malicious = jnp.array([[1.0], [1.0]]), jnp.array([False, True])
        >>> attack.corrupt(rows, malicious, attack.init(2, 1), known)[0].tolist()
        [[1.0], [-5.0]]

    Source: the direction is the objective of Fang et al., USENIX Security 2020, equation 1.
    """
    if not all(isinstance(attack, Attack) for attack in attacks):
        raise ArgumentError("attacks must be Attacks; on_updates makes one of a function")
    if not attacks:
        raise ArgumentError("attacks must hold at least one attack")
    option("objective", objective, ("direction", "distance"))
    if any(
        any(each is not None for each in (attack.poison_data, attack.train, attack.prepare, attack.active))
        for attack in attacks
    ):
        raise ArgumentError(
            "only attacks on updates, without data, training or a schedule of their own, can be compared"
        )

    def init(num_clients: int, num_params: int) -> WorstCaseState:
        states = tuple(attack.init(num_clients, num_params) for attack in attacks)
        return WorstCaseState(states, jnp.zeros((len(attacks),), jnp.int32))

    def corrupt(
        updates: Array, malicious: Array, state: WorstCaseState, knowledge: Knowledge
    ) -> tuple[Array, WorstCaseState]:
        rule, context = knowledge.rule, knowledge.context
        if rule is None:
            raise ArgumentError("needs rule, which this round does not provide")
        rows = malicious_rows(malicious, max_malicious)
        candidates, states = [], []
        for i, (attack, own) in enumerate(zip(attacks, state.states, strict=True)):
            key, run_key = (
                None if key is None else jax.random.fold_in(key, i)
                for key in (context.key, knowledge.run_key)
            )
            known = knowledge._replace(context=context._replace(key=key), run_key=run_key)
            stack, own = attack.corrupt(updates, malicious, own, known)
            candidates.append(stack.at[rows].get(mode="clip"))
            states.append(own)
        before = rule(updates)

        def damage(crafted: Array) -> Array:
            change = before - rule(updates.at[rows].set(crafted, mode="drop"))
            if objective == "direction":
                value = along(jnp.sign(before), change)
            else:
                value = row_norms(change[None])[0]
            return jnp.where(jnp.isfinite(value), value, jnp.inf)

        # One after the other: the rule is compiled once, and one stack is held at a time.
        crafted = jnp.stack(candidates)
        best = jnp.argmax(lax.map(damage, crafted))
        chosen = state.chosen.at[best].add(jnp.any(malicious).astype(jnp.int32))
        return updates.at[rows].set(crafted[best], mode="drop"), WorstCaseState(tuple(states), chosen)

    return Attack(init, corrupt)
