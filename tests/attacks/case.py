"""A row of the table of attacks: how to make one, its reference, and stacks and batches to try it on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fljax.aggregators import Context, median
from fljax.attacks import Attack, Knowledge, Task, attack_from_registry
from fljax.base import asks

KEY = jax.random.key(0)
N, D = 9, 31
SHAPE = (8, 8, 1)


def fresh_model(key: jax.Array, d: int = D) -> jax.Array:
    """A model before its first round."""
    return 3.0 * jax.random.normal(key, (d,))


TASK = Task(num_classes=10, max_malicious=None, image_shape=SHAPE, init_params=fresh_model)


def make(seed: int = 0, n: int = N, d: int = D, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Updates around a common direction, and `count` malicious clients, a third by default."""
    random = np.random.default_rng(seed)
    updates = (random.normal(size=d) + random.normal(size=(n, d))).astype(np.float32)
    malicious = np.zeros(n, bool)
    malicious[random.permutation(n)[: n // 3 if count is None else count]] = True
    return updates, malicious


# What every attack is compared with its reference on; test_mutants.py says that this tells attacks apart.
SAMPLES = [make(seed, count=count) for seed, count in enumerate((3, 1, 2, 4, 6, 8))]


def make_batch(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels, and which of them are copies."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 0.9, (20, *shape)).astype(np.float32)
    return x, random.permutation(20).astype(np.int32) % TASK.num_classes, random.permutation(20) < 10


BATCHES = [make_batch(seed) for seed in range(2)]


_WEIGHTS = np.random.default_rng(1).normal(size=(64, TASK.num_classes))


def logits_of(x: np.ndarray) -> np.ndarray:
    """What the global model makes of a batch, float64."""
    return np.asarray(x, np.float64).reshape(len(x), -1) @ _WEIGHTS


def told(attack: Attack) -> dict[str, Any]:
    """The further arguments that the attack's `poison_data` names."""
    known = {
        "key": KEY,
        "state": attack.init(N, D),
        "predict": lambda x: x.reshape(len(x), -1) @ jnp.asarray(_WEIGHTS, jnp.float32),
    }
    return {name: value for name, value in known.items() if asks(attack.poison_data, name)}


def model_of_round(round: int, d: int) -> np.ndarray:
    """A global model that moves, and ever faster."""
    return np.full(d, 0.5 * round**2)


def random_walk(round: int, d: int) -> np.ndarray:
    """A global model whose coordinates move in different directions."""
    return np.random.default_rng(5).normal(size=(round + 1, d)).sum(0)


@cache
def signs_of_run(d: int) -> np.ndarray:
    """(d,) the signs that are drawn once in a run whose `run_key` is `KEY`."""
    return np.asarray(jax.random.rademacher(KEY, (d,)), np.float64)


def normal_draws(updates: np.ndarray, malicious: np.ndarray) -> tuple[np.ndarray]:
    """(m, d) standard normal numbers, those of row i from `fold_in(KEY, i)`."""
    return (_draws(jax.random.normal, updates, malicious),)


def uniform_draws(updates: np.ndarray, malicious: np.ndarray) -> tuple[np.ndarray]:
    """(m, d) numbers in [0, 1), those of row i from `fold_in(KEY, i)`."""
    return (_draws(jax.random.uniform, updates, malicious),)


def _draws(draw: Callable[..., jax.Array], updates: np.ndarray, malicious: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(malicious)
    return np.array([draw(jax.random.fold_in(KEY, int(i)), updates.shape[1:]) for i in rows], np.float64)


@dataclass(frozen=True, eq=False)
class AttackCase:
    """An attack with its arguments.

    Attributes:
        name: its name in the registry.
        rows: the float64 version of what malicious clients send, in their order, or of the one row that all
            of them send: `rows(updates, malicious, *drawn, **hyper)`. None for an attack that sends what it
            trained, and for arguments whose result only the tests of the attack itself describe.
        data: the float64 version of `poison_data`: `data(x, y, is_copy, member, **hyper)`, where member None
            stands for the whole trigger; None for an attack that trains honestly.
        trained: the float64 version of what a malicious client sends: `trained(attacker, **hyper)`,
            with an `Attacker` of quadratic.py; None for an attack without training of its own.
        hyper: keyword arguments.
        variant: what tells it from other cases of its name.
        draws: `draws(updates, malicious)`, the random numbers that the documentation promises.
        rule: what attackers know of the rule.
        rounds: the compared round is the last of so many with the same updates and a moving model.
        model: the global model (d,) of a round.
        breaking: the rows are meant to break what is not robust.
        rtol: tolerance of the comparison with the reference, relative, and absolute in units of the largest
            entry of the updates.
        twins: names of other attacks that these arguments make the same rows of.
        mapped_atol: how far a vmapped call may be from single ones.
    """

    name: str
    rows: Callable[..., np.ndarray] | None = None
    hyper: Mapping[str, Any] = field(default_factory=dict)
    data: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    trained: Callable[..., np.ndarray] | None = None
    variant: str = ""
    draws: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]] | None = None
    rule: Callable[[jax.Array], jax.Array] = median
    rounds: int = 1
    model: Callable[[int, int], np.ndarray] = model_of_round
    breaking: bool = False
    rtol: float = 1e-5
    twins: tuple[str, ...] = ()
    mapped_atol: float = 1e-6

    @property
    def id(self) -> str:
        return f"{self.name} {self.variant}".strip()

    def attack(self, task: Task = TASK) -> Attack:
        """The attack as a configuration makes it."""
        return attack_from_registry(self.name, task, **self.hyper)

    def __call__(self, updates: jax.Array, malicious: jax.Array) -> jax.Array:
        """The stack with the attack in it."""
        return self.sent(updates, malicious, jnp.mean(jnp.asarray(updates), 0))

    def sent(self, updates: Any, malicious: jax.Array, root: jax.Array | None = None) -> Any:
        """The stack or the `Rows` with the attack in it, in a round with this update of the server's own."""
        n, d = updates.shape
        attack = self.attack(TASK._replace(init_params=partial(fresh_model, d=d)))
        state = attack.init(n, d)
        for r in range(self.rounds):
            context = Context(
                KEY,
                round=r,
                client_ids=jnp.arange(n),
                weights=jnp.ones(n),
                params=jnp.asarray(self.model(r, d), jnp.float32),
                root_update=root,
            )
            sent, state = attack.corrupt(
                updates, malicious, state, Knowledge(context, rule=self.rule, run_key=KEY)
            )
        return sent

    def expected(
        self, updates: np.ndarray, malicious: np.ndarray, version: Callable[..., np.ndarray] | None = None
    ) -> np.ndarray:
        """(m, d), what malicious clients send by the reference, or by a wrong version of it."""
        drawn = () if self.draws is None else self.draws(updates, malicious)
        wide = np.asarray(updates, np.float64)
        sent = (version or self.rows)(wide, malicious, *drawn, **self.hyper)
        return np.broadcast_to(sent, (int(malicious.sum()), updates.shape[1]))


@cache
def program(case: AttackCase) -> tuple[Callable[..., jax.Array], list[tuple[int, ...]]]:
    """An attack compiled for all tests, and a list with an entry for every time that it was traced."""
    traces: list[tuple[int, ...]] = []

    def counted(updates, malicious):
        traces.append(updates.shape)
        return case(updates, malicious)

    return jax.jit(counted), traces


@cache
def on_samples(case: AttackCase) -> list[np.ndarray]:
    """What malicious clients send in every sample."""
    return [np.asarray(program(case)[0](*sample))[sample[1]] for sample in SAMPLES]


@cache
def expected_on_samples(case: AttackCase) -> list[np.ndarray]:
    """What the reference says of it, for which nothing is compiled."""
    return [case.expected(*sample) for sample in SAMPLES]
