"""The heading and the line of facts of every figure and of the page."""

import json
from typing import Any

import pandas as pd

from fljax.aggregators import RULES
from fljax.config.titles import setting_titles, under
from fljax.report.results import NO_ATTACK, Results
from fljax.report.style import Look, looks


def heading(results: Results) -> str:
    """The rule under the attack by name, or the numbers of rules and attacks."""
    return under(results.rules, results.attacks)


def facts(results: Results, cells: pd.DataFrame) -> str:
    """Name, data, model, partition, clients, rounds and seeds of some cells.

    What varies among them is left out where the figure's own labels say it, or given as a range.
    """
    config = _config(cells)
    said = setting_titles(config)
    data = [setting_titles({"data": {"name": str(name)}})["data"] for name in cells["data"].unique()]
    words = [results.name]
    words.append(", ".join(data[:3]) + ("" if len(data) <= 3 else f" and {len(data) - 3} more"))
    varying = {axis.partition(".")[0] for axis in results.further}
    words += [said[kind] for kind in ("model", "partition") if kind in said and kind not in varying]
    words += _clients(cells)
    if "rounds" in cells:
        words.append(f"{_range(cells['rounds'])} rounds")
    words.append(f"{results.seeds} seeds" if results.seeds > 1 else f"seed {_range(cells['seed'])}")
    if words[0] == words[1]:
        del words[0]
    return " · ".join(words)


def _config(cells: pd.DataFrame) -> dict[str, Any]:
    """The configuration of the first cell; what differs between cells is an axis."""
    if "config" not in cells or not isinstance(cells["config"].iloc[0], str):
        return {}
    try:
        config = json.loads(cells["config"].iloc[0])
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _clients(cells: pd.DataFrame) -> list[str]:
    if "num_clients" not in cells or not cells["num_clients"].notna().any():
        return []
    text = f"{_range(cells['num_clients'])} clients"
    if "num_malicious" in cells:
        attacked = cells[cells["attack"] != NO_ATTACK]["num_malicious"].dropna()
        if len(attacked) and attacked.max() > 0:
            text += f", {_range(attacked)} malicious"
    return [text]


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def look_of(results: Results) -> dict[str, Look]:
    """The look of each label of a rule, from the name of the rule in its cells' configuration."""
    names = {entry.title: name for name, entry in RULES.items()}
    found = {}
    first = results.frame.drop_duplicates("aggregator").set_index("aggregator")
    for label in results.rules:
        name = names.get(label.rpartition(" + ")[2].partition(" (")[0], label)
        if label in first.index:
            part = _config(first.loc[[label]]).get("aggregator")
            name = part["name"] if isinstance(part, dict) and isinstance(part.get("name"), str) else name
        found[label] = name
    return looks(found)
