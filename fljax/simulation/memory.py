"""The memory of a run, estimated before it is compiled, and the sentence where there is less."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fljax.aggregators import mean, stateless
from fljax.base import Aggregator, Attack, ClientAlgorithm
from fljax.config.components import make_aggregator, make_client
from fljax.engine.objectives import objective
from fljax.errors import ConfigError, OutOfMemoryError
from fljax.host.limits import Limit, gigabytes, room
from fljax.simulation.assembly import Parts, compose, read_by_rounds, states_of_clients
from fljax.simulation.liveness import peak_bytes
from fljax.simulation.model import clients_at_once, num_params

P = ParamSpec("P")
R = TypeVar("R")
# Bytes of an example of a batch while it is drawn, random bits and copies included: three times of where it
# is, what it counts, whether an attacker appended it; and of one in the order of an epoch: random bits, their
# rank and the place.
DRAWN, ORDERED = 32, 12


class Gradient(NamedTuple):
    """The cost of training a model.

    Attributes:
        params: shapes of the model's parameters.
        batch: b.
        held: bytes that the training of a round's clients holds, their updates included.
        flops: operations of one gradient of one client.
    """

    params: Any
    batch: int
    held: int
    flops: float

    @property
    def num_params(self) -> int:
        """Length of the raveled parameters, d."""
        return num_params(self.params)


def gradient_of(parts: Parts, count: bool = True, **pieces: Any) -> Gradient:
    """The cost of training a run's model; traced, not compiled. `count` asks for its operations.

    Args:
        parts: of the run.
        count: whether to count operations.
        **pieces: `rule`, `attack` and `client` instead of the configured ones.
    """
    model, local = parts.model, parts.config.local
    params = jax.eval_shape(model.init, jax.random.key(0))
    largest = parts.data.table.shape[1]  # a larger batch is all of a client's examples
    batch = largest if local.batch_size == "full" else min(local.batch_size, largest)
    flops = 0.0
    if count:
        x, y = parts.dataset.format.batch(batch)
        weights = jax.ShapeDtypeStruct((batch,), jnp.float32)
        state = () if model.init_state is None else jax.eval_shape(model.init_state, jax.random.key(0))
        gradient = jax.value_and_grad(objective(parts.loss, model.apply, model.train), has_aux=True)
        given = params, state, x, y, weights, None, jax.random.key(0)
        cost: Any = jax.jit(gradient).lower(*given).cost_analysis()
        flops = float((cost or {}).get("flops", 0.0))
    return Gradient(params, batch, _held_in_training(parts, **pieces), flops)


def _held_in_training(
    parts: Parts,
    rule: Aggregator | None = None,
    attack: Attack | None = None,
    client: ClientAlgorithm | None = None,
) -> int:
    """Bytes of what a round holds beside what it is given, if the stack is only averaged.

    Rounds that stream have rule and attack within their passes, and are taken as they are.
    """
    if not parts.streams:
        rule, attack = stateless(mean), attack or parts.resolved.make_attack(parts.task)
        attack = attack._replace(corrupt=lambda updates, malicious, state, knowledge: (updates, state))
    composed = compose(parts, rule=rule, attack=attack, client=client, check=False)
    state = jax.eval_shape(composed.init_state, *_initial(parts))
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), read_by_rounds(parts)
    )
    return peak_bytes(jax.make_jaxpr(composed.step)(state, shapes).jaxpr, in_place=True)


def _initial(parts: Parts) -> tuple[jax.ShapeDtypeStruct, jax.Array, Any]:
    """The arguments of `Composed.init_state`, the arrays by their shapes."""
    model, key = parts.model, jax.random.key(0)
    params = jax.eval_shape(lambda key: ravel_pytree(model.init(key))[0], key)
    return params, key, () if model.init_state is None else jax.eval_shape(model.init_state, key)


class Part(NamedTuple):
    """A part of what a run needs.

    Attributes:
        bytes: how much.
        what: what it is, for a sentence.
        lower: what to change.
        spread: on so many devices and more, each has its share of it; 0 for a part that each has as a whole.
        short: what it is, in a word or two.
    """

    bytes: int
    what: str
    lower: str
    spread: float = 0.0
    short: str = ""

    def on(self, devices: int) -> "Part":
        """The same on each of some devices."""
        return self._replace(bytes=math.ceil(self.bytes * min(1.0, (self.spread or devices) / devices)))


class Need(NamedTuple):
    """The memory of a run, estimated.

    Attributes:
        data: the examples, which all cells of a sweep share.
        others: what every run has of its own.
    """

    data: Part
    others: tuple[Part, ...]

    @property
    def own(self) -> int:
        """Bytes without the data."""
        return sum(part.bytes for part in self.others)

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return self.data.bytes + self.own

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, the data first."""
        return self.data, *self.others

    @property
    def largest(self) -> Part:
        """The part that takes most."""
        return max(self.parts, key=lambda part: part.bytes)

    def on(self, devices: int) -> "Need":
        """The memory on each of some devices that share the clients."""
        return Need(self.data.on(devices), tuple(part.on(devices) for part in self.others))

    def of_memory(self, devices: int) -> "Need":
        """The same of a memory, of which each of some devices has one, and those of a CPU share one."""
        each, sharers = self.on(devices), sharing(devices)
        data, *others = (part._replace(bytes=sharers * part.bytes) for part in each.parts)
        return Need(data, tuple(others))


def sharing(devices: int) -> int:
    """How many of some devices share a memory: those of a CPU."""
    return max(1, devices // jax.process_count()) if jax.default_backend() == "cpu" else 1


def estimate(
    parts: Parts,
    gradient: Gradient | None = None,
    decided: int = 0,
    rule: Aggregator | None = None,
    attack: Attack | None = None,
    client: ClientAlgorithm | None = None,
    own_data: bool = True,
) -> Need:
    """An estimate of the memory of a run on one device; `Need.of_memory` tells that of several.

    It is what a round is given, the updates, and the larger of what training and what attack and rule hold
    beside them, by the results that are alive at the same time in the traced round.

    Args:
        parts: its pieces.
        gradient: from `gradient_of`, if it is known.
        decided: bytes that rule and attack hold beside the updates (`check_pieces`).
        rule, attack, client: instead of the configured ones.
        own_data: whether one of several devices may have the examples of its own clients only.

    Returns:
        The `Need`.
    """
    if gradient is None or parts.streams:
        gradient = gradient_of(parts, count=False, rule=rule, attack=attack, client=client)
    config, dataset = parts.config, parts.dataset
    n, d = parts.cohort_size, gradient.num_params
    rows = parts.rows_at_once(d)
    chunk = clients_at_once(config, gradient.params, rows, parts.data.counts)
    rule = rule or make_aggregator(parts.resolved.rule)
    attack = attack or parts.resolved.make_attack(parts.task)
    algorithm = client or make_client(parts.resolved.client)
    stacks = 1 + algorithm.num_messages
    sizes = parts.num_clients, d
    kept_by_rule = stacks * _bytes(jax.eval_shape(lambda: (rule.init(*sizes), attack.init(*sizes))))
    of_all = jax.eval_shape(
        lambda params: states_of_clients(algorithm, parts.resolved, params, parts.num_clients),
        gradient.params,
    )
    fewer = "cohort_size" if config.cohort_size else "cohort_size or num_clients"
    kept_outputs = any("outputs" in measure.asked for measure in parts.measures)
    outputs = 4 * kept_outputs * len(dataset.test_y) * int(np.prod(dataset.format.outputs))
    data, examples = dataset.train_x.nbytes + dataset.test_x.nbytes, len(dataset.train_y)
    if parts.from_file:
        # Of some clients on the device, and on the host theirs and those of the next ones.
        examples = 3 * rows * parts.data.table.shape[1]
        data = dataset.test_x.nbytes + examples * dataset.train_x[:1].nbytes
    own = own_data and parts.keeps_examples_apart(attack)
    stack = 4 * rows * d * stacks
    drawn = _drawn(parts, rows, chunk, gradient.batch, fewer)
    training = max(0, gradient.held - stack - drawn.bytes)
    decided = 0 if parts.streams else decided
    trained = Part(
        training,
        f"the training of {chunk:,} clients at once, {gradient.batch:,} examples each",
        "lower client_chunk or local.batch_size, or take a smaller model",
        rows / chunk,
        "training",
    )
    compared = Part(
        decided,
        f"what {config.aggregator.name} and attack {config.attack.name} make of {n:,} updates",
        f"lower {fewer}, or take another rule or attack",
        1.0,
        "rule and attack",
    )
    return Need(
        Part(data, f"the data, {examples:,} examples", "take fewer examples", float(own), "data"),
        (
            Part(
                stack,
                f"the updates, {rows:,} clients × {d:,} parameters" + f" × {stacks}" * (stacks > 1),
                f"lower {fewer}, or take a smaller model",
                1.0,
                "updates",
            ),
            # One after the other in the same place.
            *((trained, drawn) if training + drawn.bytes >= decided else (compared,)),
            Part(
                4 * parts.data.table.size,
                f"the table of who holds which examples, {parts.num_clients:,} clients",
                "lower num_clients",
                float(own),
                "table of clients",
            ),
            Part(
                outputs,
                f"the outputs on the test set, {len(dataset.test_y):,} examples",
                "leave out metrics that need all of them, or take fewer test examples",
                short="outputs",
            ),
            Part(
                kept_by_rule,
                f"what {config.aggregator.name} and attack {config.attack.name} keep of "
                f"{parts.num_clients:,} clients from round to round",
                "lower num_clients, or take a smaller model",
                1.0,
                "kept by rule and attack",
            ),
            Part(
                _bytes(of_all),
                f"what {config.client.name} keeps of {parts.num_clients:,} clients from round to round",
                "lower num_clients, or take a smaller model",
                1.0,
                "kept of clients",
            ),
        ),
    )


def _bytes(tree: Any) -> int:
    """The bytes of the arrays in a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _drawn(parts: Parts, n: int, chunk: int, batch: int, fewer: str) -> Part:
    """The memory of a round's batches: those of steps are drawn for all clients, of epochs for a chunk."""
    local, width = parts.config.local, parts.data.table.shape[1]
    if local.epochs is not None:
        return Part(
            ORDERED * chunk * math.ceil(local.epochs) * width,
            f"the orders of {local.epochs:g} epochs, {chunk:,} clients at once × {width:,} examples",
            f"lower local.epochs, client_chunk, {fewer}",
            n / chunk,
            "orders of epochs",
        )
    steps = local.steps or 1
    return Part(
        DRAWN * n * steps * batch,
        f"a round's batches, {n:,} clients × {steps:,} steps × {batch:,} examples",
        f"lower local.steps, local.batch_size, {fewer}",
        1.0,
        "drawn batches",
    )


# --- what to say --------------------------------------------------------------------------------------


def shortage(need: Need, there: Limit, bytes_needed: int | None = None) -> str:
    """The sentence for a run that does not fit.

    Args:
        need: the estimate.
        there: what there is.
        bytes_needed: what the compiler says, where that is known.
    """
    part = need.largest
    figure = f"about {gigabytes(need.total)}" if bytes_needed is None else gigabytes(bytes_needed)
    share = f"about {gigabytes(part.bytes)} of it" if bytes_needed is None else "most of it"
    return (
        f"memory: this needs {figure}, but {gigabytes(there.bytes)} are {there.whose}; "
        f"{share} for {part.what}: {part.lower}"
    )


def what_fits(parts: Parts, need: Need, there: Limit, again: Callable[[Parts], Need]) -> str:
    """Changes of the configuration that would fit, for the end of a sentence; nothing if none of these does.

    Args:
        parts: of the run.
        need: the estimate.
        there: what there is.
        again: the estimate of other parts.
    """
    found, by_name = [], {part.short: part.bytes for part in need.others}
    config, n = parts.config, parts.cohort_size

    def changed(**values: Any) -> Parts:
        return parts._replace(config=config.model_copy(update=values))

    if need.total - by_name.get("training", 0) < there.bytes:
        shapes = jax.eval_shape(parts.model.init, jax.random.key(0))
        chunk = clients_at_once(config, shapes, n, parts.data.counts) // 2
        while chunk and again(changed(client_chunk=chunk)).total > there.bytes:
            chunk //= 2
        found += [f"client_chunk = {chunk}"] * (chunk > 0)
    # What grows with the cohort, which nobody has yet who has everybody in it.
    grows = sum(by_name.get(name, 0) for name in ("updates", "training", "drawn batches", "rule and attack"))
    fewer = int(n * (there.bytes - need.total + grows) / max(grows, 1))
    found += [f"cohort_size = {fewer}"] * (1 <= fewer < n)
    if jax.default_backend() != "cpu":  # where the devices share one memory
        enough = [devices for devices in range(2, n + 1) if need.on(devices).total <= there.bytes]
        found += [f"{enough[0]} times as many devices"] * bool(enough)
    return f" ({' or '.join(found)} would fit)" if found else ""


def check_before(need: Need, memory: float | None = None, fits: Callable[[Limit], str] | None = None) -> None:
    """Refuse a run that cannot fit, before it is compiled.

    Args:
        need: the estimate.
        memory: gigabytes the user allows; None for what there is.
        fits: the end of the sentence, from what there is.

    Raises:
        ConfigError: if it cannot fit.
    """
    limit = room(memory)
    if need.total > limit.most:
        raise ConfigError(shortage(need, limit) + ("" if fits is None else fits(limit)))


def check_compiled(need: Need, compiled: Any, memory: float | None = None, devices: int = 1) -> None:
    """Refuse a run of which the compiler says that it does not fit on its devices.

    Raises:
        ConfigError: if it does not fit.
    """
    limit = room(memory)
    # Of what is free, the program's arguments have had their part already.
    needed = sharing(devices) * program_bytes(compiled, arguments=memory is not None)
    if needed > limit.bytes:
        raise ConfigError(shortage(need, limit, needed))


def program_bytes(compiled: Any, arguments: bool = True) -> int:
    """The bytes of a compiled program on a device by its own account: arguments, results, temporaries."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    total = memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return int(total + arguments * memory.argument_size_in_bytes)


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors by which Python, NumPy and XLA say that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    marks = ("RESOURCE_EXHAUSTED", "out of memory", "bad_alloc", "failed to allocate")
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark.lower() in text for mark in marks)


def out_of_memory(error: BaseException, lower: str) -> OutOfMemoryError:
    """The same as one sentence.

    Args:
        error: of which `is_out_of_memory` is true.
        lower: what to change.
    """
    asked = re.search(r"allocat\w* (?:request for )?(\d+)(?: bytes)?", str(error))
    amount = f" ({gigabytes(int(asked[1]))} more were asked for)" if asked else ""
    return OutOfMemoryError(f"memory ran out{amount}: {lower}")


def in_words(error: Exception, lower: str) -> Exception:
    """The error, or where memory ran out one sentence in its place."""
    return out_of_memory(error, lower) if is_out_of_memory(error) else error


@contextmanager
def explained(lower: str) -> Iterator[None]:
    """Turn what is raised where memory runs out into one sentence, which says what to `lower`.

    Raises:
        OutOfMemoryError: instead.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, lower) from error


def explained_by(lower: Callable[[Any], str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`explained` for a whole function; `lower` finds what to change from its first argument."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with explained(lower(args[0])):
                return function(*args, **kwargs)

        return wrapped

    return decorate
