"""The grid of a benchmark: rules, sizes, types, devices, and the arguments of every rule."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.aggregators.combining import array_arguments
from fljax.base import Head, Layers
from fljax.errors import ConfigError, unknown_name
from fljax.registry import Entry, load_installed

DTYPES = ("float32", "bfloat16", "float64")
COUNTS = ("num_malicious", "trim")  # both say how many malicious rows a rule expects
SIZES: dict[str, Sequence[tuple[int, int]]] = {
    "paper": ((100, 139_960),),  # FLTrust's 100 clients, and the parameters of its CNN on MNIST
    "large": ((1_000, 10_000), (10_000, 10_000)),
    "scaling": (
        *((n, 100_000) for n in (10, 20, 50, 100, 200, 400)),
        *((100, d) for d in (1_000, 10_000, 1_000_000)),
    ),
}


class Work(NamedTuple):
    """One size, how many malicious rows the rule expects, and hyper-parameters other than the usual."""

    n: int
    d: int
    num_malicious: int = 0
    hyper: Mapping[str, Any] = {}


# The shapes of ByzPy's published table, from the commands in it (github.com/Byzpy/byzpy, benchmarks/README.md
# at commit 854414e): --num-grads or --num-vectors, --grad-dim or --dim, --f, and the rule's own options.
BYZPY: dict[str, Work] = {
    "minimum_diameter": Work(30, 2_048, 10),
    "smallest_spectrum": Work(16, 4_096, 5),
    "adaptive_clip": Work(256, 65_536, 8),
    "trimmed_mean": Work(64, 65_536, 8),
    "median": Work(64, 65_536),
    "multi_krum": Work(80, 65_536, 20, {"num_selected": 12}),
    "geometric_median": Work(64, 65_536),
    "covariance_filter": Work(64, 65_536, 8),
    "nearest_to_pivot": Work(64, 65_536, 8),
    "centered_clipping": Work(64, 65_536, 0, {"radius": 0.1, "num_iterations": 10}),
    "norm_filter": Work(64, 65_536, 8),
    "nnm": Work(196, 4_096, 32),
    "mean_around_median": Work(64, 65_536, 8),
    "bucketing": Work(512, 16_384, 0, {"bucket_size": 32}),
    "clip": Work(256, 65_536, 0, {"radius": 2.0}),
}
PRESETS = (*SIZES, "byzpy")


class Cell(NamedTuple):
    """One rule or pre-aggregator, by name, at one size, type and device (by name)."""

    rule: str
    work: Work
    dtype: str
    device: str


def registry() -> dict[str, Entry]:
    """Everything there is to measure."""
    load_installed()
    return {**RULES, **PRE_AGGREGATORS}


def entry_of(name: str) -> Entry:
    """A rule or pre-aggregator by name.

    Raises:
        ConfigError: if there is none.
    """
    known = registry()
    if name not in known:
        raise ConfigError(unknown_name("rule", name, known))
    return known[name]


def device_name(device: jax.Device) -> str:
    """A device as `--device` takes it: platform and number."""
    return f"{device.platform}:{device.id}"


def find_devices(names: Sequence[str]) -> dict[str, jax.Device]:
    """The devices meant by "all", platform:number or platform (its first); by no name, the default device."""
    known = {device_name(device): device for device in [*jax.devices(), *jax.devices("cpu")]}
    found: dict[str, jax.Device] = {}
    for name in names or [device_name(jax.devices()[0])]:
        platform = [key for key, device in known.items() if device.platform == name][:1]
        chosen = list(known) if name == "all" else [name] if name in known else platform
        if not chosen:
            raise ConfigError(f"--device: {unknown_name('device', name, ['all', *known])}")
        found |= {key: known[key] for key in chosen}
    return found


def plan(
    rules: Sequence[str] = (),
    n: Sequence[int] = (),
    d: Sequence[int] = (),
    dtypes: Sequence[str] = (),
    devices: Sequence[str] = (),
    fraction: float = 0.2,
    preset: str | None = None,
) -> list[Cell]:
    """All cells, those that share their data next to each other.

    Args:
        rules: names; none is all rules and pre-aggregators.
        n: numbers of rows, each with every `d`; none is 100.
        d: numbers of columns; none is 139,960.
        dtypes: of DTYPES; none is float32.
        devices: names; none is the default device.
        fraction: share of the rows a rule is told to expect as malicious, rounded down; "byzpy" has counts of
            its own.
        preset: one of PRESETS, instead of n and d.

    Returns:
        The cells.

    Raises:
        ConfigError: one sentence, for a name that is not known or a number that makes no sense.
    """
    for name in rules:
        entry_of(name)
    for kind, given, allowed in (("dtype", dtypes, DTYPES), ("preset", [preset or "paper"], PRESETS)):
        for name in given:
            if name not in allowed:
                raise ConfigError(f"--{kind}: {unknown_name(kind, name, allowed)}")
    for kind, values in (("n", n), ("d", d)):
        if any(value < 1 for value in values):
            raise ConfigError(f"--{kind} must be at least 1, got {min(values)}")
    if not 0 <= fraction < 0.5:
        raise ConfigError(f"--fraction-malicious must be at least 0 and below 0.5, got {fraction}")
    if preset and (n or d):
        raise ConfigError(f"--preset {preset} has sizes of its own; leave out --n and --d")
    (usual_n, usual_d), *_ = SIZES["paper"]
    product = [(i, j) for i in n or [usual_n] for j in d or [usual_d]]
    chosen = [
        (rule, Work(*size, math.floor(fraction * size[0] + 1e-9)))
        for size in dict.fromkeys(SIZES.get(preset or "", product))
        for rule in dict.fromkeys(rules or registry())
    ]
    if preset == "byzpy":
        chosen = [(rule, work) for rule, work in BYZPY.items() if not rules or rule in rules]
    if not chosen:
        raise ConfigError(f"--preset byzpy has none of these rules, only {', '.join(BYZPY)}")
    chosen.sort(key=lambda pair: pair[1][:2])
    places = [
        (dtype, device) for device in find_devices(devices) for dtype in dict.fromkeys(dtypes or DTYPES[:1])
    ]
    return [Cell(rule, work, *place) for place in places for rule, work in chosen]


def array_shapes(n: int, d: int) -> dict[str, tuple[int, ...]]:
    """The arrays a rule can ask for by name, besides updates and key."""
    vectors = dict.fromkeys(("root_update", "center", "params"), (d,))
    return {**vectors, "history": (n, d), "weights": (n,), "scores": (n,)}


def model_facts(d: int) -> dict[str, Any]:
    """What a rule can ask for of a perceptron with d parameters, whose last layer comes first."""
    classes = max(1, min(10, d // 4))
    features = max(1, min(100, (d - classes) // (2 * classes)))
    rest = max(0, d - (features + 1) * classes)
    width = min(30, rest)
    inner = [(width, rest // width), (rest % width,)] if width else []
    layers = Layers(((classes,), (features, classes), *inner))
    head = Head(classes, features, classes, bias=0)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(100, 64)), jnp.float32)

    def features_of(params: Array, x: Array) -> Array:
        first = jnp.resize(params[(features + 1) * classes :], (x.shape[1], features))
        return jnp.tanh(x @ first.astype(x.dtype))

    def predict(params: Array, x: Array) -> Array:
        kernel = params[classes : (features + 1) * classes].reshape(features, classes)
        return features_of(params, x) @ kernel + params[:classes]

    def root_loss(params: Array) -> Array:
        return -jnp.mean(jax.nn.log_softmax(predict(params, x))[:, 0])

    functions = {"predict": predict, "features": features_of, "root_loss": root_loss}
    return {"layers": layers, "head": head, "root_x": x, **jax.tree.map(Partial, functions)}


def resolve(cell: Cell) -> tuple[Callable[..., Any], list[str], dict[str, Any]]:
    """A cell's function, the arrays it needs and its hyper-parameters, all from its signature.

    A count of malicious rows that is too large for n is lowered to the largest one the rule takes. A rule
    that refuses it at 4n rows as well has another reason (too many subsets), which is not hidden like that.

    Args:
        cell: what is measured.

    Returns:
        Function, names of arrays (optional ones are left out), hyper-parameters.

    Raises:
        ValueError: the rule's own sentence if it refuses the size, or which argument has no value here.
    """
    function = entry_of(cell.rule).function
    n, d, f, given = cell.work
    parameters = inspect.signature(function).parameters
    needed = [name for name, p in list(parameters.items())[1:] if p.default is inspect.Parameter.empty]
    # A rule that takes them may do without, but only if it is told to.
    usual = {*needed, "key", "params"}
    arrays = [name for name in array_arguments(function) if name in usual]
    # Shorter than the rows of `measure.draw`, so that clipping has all its work to do.
    values = {
        "radius": math.sqrt(d),
        "bucket_size": 2,
        "threshold": 0.4 * n,  # of n votes
        "num_sent": max(1, d // 100),
        **dict.fromkeys(("sigma", "step", "bound"), 1.0),  # the noise of the rows has deviation 1
        **dict.fromkeys(COUNTS, f),
        **given,
    }
    facts = model_facts(d)
    missing = set(needed) - values.keys() - array_shapes(n, d).keys() - facts.keys() - {"key"}
    if missing:
        raise ValueError(f"{cell.rule}: needs {min(missing)}, for which the benchmark has no value")
    wanted = {*needed, *given, *COUNTS} & parameters.keys() - set(arrays)
    hyper = {name: values[name] for name in parameters if name in wanted}

    def counted(count: int) -> dict[str, Any]:
        return hyper | {name: count for name in COUNTS if name in hyper and name not in given}

    def refusal(count: int, rows: int) -> ValueError | None:
        shapes = {"updates": (rows, d), **array_shapes(rows, d)}
        structs: dict[str, Any] = {name: jax.ShapeDtypeStruct(s, cell.dtype) for name, s in shapes.items()}
        structs["key"] = jax.eval_shape(partial(jax.random.key, 0))
        named = {name: {**structs, **facts}[name] for name in arrays}
        try:
            jax.eval_shape(partial(function, **counted(count)), structs["updates"], **named)
        except ValueError as error:
            return error
        return None

    refused = refusal(f, n)
    if refused and f > 0 and refusal(f, 4 * n) is None:
        f = next((count for count in range(f - 1, -1, -1) if refusal(count, n) is None), f)
        refused = refusal(f, n)
    if refused:
        raise refused
    return function, arrays, counted(f)
