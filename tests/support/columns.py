"""Rules, pre-aggregators and attacks on a stack that virtual devices hold by columns.

A process of its own, since the number of devices is fixed when JAX starts:

    python -m tests.support.columns            # a line of JSON for every component and layout
    python -m tests.support.columns --all      # and for the variants of each by its arguments
    python -m tests.support.columns --table    # benchmarks/results/columns.md
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Aggregator,
    Context,
    chain,
    from_registry,
    pre_from_registry,
)
from fljax.engine.mesh import make_mesh
from fljax.numerics.safe import RUNS
from fljax.numerics.sharding import CLIENTS_AXIS, RUNS_AXIS, by_columns, using
from tests.support.collectives import collectives

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "columns.md"
# No number of devices divides them.
N, D = 19, 20_003
# Less time for LLVM; what devices tell each other and what they hold is decided before.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


# Tried along an axis of runs as well, one of every way to compute; whole sweeps: tests/engine/test_mesh.py.
ALONG_RUNS = (
    *("mean", "median", "phocas", "sign_majority", "fltrust", "krum", "bulyan", "nnm", "geometric_median"),
    *("centered_clipping", "divide_and_conquer", "foolsgold", "norm_filter", "covariance_filter", "clip"),
    *("sign_guard", "flame", "trim_attack", "fltrust_attack", "alie"),
)


class Component(NamedTuple):
    """What is compared: `function(stack, others) -> array`, and which of `others` it reads."""

    kind: str
    name: str
    id: str
    function: Callable[[jax.Array, dict[str, Any]], jax.Array]
    reads: tuple[str, ...]
    tolerance: float = 1e-5
    first: bool = True


class Layout(NamedTuple):
    """A mesh of `runs` times `devices` devices, and the number of columns."""

    devices: int
    runs: int = 1
    columns: int = D

    @property
    def mesh(self) -> jax.sharding.Mesh:
        return make_mesh(self.runs, self.devices)

    @property
    def padded(self) -> int:
        return -(-self.columns // self.devices) * self.devices


def _chains() -> dict[str, Aggregator]:
    """Rules behind pre-aggregators, and rules with a state."""

    before, rule = partial(pre_from_registry, PRE_AGGREGATORS), partial(from_registry, RULES)
    return {
        "bucketing, krum": chain(before("bucketing", bucket_size=2), rule("krum", num_malicious=2)),
        "nnm, trimmed_mean": chain(before("nnm", num_malicious=3), rule("trimmed_mean", trim=3)),
        "clip, geometric_median": chain(before("clip", radius=100.0), rule("geometric_median")),
        "centered_clipping, carried": rule("centered_clipping", radius=50.0),
        "foolsgold, carried": rule("foolsgold"),
    }


def _two_rounds(rule: Aggregator, stack: jax.Array, others: dict[str, Any]) -> jax.Array:
    n, d = stack.shape
    # A cohort in no order, of more clients than there are rows.
    context = Context(key=others["key"], client_ids=(7 * jnp.arange(n) + 3) % (n + 4), weights=jnp.ones(n))
    update, state, _ = rule.aggregate(stack, rule.init(n + 4, d), context)
    return update + rule.aggregate(stack[::-1], state, context)[0]


def components() -> Iterator[Component]:
    """Every row of the tables of rules and attacks, and a few chains."""
    from tests.attacks.table import UPDATE_CASES
    from tests.rules.table import PRE_CASES, RULE_CASES

    met = set()

    def is_first(*name: str) -> bool:
        return name not in met and not met.add(name)

    for kind, cases in (("rule", RULE_CASES), ("pre-aggregator", PRE_CASES)):
        for case in cases:
            if case.id == "smallest_spectrum(num_malicious=5)":
                continue  # 11,628 eigenvalue problems for every device
            # The filter divides by what is left of the largest eigenvalue.
            own = {"tolerance": 3e-4} if case.name == "spectral_filter" else {}
            first = is_first(kind, case.name)
            yield Component(kind, case.name, case.id, case.call, case.arrays, **own, first=first)
    for name, rule in _chains().items():
        yield Component("chain", name, name, lambda s, o, rule=rule: _two_rounds(rule, s, o), ("key",))
    for case in UPDATE_CASES:
        yield Component(
            "attack",
            case.name,
            case.id,
            lambda stack, others, case=case: case(stack, others["malicious"]),
            ("malicious",),
            max(1e-5, case.mapped_atol),
            is_first("attack", case.name),
        )


def stacks(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Updates, and the other arrays."""
    from tests.rules.case import make

    updates, others = make(seed, n=N, d=D)
    malicious = np.zeros(N, bool)
    malicious[[1, 4, 8]] = True
    return updates, {**others, "malicious": malicious}


def hostile(updates: np.ndarray) -> np.ndarray:
    """The stack with two rows that no fast path survives."""
    updates = updates.copy()
    updates[4, 5], updates[8] = np.nan, 1e38
    return updates


Inputs = list[tuple[np.ndarray, dict[str, Any]]]


def _on(
    part: Component, layout: Layout, inputs: Inputs
) -> tuple[jax.stages.Compiled, Callable[[Inputs], np.ndarray]]:
    """The program for the layout's devices, and what it makes of inputs like these, one for each run."""
    d, padded, mesh = layout.columns, layout.padded, layout.mesh
    # An argument or a result cannot be divided unevenly: it comes in and goes out with columns added.
    extra = [(0, 0), (0, padded - d)]

    def program(stack, others):
        if "history" in others:
            others = {**others, "history": by_columns(others["history"][:, :d])}
        result = part.function(by_columns(stack[:, :d]), others)
        return by_columns(jnp.pad(result, extra[2 - result.ndim :]))

    runs = (RUNS_AXIS,) if layout.runs > 1 else ()
    if runs:
        program = jax.vmap(program, axis_name=RUNS, spmd_axis_name=RUNS_AXIS)
    divided = NamedSharding(mesh, PartitionSpec(*runs, None, CLIENTS_AXIS))
    whole = NamedSharding(mesh, PartitionSpec(*runs))

    def placed(inputs):
        given = [
            (np.pad(stack, extra), {k: np.pad(v, extra) if k == "history" else v for k, v in others.items()})
            for stack, others in inputs
        ]
        stack, others = jax.tree.map(lambda *arrays: jnp.stack(arrays), *given) if runs else given[0]
        others = {k: jax.device_put(v, divided if k == "history" else whole) for k, v in others.items()}
        return jax.device_put(stack, divided), others

    with using(mesh):
        compiled = jax.jit(program, compiler_options=FAST).lower(*placed(inputs)).compile()
    return compiled, lambda inputs: np.asarray(compiled(*placed(inputs)))[..., :d].reshape(len(inputs), -1)


def _held(compiled: Any) -> int:
    """Bytes that a device holds besides the result."""
    memory = compiled.memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


def _difference(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference in units of the largest finite entry; infinite where NaN or infinity differ."""
    finite = np.isfinite(expected)
    if not np.array_equal(result[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    wide = result[finite].astype(np.float64) - expected[finite]
    return float(np.abs(wide).max() / max(np.abs(expected[finite]).max(), 1e-30))


@lru_cache(maxsize=1)
def _alone(part: Component) -> tuple[Inputs, list[np.ndarray], int]:
    """Usual and hostile inputs from two seeds, what one device makes of them, and the bytes it holds."""
    inputs = []
    for seed in (3, 4):
        updates, others = stacks(seed)
        others = {name: others[name] for name in part.reads}
        inputs += [(updates, others), (hostile(updates), others)]
    compiled = jax.jit(part.function, compiler_options=FAST).lower(*inputs[0]).compile()
    return inputs, [np.asarray(compiled(*given)).ravel() for given in inputs], _held(compiled)


def compare(part: Component, layout: Layout) -> dict[str, Any]:
    """One component on one device and on several: differences, collectives, bytes held by a device."""
    inputs, expected, held = _alone(part)
    # Usual rows in all runs, then hostile ones in one of them: runs choose their branches together.
    usual, extreme = ((0, 2), (1, 2)) if layout.runs > 1 else ((0,), (1,))
    compiled, results = _on(part, layout, [inputs[i] for i in usual])
    differences = [
        max(map(_difference, results([inputs[i] for i in rows]), [expected[i] for i in rows]))
        for rows in (usual, extreme)
    ]
    return {
        **{name: value for name, value in part._asdict().items() if name != "function"},
        "devices": layout.devices,
        "runs": layout.runs,
        "usual": differences[0],
        "extreme": differences[1],
        "collectives": [each._asdict() for each in collectives(compiled.as_text())],
        "one_device": held,
        "each_device": _held(compiled),
    }


def each_device_even(part: Component) -> int:
    """Bytes that each of 8 devices holds where they divide the columns."""
    from tests.rules.case import model_of

    updates, others = stacks(3)
    even = D // 8 * 8
    others = jax.tree.map(lambda v: v[..., :even] if np.shape(v)[-1:] == (D,) else v, others)
    others = {name: {**others, **model_of(even)}[name] for name in part.reads}
    return _held(_on(part, Layout(8, columns=even), [(updates[:, :even], others)])[0])


NAMES = {N: "n", D: "d"}
HEADER = """# Collectives and memory by component

Written by `python -m tests.support.columns --table`: {n} × {d} float32 on {devices} virtual CPU devices, each
with its columns of every row. `(n, n)` is a sum over devices of an array of that shape, a number that of a
scalar; all are all-reduce where nothing else is said. Careful sums are those of a branch for rows with huge,
tiny or non-finite entries; ordinary rounds do not make them. Memory is what a device holds besides the
result, arguments included, as a multiple of its share of the stack: the stack on one device, an eighth of it
on each of eight. Where the devices do not divide d ("uneven"), the compiler masks the columns that fill up
the last share, and holds a masked copy of it, or two.

"""


def _spoken(found: list[dict[str, Any]]) -> str:
    """Collectives in a few words."""
    counts: Counter[str] = Counter()
    for each in found:
        kind = "" if each["kind"] == "all-reduce" else f"{each['kind']} "
        for shape in each["shapes"]:
            sizes = ", ".join(NAMES.get(size, str(size)) for size in shape)
            counts[kind + (f"({sizes})" if sizes else "number")] += 1
    return ", ".join(shape if count == 1 else f"{count} {shape}" for shape, count in sorted(counts.items()))


def _row(line: dict[str, Any], even: int) -> tuple[str, ...]:
    """A component's row of the table, from what `compare` says of 8 devices."""
    found, stack = line["collectives"], 4 * N * D
    ordinary = [each for each in found if not each["rare"]]
    return (
        f"{line['kind']} `{line['id']}`",
        _spoken([each for each in ordinary if not each["repeated"]]) or "none",
        _spoken([each for each in ordinary if each["repeated"]]),
        _spoken([each for each in found if each["rare"]]),
        f"{line['one_device'] / stack:.2f}",
        f"{even * 8 / (4 * N * (D // 8 * 8)):.2f}",
        f"{line['each_device'] * 8 / stack:.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name}, of one row of each entry")
    parser.add_argument("--all", action="store_true", help="all variants of a component, not the first only")
    parser.add_argument("--only", default="", help="components whose id has this in it")
    given = parser.parse_args()
    # Read when the first array is made.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    # The cache's programs for several CPU devices are not reliable.
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for part in components():
        if given.only not in part.id or not (part.first or given.all):
            continue
        both = part.first and part.name in ALONG_RUNS and not given.table
        for layout in (Layout(8), Layout(4, runs=2)) if both else (Layout(8),):
            line = compare(part, layout)
            print(json.dumps(line), flush=True)
        if given.table:
            rows.append(_row(line, each_device_even(part)))
    if given.table:
        header = ("component", "sums", "in a loop", "careful", "one device", "each of 8", "uneven")
        lines = [header, ["---"] * len(header), *rows]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        text = HEADER.format(n=N, d=f"{D:,}", devices=8) + table
        TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
