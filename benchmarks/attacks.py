"""Time of every attack at the paper's size, beside ByzFL's in the same run, and the damage two attacks do.

    python benchmarks/attacks.py --peers --out attacks.json
    FLJAX_DATA=... python benchmarks/attacks.py --damage configs/mnist_quick.toml --out damage.json

Each figure is the median of blocked calls after a warm-up; compile time is given apart. As in a round, the
stack an attack gets may be overwritten (its buffer is donated); making the copy is not timed.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fljax.aggregators import Context, fltrust, krum, median, trimmed_mean
from fljax.attacks import (
    ATTACKS,
    SURROGATES,
    Attack,
    Knowledge,
    Task,
    attack_from_registry,
    fltrust_attack,
    krum_attack,
    optimize_attack,
    trim_attack,
)
from fljax.bench.measure import draw
from fljax.config.loading import load_config
from fljax.files import write_atomically
from fljax.numerics.subset_statistics import along
from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble

# What an attack must be told; several sets are timed one by one.
HYPER: dict[str, list[dict[str, Any]]] = {
    "gaussian": [{"std": 0.1}],
    "constant": [{"value": 0.0}],
    "ipm": [{"epsilon": 0.5}],
    "mimic": [{"target": 0}],
    "sign_flip": [{}, {"of": "mean"}],
    "trim_attack": [{}, {"knowledge": "partial"}, {"direction": "rule"}],
    "krum_attack": [{}, {"knowledge": "partial"}],
    "alie": [{}, {"knowledge": "full"}],
    "fltrust_attack": [{}, {"probes": "drawn"}, {"search": "gradient"}, {"search": "optimum"}],
    "free_rider": [{"kind": "zero"}, {"kind": "delta"}],
}
# The rule that the attacks see which search through it.
TRIM = 20


def make(name: str, task: Task, hyper: dict[str, Any]) -> Attack:
    if name == "worst_case":
        others = tuple(make(other, task, {}) for other in ("sign_flip", "trim_attack", "krum_attack", "alie"))
        hyper = {"attacks": others}
    return attack_from_registry(name, task, **hyper)


def context(d: int, n: int) -> Context:
    rows = draw(2, d, 0)
    return Context(
        key=jax.random.key(0),
        round=jnp.int32(7),
        client_ids=jnp.arange(n),
        weights=jnp.ones(n),
        params=jnp.zeros(d),
        root_update=jnp.asarray(rows[1]),
    )


def timed(prepare: Any, call: Any, repeats: int, seconds: float) -> dict[str, Any]:
    times: list[float] = []
    while len(times) <= repeats and sum(times) < seconds:
        arguments = prepare()
        start = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - start)
        del arguments
    times = times[1:] or times
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return {"ms": 1e3 * middle, "ms_q1": 1e3 * low, "ms_q3": 1e3 * high, "calls": len(times)}


def time_attack(name: str, hyper: dict[str, Any], n: int, d: int, m: int, args: Any) -> dict[str, Any]:
    attack = make(name, Task(10, m, init_params=lambda key: jax.random.normal(key, (d,))), hyper)
    rule = partial(trimmed_mean, trim=TRIM * n // 100)
    surrogate = partial(SURROGATES["trimmed_mean"], trim=TRIM * n // 100)
    known = context(d, n)

    def corrupt(updates: Any, malicious: Any, state: Any, context: Context) -> Any:
        return attack.corrupt(
            updates, malicious, state, Knowledge(context, rule, surrogate, run_key=jax.random.key(1))
        )

    updates, malicious = jnp.asarray(draw(n, d, 0)), jnp.arange(n) < m
    state = attack.init(n, d)
    start = time.perf_counter()
    program = jax.jit(corrupt, donate_argnums=0).lower(updates, malicious, state, known).compile()
    row = {"attack": name, "hyper": hyper, "seconds_compile": time.perf_counter() - start}
    memory: Any = program.memory_analysis()
    row["temporary_over_matrix"] = memory.temp_size_in_bytes / updates.nbytes

    def prepare() -> Any:
        return (jax.block_until_ready(jnp.copy(updates)),)

    def call(stack: Any) -> None:
        jax.block_until_ready(program(stack, malicious, state, known))

    return row | timed(prepare, call, args.repeats, args.seconds)


def peers(n: int, m: int, d: int, args: Any) -> list[dict[str, Any]]:
    """ByzFL's attacks on the honest rows of the same stack; each returns one vector for all attackers."""
    import byzfl
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    honest = torch.from_numpy(draw(n, d, 0)[m:].copy())
    rule = byzfl.TrMean(TRIM * n // 100)
    table = {
        "sign_flip of=mean": lambda: byzfl.SignFlipping(),
        "ipm": lambda: byzfl.InnerProductManipulation(tau=0.5),
        "alie": lambda: byzfl.ALittleIsEnough(tau=1.5),
        "mimic": lambda: byzfl.Mimic(epsilon=0),
        "optimized_ipm": lambda: byzfl.Optimal_InnerProductManipulation(rule, [], f=m),
        "optimized_alie": lambda: byzfl.Optimal_ALittleIsEnough(rule, [], f=m),
    }
    rows = []
    for name, build in table.items():
        try:
            attack = build()
            spent = timed(lambda: (honest,), attack, args.repeats, args.seconds)
            rows.append({"attack": f"ByzFL: {name}", **spent})
        except Exception as error:  # what the peer cannot do must not cost our figures
            rows.append({"attack": f"ByzFL: {name}", "note": f"{type(error).__name__}: {error}"})
    return rows


def record_stack(path: str, rounds: int) -> tuple[Any, Any, Any, tuple[Any, Any]]:
    """The honest updates, the malicious mask, the root update, rate and batch size after some rounds."""
    config = load_config(path, {"rounds": rounds, "eval_every": rounds})

    def init(num_clients: int, num_params: int) -> Any:
        return jnp.zeros((num_clients, num_params)), jnp.zeros(num_params), (jnp.zeros(()), jnp.zeros(()))

    def corrupt(updates: Any, malicious: Any, state: Any, known: Knowledge) -> Any:
        return updates, (updates, known.context.root_update, (known.local_rate, known.batch_size))

    experiment = assemble(config, attack=Attack(init, corrupt))
    run, data = experiment.state

    @jax.jit
    def many(run: Any, data: Any) -> Any:
        return jax.lax.scan(lambda carry, _: experiment.step(carry, data), run, length=rounds)[0]

    run = many(run, data)
    updates, root, training = run.attack_state
    return updates, data.malicious, root, training


def compare_damage(
    rule: Any, updates: Any, variants: dict[str, Any], args: Any, **named: Any
) -> list[dict[str, Any]]:
    """s·(g − g') over ‖g‖₁ for every variant, mean over seeds, and its time."""
    before = rule(updates)
    direction, whole = jnp.sign(before), float(jnp.sum(jnp.abs(before)))
    change = jax.jit(lambda stack: along(direction, before - rule(stack)))
    rows = []
    for name, craft in variants.items():
        crafted = jax.jit(craft)
        values = [float(change(crafted(jax.random.key(seed)))) / whole for seed in range(args.seeds)]

        def call(key: Any, crafted: Any = crafted) -> None:
            jax.block_until_ready(crafted(key))

        spent = timed(lambda: (jax.random.key(0),), call, args.repeats, args.seconds)
        row = {**named, "attack": name, "damage": float(np.mean(values)), "std": float(np.std(values))}
        rows.append(row | spent)
        print(rows[-1], flush=True)
    return rows


def damage(path: str, args: Any) -> list[dict[str, Any]]:
    """Damage of the attacks that optimise, per rule, on the updates of a real run."""
    rows = []
    for rounds in (1, 30, 300):
        updates, malicious, root, training = record_stack(path, rounds)
        m = int(malicious.sum())
        stack = (updates, malicious)
        bound = {"max_malicious": m}
        trim = {"trim_attack": lambda key, s=stack, b=bound: trim_attack(*s, key, **b)}

        variants: dict[str, Any] = dict(trim)
        for hyper in HYPER["fltrust_attack"]:
            attack = partial(fltrust_attack, updates, root, malicious, **bound, **hyper)
            variants[f"fltrust_attack {hyper or 'as published'}"] = lambda key, a=attack, t=training: a(
                key, *t
            )
        rules: dict[str, tuple[Any, Any]] = {
            "fltrust": (partial(fltrust, root_update=root), None),
            "krum": (partial(krum, num_malicious=m), partial(SURROGATES["krum"], num_malicious=m)),
            "trimmed_mean": (partial(trimmed_mean, trim=m), partial(SURROGATES["trimmed_mean"], trim=m)),
            "median": (median, SURROGATES["median"]),
        }
        for name, (rule, surrogate) in rules.items():
            chosen = dict(variants if name == "fltrust" else trim)
            if name == "krum":
                chosen["krum_attack"] = lambda key, s=stack, t=training, b=bound: krum_attack(
                    *s, key, *t, **b
                )
            for steps in (5, 20):
                attack = partial(optimize_attack, *stack, rule, surrogate, steps=steps, **bound)
                chosen[f"optimize_attack steps={steps}"] = lambda key, a=attack: a(key=key)
            rows += compare_damage(rule, updates, chosen, args, round=rounds, rule=name)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attack", action="append", help="a registry name; default all on updates")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--d", type=int, default=139_960)
    parser.add_argument("--malicious", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of a row")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--damage", metavar="CONFIG", help="measure damage on a configuration's real updates")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    facts = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0], **environment()}
    if args.damage:
        rows = damage(args.damage, args)
    else:
        rows = []
        on_data = {"label_flip", "scaling_attack", "model_replacement", "distributed_backdoor"}
        for name in args.attack or [name for name in ATTACKS if name not in on_data]:
            for hyper in HYPER.get(name, [{}]):
                rows.append(time_attack(name, hyper, args.n, args.d, args.malicious, args))
                shown = {k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}
                print(shown, flush=True)
        if args.peers:
            rows += peers(args.n, args.malicious, args.d, args)
            for row in rows[-6:]:
                print(row)
    if args.out:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        text = json.dumps({"settings": settings, **facts, "rows": rows}, indent=1)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, (text + "\n").encode())


if __name__ == "__main__":
    main()
