"""Rounds of clients with a quadratic loss, for attacks on local training: as compiled, and as a loop.

A client with examples x minimises the mean of ½ (w − x)ᵀ H (w − x) by steps of SGD with momentum on all of
them; the rule is the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from fljax.aggregators import Aggregator
from fljax.attacks import NO_ATTACK, Attack
from fljax.base import Head
from fljax.engine.local_training import LocalTraining
from fljax.engine.round import make_round
from fljax.engine.state import RoundData, RunState

N, D, MOST = 5, 4, 4
ROUNDS, STEPS, RATE, MOMENTUM = 3, 3, 0.1, 0.9
COUNTS = np.array([4, 3, 4, 2, 4])
MALICIOUS = np.array([False, True, False, True, False])
_random = np.random.default_rng(0)
POINTS = _random.normal(size=(N, MOST, D)) + np.array([1.0, -1.0, 0.5, -1.5])
POISON = np.array([-2.0, 1.0, 3.0, 0.5])
HESSIAN = np.eye(D) + 0.3 * (_random.normal(size=(D, D)) > 0)
HESSIAN = HESSIAN @ HESSIAN.T / 2
START = np.array([0.3, -0.2, 0.1, 0.5])


def points_at(x: jax.Array, is_copy: jax.Array) -> jax.Array:
    return jnp.where(is_copy[:, None], jnp.asarray(POISON, x.dtype), x)


# Half as many copies as examples, all of them at one point.
BACKDOOR = NO_ATTACK._replace(
    poison_data=lambda x, y, is_copy, member: (points_at(x, is_copy), y), copies=0.5
)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """What the clients do.

    Attributes:
        hessian: H.
        momentum: of SGD.
        steps: of honest clients.
    """

    hessian: np.ndarray = field(default_factory=lambda: HESSIAN)
    momentum: float = MOMENTUM
    steps: int = STEPS


USUAL = Quadratic()


# By what they are made of; an attack holds a dictionary, and so is no key.
_PROGRAMS: dict[Any, tuple[Attack, Callable[..., Any]]] = {}


def program(
    attack: Attack, problem: Quadratic = USUAL, max_malicious: int | None = None, clients_at_once: int = N
) -> Callable[..., Any]:
    """A compiled round, made once; what the rule got stays in its state."""
    made_of = id(attack), problem, max_malicious, clients_at_once
    if made_of not in _PROGRAMS:
        step = one_round(attack, problem, max_malicious, clients_at_once)
        _PROGRAMS[made_of] = attack, jax.jit(step)
    return _PROGRAMS[made_of][1]


def one_round(
    attack: Attack, problem: Quadratic = USUAL, max_malicious: int | None = None, clients_at_once: int = N
) -> Callable[..., Any]:
    """A round as a function of its state and its data."""
    # A tree with two leaves: attacks see no vector.
    tree = {"a": np.zeros(D - 1, np.float32), "b": np.zeros(1, np.float32)}
    unravel = ravel_pytree(tree)[1]
    hessian = jnp.asarray(problem.hessian, jnp.float32)

    def loss(
        params: Any,
        model_state: Any,
        x: jax.Array,
        y: jax.Array,
        weights: jax.Array,
        divisor: Any = None,
        key: Any = None,
    ) -> tuple[jax.Array, Any]:
        away = ravel_pytree(params)[0] - x
        each = 0.5 * jnp.sum((away @ hessian) * away, axis=1)
        return jnp.sum(weights * each) / jnp.maximum(jnp.sum(weights), 1.0), model_state

    training = LocalTraining(
        loss=loss,
        unravel=unravel,
        optimizer=lambda rate: optax.sgd(rate, momentum=problem.momentum),
        steps=problem.steps,
        batch_size="full",
        predict=lambda params, x, model_state: jnp.tile(jnp.arange(3.0), (len(x), 1)),
    )
    return make_round(
        client_training=training,
        server_training=training,
        attack=attack,
        aggregator=Aggregator(
            lambda n, d: jnp.zeros((n, d)), lambda stack, state, context: (jnp.mean(stack, 0), stack, {})
        ),
        server_optimizer=optax.sgd(1.0),
        learning_rate=lambda round: jnp.float32(RATE),
        num_clients=N,
        cohort_size=N,
        clients_at_once=clients_at_once,
        max_malicious=max_malicious,
        # The second leaf is a last layer.
        told=lambda model_state, data: {
            "head": Head(kernel=D - 1, num_features=1, num_classes=1),
            "features": lambda params, x: x * params,
        },
    )


def sent_by_rounds(
    attack: Attack,
    malicious: np.ndarray = MALICIOUS,
    rounds: int = ROUNDS,
    points: np.ndarray = POINTS,
    start: np.ndarray = START,
    **how: Any,
) -> np.ndarray:
    """(rounds, n, d), what the rule gets in every round; `how` as for `program`."""
    return np.asarray(simulated(program(attack, **how), attack, malicious, rounds, points, start))


def simulated(
    step: Callable[..., Any],
    attack: Attack,
    malicious: np.ndarray = MALICIOUS,
    rounds: int = ROUNDS,
    points: np.ndarray = POINTS,
    start: np.ndarray = START,
) -> jax.Array:
    """`sent_by_rounds` of a step, perhaps inside of another program."""
    data = RoundData(
        x=jnp.asarray(points.reshape(-1, D), jnp.float32),
        y=jnp.zeros(N * MOST, jnp.int32),
        table=jnp.arange(N * MOST, dtype=jnp.int32).reshape(N, MOST),
        counts=jnp.asarray(COUNTS, jnp.int32),
        root=jnp.zeros(1, jnp.int32),
        malicious=jnp.asarray(malicious),
    )
    state = RunState(
        params=jnp.asarray(start, jnp.float32),
        round=jnp.int32(0),
        key=jax.random.key(0),
        server_state=optax.sgd(1.0).init(jnp.zeros(D)),
        aggregator_state=jnp.zeros((N, D)),
        attack_state=attack.init(N, D),
    )
    stacks = []
    for _ in range(rounds):
        state, _ = step(state, data)
        stacks.append(state.aggregator_state)
    return jnp.stack(stacks)


class Attacker(NamedTuple):
    """What a malicious client knows, for references.

    Attributes:
        problem: what clients do.
        params: (d,), w.
        points: (count, d), its examples.
        honest: (d,), what it would send honestly.
        models: the global models of all rounds so far, the last of them w.
        counts: (n,), numbers of examples.
        number: its row.
        malicious: (n,) boolean.
    """

    problem: Quadratic
    params: np.ndarray
    points: np.ndarray
    honest: np.ndarray
    models: list[np.ndarray]
    counts: np.ndarray
    number: int
    malicious: np.ndarray

    def descend(
        self,
        steps: int | None = None,
        rate: float | None = None,
        copies: bool = True,
        gradient: Callable[..., np.ndarray] = lambda gradient, delta, step: gradient,
        change: Callable[..., np.ndarray] = lambda change, step: change,
        project: Callable[..., np.ndarray] = lambda delta, step: delta,
        counted: Callable[..., bool] = lambda is_copy, step: True,
    ) -> np.ndarray:
        """SGD with momentum on the examples and half as many poisoned copies, one example after the other."""
        examples = [(point, False) for point in self.points]
        if copies:
            examples += [(POISON, True)] * int(np.ceil(0.5 * len(self.points)))
        delta, memory = np.zeros(D), np.zeros(D)
        for step in range(self.problem.steps if steps is None else steps):
            total, number = np.zeros(D), 0
            for point, is_copy in examples:
                if counted(is_copy, step):
                    total += self.problem.hessian @ (self.params + delta - point)
                    number += 1
            own = gradient(total / max(number, 1), delta, step)
            memory = self.problem.momentum * memory + own
            delta = project(delta + change(-(RATE if rate is None else rate) * memory, step), step)
        return delta


def expected_by_rounds(
    row: Callable[..., np.ndarray],
    malicious: np.ndarray = MALICIOUS,
    problem: Quadratic = USUAL,
    rounds: int = ROUNDS,
    points: np.ndarray = POINTS,
    start: np.ndarray = START,
    **hyper: Any,
) -> np.ndarray:
    """The same by the reference: `row(attacker, **hyper) -> (d,)` is what a malicious client sends."""
    models, stacks = [np.array(start, float)], []
    for _ in range(rounds):
        stack = np.zeros((N, D))
        for i in range(N):
            own = points[i, : COUNTS[i]]
            attacker = Attacker(problem, models[-1], own, np.zeros(D), models, COUNTS, i, malicious)
            stack[i] = attacker.descend(copies=False)
            if malicious[i]:
                stack[i] = row(attacker._replace(honest=stack[i]), **hyper)
        stacks.append(stack)
        models.append(models[-1] + stack.mean(0))
    return np.array(stacks)


@cache
def attack_of(case: Any) -> Attack:
    """The attack of a case, one for all tests."""
    return case.attack()
