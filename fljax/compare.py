"""Rules × attacks: every rule under every attack, as one table and one figure."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pydantic
from pydantic import Field
from rich.table import Table

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.checkpoint import write_atomically
from fljax.components import find
from fljax.config import (
    AggregatorConfig,
    AttackConfig,
    Component,
    ExperimentConfig,
    apply_overrides,
    explain,
    parse_config,
    read_toml,
)
from fljax.errors import ConfigError
from fljax.experiment import assemble, compile_experiment, pad_tables, run_experiment
from fljax.record import to_json


class ComparisonConfig(pydantic.BaseModel):
    """The `[compare]` table of a configuration file.

    Attributes:
        rules: aggregator tables, the columns.
        attacks: attack tables, the rows.
        seeds: how many seeds, counted up from the run's.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
    rules: Annotated[tuple[AggregatorConfig, ...], Field(strict=False, min_length=1)]
    attacks: Annotated[tuple[AttackConfig, ...], Field(strict=False, min_length=1)]
    seeds: Annotated[int, Field(gt=0)] = 1


class Cell(NamedTuple):
    """One rule under one attack.

    Attributes:
        rule, attack: titles.
        test_error: (seeds,) final errors.
        attack_success_rate: (seeds,), NaN without a trigger.
        diverged: how many of the seeds diverged.
        curve: (seeds, evaluations) test errors; a run that diverged keeps its last one.
    """

    rule: str
    attack: str
    test_error: np.ndarray
    attack_success_rate: np.ndarray
    diverged: int
    curve: np.ndarray


class Comparison(NamedTuple):
    """The cells, attack by attack, and FedAvg without attack to compare them with."""

    cells: list[list[Cell]]
    reference: Cell
    rounds: np.ndarray


def load_comparison(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> tuple[ExperimentConfig, ComparisonConfig]:
    """Read a configuration file with a `[compare]` table.

    Args:
        path: a TOML file.
        overrides: dotted keys to values.

    Returns:
        What all cells share, and the rules and attacks.

    Raises:
        ConfigError: one sentence with the key, what was given and what is allowed.
    """
    values = apply_overrides(read_toml(path), overrides or {})
    if "compare" not in values:
        raise ConfigError(f"{path} has no [compare] table with rules and attacks")
    table = values.pop("compare")
    try:
        compared = ComparisonConfig.model_validate(table)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, ComparisonConfig, "compare")) from None
    return parse_config(values), compared


def compare(
    config: ExperimentConfig,
    compared: ComparisonConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Run every rule under every attack, and FedAvg without attack.

    The seeds of a cell share one compiled program.

    Args:
        config: what all cells share.
        compared: rules, attacks and seeds.
        progress: called with the next cell's title, cells done and cells in all.

    Returns:
        The `Comparison`.

    Raises:
        ConfigError: if a cell cannot be run; every cell is checked before the first one runs.
    """
    given = config.seeds.model_dump().values()
    if compared.seeds > 1 and None not in given:
        raise ConfigError("compare.seeds counts seed up, but seeds.data, init and train are all set")
    reference = (
        AggregatorConfig(name="mean"),
        AttackConfig(name="none", fraction=0.0),
    )
    cells = [reference] + [(rule, attack) for attack in compared.attacks for rule in compared.rules]
    configs = [config.model_copy(update={"aggregator": r, "attack": a}) for r, a in cells]
    for cell in configs:
        assemble(cell)
    done = []
    rules, attacks = titles(compared)
    names = [("FedAvg", "no attack"), *((rule, attack) for attack in attacks for rule in rules)]
    for number, (cell, name) in enumerate(zip(configs, names, strict=True)):
        if progress is not None:
            progress(" under ".join(name), number, len(cells))
        done.append(_run_cell(cell, compared.seeds, *name))
    if progress is not None:
        progress("done", len(cells), len(cells))
    width = len(compared.rules)
    rows = [done[1 + i * width : 1 + (i + 1) * width] for i in range(len(compared.attacks))]
    rounds = np.arange(config.eval_every, config.rounds + 1, config.eval_every)
    return Comparison(rows, done[0], rounds)


def _run_cell(config: ExperimentConfig, seeds: int, rule: str, attack: str) -> Cell:
    experiments = pad_tables(
        [assemble(config.model_copy(update={"seed": config.seed + i})) for i in range(seeds)]
    )
    program = compile_experiment(experiments[0])
    results = [run_experiment(experiment, program=program) for experiment in experiments]
    evaluations = config.rounds // config.eval_every
    curves = [result.metrics["test_error"] for result in results]
    return Cell(
        rule,
        attack,
        np.array([curve[-1] for curve in curves]),
        np.array([result.metrics["attack_success_rate"][-1] for result in results]),
        sum(result.summary["diverged"] for result in results),
        np.stack([np.pad(curve, (0, evaluations - len(curve)), mode="edge") for curve in curves]),
    )


def rule_title(config: AggregatorConfig) -> str:
    """A rule's name in the literature, with what runs before it."""
    before = [find("pre-aggregator", PRE_AGGREGATORS, piece.name).title for piece in config.pre]
    return " + ".join([*before, find("rule", RULES, config.name).title])


def attack_title(config: AttackConfig) -> str:
    """An attack's name in the literature, with its factor if one was given."""
    if config.name == "none":
        return "no attack"
    title = find("attack", {"none": None, **ATTACKS}, config.name).title
    factor = config.parameters.get("factor")
    return title if factor is None else f"{title} ×{factor:g}"


def titles(compared: ComparisonConfig) -> tuple[list[str], list[str]]:
    """Names of the columns and rows; where two would be alike, with what tells them apart."""
    return (
        _distinct([rule_title(rule) for rule in compared.rules], compared.rules),
        _distinct([attack_title(attack) for attack in compared.attacks], compared.attacks),
    )


def _distinct(names: list[str], configs: Sequence[Component]) -> list[str]:
    """The names; those that are alike with the keys in which they differ."""
    values = [config.model_dump(mode="json") for config in configs]

    def detail(name: str, own: dict[str, Any]) -> str:
        alike = [other for title, other in zip(names, values, strict=True) if title == name]
        differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        shown = {key: own[key] for key in differing if own[key] not in (None, [])}
        return ", ".join(f"{key}={value}" for key, value in shown.items()) or "default"

    return [
        f"{name} ({detail(name, own)})" if names.count(name) > 1 else name
        for name, own in zip(names, values, strict=True)
    ]


def _cell_text(cell: Cell) -> str:
    text = f"{cell.test_error.mean():.3f}"
    if len(cell.test_error) > 1:
        text += f" ± {cell.test_error.std():.3f}"
    success = float(cell.attack_success_rate.mean())
    if not math.isnan(success):
        text += f" / {success:.2f}"
    return text + (" †" if cell.diverged else "")


def comparison_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table, as text."""
    header = ["attack", *(cell.rule for cell in comparison.cells[0])]
    return header, [[row[0].attack, *map(_cell_text, row)] for row in comparison.cells]


def caption(comparison: Comparison) -> str:
    """What the numbers are, and the reference."""
    seeds = len(comparison.reference.test_error)
    spread = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
    cells = [comparison.reference, *(cell for row in comparison.cells for cell in row)]
    lost = " † at least one seed diverged." if any(cell.diverged for cell in cells) else ""
    slash = any(not np.isnan(cell.attack_success_rate).any() for cell in cells)
    return (
        f"Test error{spread}{'; after a slash the attack success rate' if slash else ''}.{lost} "
        f"Reference, FedAvg without attack: {_cell_text(comparison.reference)}."
    )


def rich_table(comparison: Comparison) -> Table:
    """The table for a terminal; each row's lowest error is bold."""
    header, rows = comparison_rows(comparison)
    table = Table(caption=caption(comparison), caption_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for cells, texts in zip(comparison.cells, rows, strict=True):
        best = int(np.argmin([cell.test_error.mean() for cell in cells]))
        table.add_row(*(f"[bold]{text}[/]" if i == best + 1 else text for i, text in enumerate(texts)))
    return table


def write_comparison(
    comparison: Comparison, config: ExperimentConfig, compared: ComparisonConfig, out: Path
) -> Sequence[Path]:
    """Write table.md, results.json and comparison.png.

    Args:
        comparison: the cells.
        config: what all cells share.
        compared: rules, attacks and seeds.
        out: the folder.

    Returns:
        The files' paths.
    """
    from fljax.plots import plot_comparison

    out.mkdir(parents=True, exist_ok=True)
    header, rows = comparison_rows(comparison)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    markdown = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    files = [out / "table.md", out / "results.json", out / "comparison.png"]
    write_atomically(files[0], f"{markdown}\n\n{caption(comparison)}\n".encode())
    everything = [comparison.reference, *(cell for row in comparison.cells for cell in row)]
    results = {
        "config": config.resolved(),
        "compare": compared.model_dump(mode="json"),
        "rounds": comparison.rounds.tolist(),
        "cells": [_plain(cell) for cell in everything],
    }
    write_atomically(files[1], to_json(results, indent=1).encode())
    fractions = sorted({attack.fraction for attack in compared.attacks})
    malicious = ", ".join(f"{fraction:.0%}" for fraction in fractions)
    plot_comparison(
        header[1:],
        [row[0] for row in rows],
        np.array([[cell.test_error for cell in row] for row in comparison.cells]),
        np.array([[cell.attack_success_rate for cell in row] for row in comparison.cells]),
        [[cell.curve for cell in row] for row in comparison.cells],
        comparison.rounds,
        (float(comparison.reference.test_error.mean()), comparison.reference.curve.mean(0)),
        f"{config.data.name}: {config.num_clients} clients, {malicious} malicious",
        files[2],
    )
    return files


def _plain(cell: Cell) -> dict[str, Any]:
    values = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in cell._asdict().items()
    }
    success = cell.attack_success_rate
    return values | {"attack_success_rate": None if np.isnan(success).any() else success.tolist()}
