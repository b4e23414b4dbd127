"""Sweep folders made by hand: what `fljax sweep` would leave, without running anything."""

import json
import zlib
from itertools import product

import pyarrow as pa
from pyarrow import parquet

from fljax.simulation.lines import MEASURED

DOUBLES = pa.list_(pa.float64())


def cell(aggregator="FedAvg", attack="no attack", seed=0, error=0.1, success=None, **others):
    """One row; its error falls in a straight line to `error` in four evaluations."""
    rounds = others.pop("curve_rounds", [10, 20, 30, 40])
    steps = [error + (0.9 - error) * (1 - r / rounds[-1]) for r in rounds]
    row = {
        "cell": "",
        "aggregator": aggregator,
        "attack": attack,
        "data": "digits",
        "seed": seed,
        "test_error": error,
        "attack_success_rate": success,
        "diverged": False,
        "rounds": 40,
        "seconds_compile": 2.5,
        "seconds_run": 1.25,
        "rounds_per_second": 32.0,
        "device": "cpu",
        "versions": json.dumps({"jax": "0.10.2"}),
        "num_clients": 20,
        "num_malicious": 0 if attack == "no attack" else 4,
        "num_params": 1000,
        "group": 0,
        "config": json.dumps({"rounds": 40}),
        **dict.fromkeys((f"curve_{name}" for name in MEASURED), [None] * len(rounds)),
        "curve_round": rounds,
        "curve_test_error": steps,
        "curve_attack_success_rate": [success] * len(rounds),
        **others,
    }
    text = json.dumps([aggregator, attack, seed, others], default=str)
    return row | {"cell": f"{zlib.crc32(text.encode()):08x}"}


def write_sweep(folder, axes, cells, total=None, name="demo", **config):
    """Write sweep.json and results.parquet; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 1
    for labels in axes.values():
        count *= len(labels)
    about = {
        "name": name,
        "axes": axes,
        "cells": total or count,
        "config": config or {"rounds": 40, "note": "<b>&"},
    }
    (folder / "sweep.json").write_text(json.dumps(about), encoding="utf-8")
    table = pa.Table.from_pylist(cells)
    for i, field in enumerate(table.schema):
        if field.name.startswith("curve_"):
            kind = pa.list_(pa.int32()) if field.name == "curve_round" else DOUBLES
            table = table.set_column(i, field.name, table[field.name].cast(kind))
        elif field.name == "attack_success_rate":
            table = table.set_column(i, field.name, table[field.name].cast(pa.float64()))
    parquet.write_table(table, folder / "results.parquet")
    return folder


def large(folder, rules, attacks, seeds, further, evaluations=20):
    """A full sweep with made-up numbers; every second attack has a success rate."""
    axes = {"aggregator": rules, "attack": attacks, **further, "seed": list(range(seeds))}
    rounds = [10 * (i + 1) for i in range(evaluations)]
    cells = []
    for labels in product(*axes.values()):
        values = dict(zip(axes, labels, strict=True))
        i, j = rules.index(values["aggregator"]), attacks.index(values["attack"])
        k = sum(further[name].index(values[name]) for name in further)
        error = 0.04 + 0.85 * ((7 * i + 5 * j) % 11) / 11 * (k + 1) / (k + 2) + 0.01 * values["seed"]
        cells.append(cell(error=error, success=(i % 4) / 4 if j % 2 else None, curve_rounds=rounds, **values))
    return write_sweep(folder, axes, cells)
