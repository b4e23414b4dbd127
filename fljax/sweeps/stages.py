"""A round as several programs, one after the other, which the groups of a sweep share.

The cells of a group have a rule and an attack of their own, but many groups train alike, meet the same
attack, or have the same rule. A program for each of these takes less to compile than one for every
combination.
"""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.engine.evaluate import Beside, Evaluation
from fljax.engine.loop import compiled, written
from fljax.engine.round import AsksRuleError, RoundMetrics, Sent
from fljax.engine.state import RoundData, RunState
from fljax.engine.streaming import Left
from fljax.simulation.assembly import Composed, Parts, compose
from fljax.simulation.memory import program_bytes
from fljax.sweeps.inputs import tested_rows
from fljax.sweeps.recipes import Recipe, Recipes, recipes

# Rounds that a device has been given and has not done, at most: each has a stack of updates.
AHEAD = 2


class SharedPrograms:
    """Compiled stages by what decides them; the first thread that needs one compiles it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[Hashable, Future[Any]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns for this key; every thread that waits for it gets its exception, too."""
        with self._lock:
            first = key not in self._futures
            future = self._futures.setdefault(key, Future())
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()


class Compiler(NamedTuple):
    """Compiles the stages of a group.

    Attributes:
        traced: numbers by dotted key, arrays with a leading axis for the cells if there are several.
        data_axes: of the cells in a round's data, as `jax.vmap` takes them.
        along: how the cells are mapped over; None for one cell.
        small: as for `fljax.engine.loop.compiled`.
        shared: the stages that are there.
        evaluation_batch: test examples of a cell that are evaluated at once.
        device: that they are compiled for.
    """

    traced: dict[str, Any]
    data_axes: RoundData
    along: dict[str, Any] | None
    small: bool
    shared: SharedPrograms
    evaluation_batch: int
    device: Any

    def compile(
        self,
        recipe: Recipe,
        function: Callable[..., Any],
        given: tuple[Any, ...],
        axes: tuple[Any, ...],
        donated: tuple[int, ...] = (),
        blind: bool = False,
    ) -> Any:
        """A stage's program, `(traced, *given) -> results`.

        Args:
            recipe: the stage.
            function: `(composed, *given) -> results`, for one cell.
            given: the arguments, or their shapes.
            axes: of the cells in each.
            donated: numbers of the arguments whose memory it may use.
            blind: as for `compose`.
        """
        traced = recipe.numbers(self.traced)
        shapes = jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape}", (given, traced))
        batch = self.evaluation_batch
        key = recipe.text(traced), str(shapes), str(axes), str(self.along), blind, batch, self.device

        def one(traced: dict[str, Array], *given: Any) -> Any:
            composed = compose(recipe.parts, traced, check=False, evaluation_batch=batch, blind=blind)
            return function(composed, *given)

        one.__name__ = recipe.name

        def make() -> Any:
            whole = one if self.along is None else jax.vmap(one, in_axes=(0, *axes), **self.along)
            numbers = tuple(1 + number for number in donated)
            return compiled(whole, (traced, *given), None, small=self.small, donate_argnums=numbers)

        return self.shared.get(key, make)


class StagedRounds(NamedTuple):
    """The compiled stages of a group's rounds; called as `GroupProgram.chunk` is.

    Attributes:
        recipes: what they are made of.
        train, root, corrupt, finish: programs; None for those that nobody needs.
        asks_rule: whether `corrupt` takes the rule's state.
        unread: given in place of a root update that nobody reads.
        nobody: (n,) boolean, false.
    """

    recipes: Recipes
    train: Any
    root: Any
    corrupt: Any
    finish: Any
    asks_rule: bool
    unread: Array
    nobody: Array

    def __call__(
        self,
        state: RunState,
        metrics: RoundMetrics,
        data: RoundData,
        traced: dict[str, Array],
        first: Any,
        end: Any,
    ) -> tuple[RunState, RoundMetrics]:
        """Rounds `first` to `end` of a chunk; consumes state and metrics."""
        plan = self.recipes

        rooted_on = _for_training(plan.root, data, self.nobody)
        trained_on, others = _for_training(plan.train, data, self.nobody), _for_others(plan, data)
        of_train, of_root, of_corrupt, of_finish = (
            {} if recipe is None else recipe.numbers(traced)
            for recipe in (plan.train, plan.root, plan.corrupt, plan.finish)
        )
        ends: list[Array] = []
        for number in range(int(first), int(end)):
            if len(ends) == AHEAD:
                ends.pop(0).block_until_ready()
            root = self.unread
            if self.root is not None:
                root = self.root(of_root, _for_root(state), rooted_on)
            stack, left, attack_state = self.train(of_train, _for_train(plan, state), trained_on)
            if "attack" not in plan.train.reads:
                attack_state = state.attack_state
            if self.corrupt is not None:
                seen = _for_corrupt(state, self.asks_rule)
                stack, attack_state = self.corrupt(of_corrupt, seen, others, stack, attack_state, root)
            state, metrics, over = self.finish(
                of_finish, _for_finish(state), others, stack, left, root, metrics, np.int32(number)
            )
            state = state._replace(attack_state=attack_state)
            del stack, left
            ends.append(over)
        return state, metrics


# What a stage reads of a state: stages that are the same must not differ in what they only carry.
def _for_root(state: RunState) -> RunState:
    return state._replace(server_state=(), aggregator_state=(), attack_state=(), client_state=())


def _for_train(plan: Recipes, state: RunState) -> RunState:
    attack_state = state.attack_state if "attack" in plan.train.reads else ()
    return state._replace(server_state=(), aggregator_state=(), attack_state=attack_state)


def _for_corrupt(state: RunState, asks_rule: bool) -> RunState:
    rule_state = state.aggregator_state if asks_rule else ()
    return state._replace(server_state=(), aggregator_state=rule_state, attack_state=(), client_state=())


def _for_finish(state: RunState) -> RunState:
    return state._replace(attack_state=())


def _for_training(recipe: Recipe, data: RoundData, nobody: Any) -> RoundData:
    if "attack" in recipe.reads or recipe.parts.in_cohort is not None:
        return data
    return data._replace(malicious=nobody, attackers=None)


def _for_others(plan: Recipes, data: RoundData) -> RoundData:
    # Attackers are numbered for their training alone, or for a cohort that has so many of them.
    return data if plan.train.parts.in_cohort is not None else data._replace(attackers=None)


def compile_rounds(
    compiler: Compiler, parts: Parts, state: RunState, metrics: RoundMetrics, data: RoundData
) -> tuple[StagedRounds, int]:
    """Compile the stages of a group's rounds.

    Args:
        compiler: of the group.
        parts: of its first cell.
        state, metrics, data: of a batch, or their shapes.

    Returns:
        The stages, and the bytes that they need of a memory at most, the data included.
    """
    plan, axes = recipes(parts), compiler.data_axes
    nobody: Any = np.zeros(parts.num_clients, bool)
    training, rooting = (
        (_for_training(recipe, data, nobody), _for_training(recipe, axes, None))
        for recipe in (plan.train, plan.root)
    )
    data, axes = _for_others(plan, data), _for_others(plan, axes)

    def train(composed: Composed, state: RunState, data: RoundData) -> tuple[Array, Left, Any]:
        stages = composed.stages
        sent = stages.train(state, data, stages.begin(state, data))
        return sent.stacks[0], sent.left(), sent.attack_states[0]

    def root(composed: Composed, state: RunState, data: RoundData) -> Array:
        stages = composed.stages
        return stages.root(state, data, stages.begin(state, data))

    def corrupt(
        composed: Composed, state: RunState, data: RoundData, stack: Array, attack_state: Any, root: Array
    ) -> tuple[Array, Any]:
        stages = composed.stages
        sent = Sent([stack], _not_read, [attack_state])
        sent = stages.corrupt(state, data, stages.begin(state, data), sent, root)
        return sent.stacks[0], sent.attack_states[0]

    def finish(
        composed: Composed,
        state: RunState,
        data: RoundData,
        stack: Array,
        left: Left,
        root: Array,
        metrics: RoundMetrics,
        number: Array,
    ) -> tuple[RunState, RoundMetrics, Array]:
        stages = composed.stages
        sent = Sent([stack], lambda: left, [()])
        state, of_round = stages.finish(state, data, stages.begin(state, data), sent, root)
        return state, written(metrics, of_round, number), state.round

    trained = compiler.compile(plan.train, train, (_for_train(plan, state), training[0]), (0, training[1]))
    stack, left, attack_state = trained.out_info
    rooted = jax.ShapeDtypeStruct(state.params.shape, state.params.dtype)
    if "attack" not in plan.train.reads:
        attack_state = state.attack_state
    corrupted, asks_rule = None, False
    if plan.corrupt is not None:

        def attacked(recipe: Recipe, asks_rule: bool) -> Any:
            given = _for_corrupt(state, asks_rule), data, stack, attack_state, rooted
            axes_of = 0, axes, 0, 0, 0
            return compiler.compile(recipe, corrupt, given, axes_of, (2, 3), blind=not asks_rule)

        try:
            corrupted = attacked(plan.corrupt, False)
        except AsksRuleError:
            asking, asks_rule = plan.corrupt.asking(), True
            corrupted, plan = attacked(asking, True), plan._replace(corrupt=asking)
    given = _for_finish(state), data, stack, left, rooted, metrics, np.int32(0)
    finished = compiler.compile(plan.finish, finish, given, (0, axes, 0, 0, 0, 0, None), (0, 5))
    programs = [trained, finished]
    asked = _reads(finished, 5)
    if corrupted is not None:
        programs.append(corrupted)
        asked |= _reads(corrupted, 5)
    of_root = None
    if asked:
        of_root = compiler.compile(plan.root, root, (_for_root(state), rooting[0]), (0, rooting[1]))
    # What is left of the training waits while the attackers work.
    waiting = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(left))
    unread = jnp.zeros(rooted.shape, rooted.dtype)
    rounds = StagedRounds(
        plan, trained, of_root, corrupted, finished, asks_rule, unread, jax.device_put(nobody)
    )
    return rounds, waiting + max(map(program_bytes, programs))


def compile_evaluation(
    compiler: Compiler, parts: Parts, given: tuple[Any, ...], axes: tuple[Any, ...]
) -> Any:
    """Compile the evaluation of a group's cells.

    Args:
        compiler: of the group.
        parts: of its first cell.
        given: `(params, x, y, rows, model_state, beside)`, or their shapes.
        axes: of the cells in each.

    Returns:
        `(*given) -> Evaluation`.
    """
    recipe = recipes(parts).evaluate
    *tested, beside = given
    with_attack = "attack" in recipe.reads

    def seen(beside: Beside) -> Beside:
        # Without a trigger nobody reads the attack's state.
        return beside if with_attack else beside._replace(attack_state=())

    def evaluate(
        composed: Composed, params: Array, x: Array, y: Array, rows: Array | None, *others: Any
    ) -> Evaluation:
        return composed.evaluate(params, *tested_rows(x, y, rows), *others)

    compiler = compiler._replace(traced={})
    program = compiler.compile(recipe, evaluate, (*tested, seen(beside)), axes)
    return lambda *given: program({}, *given[:-1], seen(given[-1]))


def _not_read() -> Left:
    raise AssertionError("attackers do not read what is left of the training")


def _reads(program: Any, argument: int) -> bool:
    """True if a compiled program reads any of an argument."""
    return any(placed is not None for placed in jax.tree.leaves(program.input_shardings[0][argument]))
