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

from fljax.base import Aggregator, ClientAlgorithm
from fljax.config.components import make_aggregator, make_client
from fljax.engine.objectives import objective
from fljax.errors import ConfigError, OutOfMemoryError
from fljax.host.limits import Limit, gigabytes, room
from fljax.simulation.assembly import Parts, states_of_clients
from fljax.simulation.model import clients_at_once

P = ParamSpec("P")
R = TypeVar("R")
# Copies of the (n, d) stack that training, an attack and a rule together hold at once, and which share of a
# gradient's intermediate results is held at once. With these the estimate is 1.0 to 1.4 times the compiler's
# own figure for digits, UCI HAR and MNIST; the share is the same for a ResNet.
STACKS = 2
HELD = 1 / 8
# Bytes of an example of a batch: where it is, what it counts, whether an attacker appended it; and of one in
# the order of an epoch: random bits, their rank and the place.
DRAWN, ORDERED = 9, 12
# Matrices (n, n) that a rule or an attack holds at once, if it compares the clients in pairs.
SQUARES = 3


class Gradient(NamedTuple):
    """The cost of one gradient of a model, for one client.

    Attributes:
        params: shapes of the model's parameters.
        batch: b.
        inputs: bytes of the batch.
        activations: bytes of the intermediate results that are held.
        flops: operations.
    """

    params: Any
    batch: int
    inputs: int
    activations: int
    flops: float

    @property
    def num_params(self) -> int:
        """Length of the raveled parameters, d."""
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(self.params))


def gradient_of(parts: Parts, count: bool = True) -> Gradient:
    """The cost of one gradient of a run's model; traced, not compiled. `count` asks for its operations."""
    model, local = parts.model, parts.config.local
    params = jax.eval_shape(model.init, jax.random.key(0))
    largest = parts.data.table.shape[1]  # a larger batch is all of a client's examples
    batch = largest if local.batch_size == "full" else min(local.batch_size, largest)
    x, y = parts.dataset.format.batch(batch)
    weights = jax.ShapeDtypeStruct((batch,), jnp.float32)
    state = () if model.init_state is None else jax.eval_shape(model.init_state, jax.random.key(0))
    gradient = jax.value_and_grad(objective(parts.loss, model.apply, model.train), has_aux=True)
    given = params, state, x, y, weights, None, jax.random.key(0)
    jaxpr: Any = jax.make_jaxpr(gradient)(*given)
    shapes = [v.aval.shape for e in jaxpr.eqns for v in e.outvars]
    held = HELD * sum(4 * int(np.prod(shape)) for shape in shapes if shape[:1] == (batch,))
    cost: Any = jax.jit(gradient).lower(*given).cost_analysis() if count else {}
    inputs = 4 * batch * int(np.prod(parts.dataset.input_shape))
    return Gradient(params, batch, inputs, int(held), float((cost or {}).get("flops", 0.0)))


class Part(NamedTuple):
    """A part of what a run needs.

    Attributes:
        bytes: how much.
        what: what it is, for a sentence.
        lower: what to change.
    """

    bytes: int
    what: str
    lower: str


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
    def largest(self) -> Part:
        """The part that takes most."""
        return max((self.data, *self.others), key=lambda part: part.bytes)


def estimate(
    parts: Parts,
    gradient: Gradient | None = None,
    entries: int = 0,
    rule: Aggregator | None = None,
    client: ClientAlgorithm | None = None,
) -> Need:
    """An estimate of the memory of a run.

    Args:
        parts: its pieces.
        gradient: from `gradient_of`, if it is known.
        entries: of the largest intermediate result of rule and attack on few columns (`check_pieces`).
        rule: instead of the configured one.
        client: instead of the configured algorithm of the clients.

    Returns:
        The `Need`.
    """
    gradient = gradient or gradient_of(parts, count=False)
    config, dataset = parts.config, parts.dataset
    n, d = parts.cohort_size, gradient.num_params
    rows = parts.rows_at_once(d)
    chunk = clients_at_once(config, gradient.params, rows, parts.data.counts)
    rule = rule or make_aggregator(parts.resolved.rule)
    algorithm = client or make_client(parts.resolved.client)
    stacks = 1 + algorithm.num_messages
    state = 2 * stacks * _bytes(jax.eval_shape(lambda: rule.init(parts.num_clients, d)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), gradient.params)
    of_all = jax.eval_shape(lambda: states_of_clients(algorithm, parts.resolved, zeros, parts.num_clients))
    copies = _bytes(of_all) if parts.streams else 2 * _bytes(of_all) * n // parts.num_clients
    squares = SQUARES * 4 * entries if entries >= n * n else 0
    fewer = "cohort_size" if config.cohort_size else "cohort_size or num_clients"
    kept_outputs = any("outputs" in measure.asked for measure in parts.measures)
    outputs = 4 * kept_outputs * len(dataset.test_y) * int(np.prod(dataset.format.outputs))
    data, examples = dataset.train_x.nbytes + dataset.test_x.nbytes, len(dataset.train_y)
    if dataset.mapped:
        # Of some clients on the device, and on the host theirs and those of the next ones.
        examples = 3 * rows * parts.data.table.shape[1]
        data = dataset.test_x.nbytes + examples * dataset.train_x[:1].nbytes
    return Need(
        Part(data, f"the data, {examples:,} examples", "take fewer examples"),
        (
            Part(
                STACKS * 4 * rows * d * stacks,
                f"the updates, {rows:,} clients × {d:,} parameters" + f" × {stacks}" * (stacks > 1),
                f"lower {fewer}, or take a smaller model",
            ),
            Part(
                chunk * (gradient.inputs + gradient.activations),
                f"the training of {chunk:,} clients at once, {gradient.batch:,} examples each",
                "lower client_chunk or local.batch_size, or take a smaller model",
            ),
            Part(
                squares,
                f"comparing {n:,} clients in pairs",
                f"lower {fewer}, or take another rule or attack",
            ),
            _drawn(parts, rows, chunk, gradient.batch, fewer),
            Part(
                4 * parts.data.table.size,
                f"the table of who holds which examples, {parts.num_clients:,} clients",
                "lower num_clients",
            ),
            Part(
                outputs,
                f"the outputs on the test set, {len(dataset.test_y):,} examples",
                "leave out metrics that need all of them, or take fewer test examples",
            ),
            Part(
                state,
                f"what {config.aggregator.name} keeps of {parts.num_clients:,} clients from round to round",
                "lower num_clients, or take a smaller model",
            ),
            Part(
                # Those of the cohort are there twice, before and after the round; where it streams, all are.
                _bytes(of_all) + copies,
                f"what {config.client.name} keeps of {parts.num_clients:,} clients from round to round",
                "lower num_clients, or take a smaller model",
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
        )
    steps = local.steps or 1
    return Part(
        DRAWN * n * steps * batch,
        f"a round's batches, {n:,} clients × {steps:,} steps × {batch:,} examples",
        f"lower local.steps, local.batch_size, {fewer}",
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


def check_before(need: Need, memory: float | None = None) -> None:
    """Refuse a run that cannot fit, before it is compiled.

    Args:
        need: the estimate.
        memory: gigabytes the user allows; None for what there is.

    Raises:
        ConfigError: if it cannot fit.
    """
    limit = room(memory)
    if need.total > limit.most:
        raise ConfigError(shortage(need, limit))


def check_compiled(need: Need, compiled: Any, memory: float | None = None) -> None:
    """Refuse a run of which the compiler says that it does not fit.

    Raises:
        ConfigError: if it does not fit.
    """
    limit = room(memory)
    # Of what is free, the program's arguments have had their part already.
    needed = program_bytes(compiled, arguments=memory is not None)
    if needed > limit.bytes:
        raise ConfigError(shortage(need, limit, needed))


def program_bytes(compiled: Any, arguments: bool = True) -> int:
    """The bytes of a compiled program by its own account: arguments, results and temporaries."""
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
