"""One name of a registry in full: what `fljax list rules krum` shows."""

import importlib
import inspect
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from fljax.attacks import Attack
from fljax.cli.docstrings import read_docstring
from fljax.cli.listing import KINDS, Listed, find_entry, kind_of, list_table
from fljax.config.components import COUNTS
from fljax.config.schema import AggregatorConfig, AttackConfig, Component, DataConfig
from fljax.errors import ConfigError, unknown_name
from fljax.host.terminal import Table
from fljax.registry import load_installed

# What every table of a kind takes besides its component's own parameters.
SHARED: Mapping[str, type[Component]] = {
    "aggregator = {}": AggregatorConfig,
    "attack = {}": AttackConfig,
    "data = {}": DataConfig,
}
PACKAGES = ("fljax.aggregators", "fljax.attacks", "fljax.data", "fljax.models")
# Fields of every flax module.
FLAX = ("parent", "name")
# What configurations and Python call what the list of rules has.
OF_RULES = ("aggregators", "pre_aggregators", "post_aggregators", "defences")
WEIGHTS = 'by what clients are weighted: "size", their numbers of examples, or "uniform", all alike'
# What a parameter without a default is set to in the line that shows how to write it.
EXAMPLES: Mapping[Any, str] = {
    int: "4",
    float: "0.5",
    str: '"mine.npz"',
    float | Literal["median"]: '"median"',
    str | Sequence[str]: '"image"',
    Sequence[Attack]: '[{ name = "sign_flip" }, { name = "alie" }]',
}


def show_list(console: Console, kind: str | None, name: str | None) -> None:
    """Print all lists, one of them, or one of its names in full, for `fljax list`.

    Args:
        console: where to print.
        kind: a list, or None for all.
        name: one of its names, or None for all.

    Raises:
        ConfigError: if there is no such list or name, or an installed plugin cannot be imported.
    """
    load_installed()
    if kind is not None and kind not in KINDS:
        of = kind_of(kind)
        hint = f"{kind!r} is one of the {of}: fljax list {of} {kind}" if of else None
        raise ConfigError(hint or unknown_name("list", kind, KINDS, dict.fromkeys(OF_RULES, "rules")))
    if kind and name:
        for number, part in enumerate(details(find_entry(kind, name))):
            if number:
                console.print()
            console.print(part, highlight=False)
    else:
        for each in [kind] if kind else KINDS:
            console.print(list_table(each))


def details(entry: Listed) -> Iterator[RenderableType]:
    """Everything about one name.

    Args:
        entry: of `fljax.cli.listing`.

    Yields:
        What to print: description, the line of a configuration, parameters, facts, the call from Python.
    """
    doc = read_docstring(entry.function)
    yield Text.assemble((entry.name, "bold"), f"  {entry.title}" if entry.title else "")
    yield from map(Text, doc.text or [entry.summary])
    yield _indented(Text(config_line(entry), "bold"))
    if entry.parameters:
        yield _parameters(entry, doc.arguments)
    else:
        yield Text("It takes no parameters of its own.")
    if entry.table in SHARED:
        yield _shared(entry)
    facts = Table.grid(padding=(0, 2, 0, 0))
    for label, text in entry.facts.items():
        if text:
            facts.add_row(Text(label), Text(text))
    if facts.row_count:
        yield facts
    yield from map(Text, doc.notes)
    if public_name(entry):
        yield Text("In Python:")
        yield _indented(Text(python_call(entry)))
    if doc.example:
        yield _indented(Text(doc.example))


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 4), expand=False)


def config_line(entry: Listed) -> str:
    """A line of a configuration with this name, and a value for each parameter that needs one.

    Example:
        >>> from fljax.cli.listing import find_entry
        >>> config_line(find_entry("rules", "bucketing"))
        'aggregator = { name = "median", pre = [{ name = "bucketing", bucket_size = 4 }] }'
    """
    required = [(name, hint) for name, (hint, default) in entry.parameters.items() if default is ...]
    values = [(name, EXAMPLES.get(hint, "...")) for name, hint in required]
    pairs = [("name", json.dumps(entry.name)), *values]
    return entry.table.replace("{}", "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }")


def _parameters(entry: Listed, meanings: Mapping[str, str]) -> Table:
    rows = []
    for name, (hint, default) in entry.parameters.items():
        text = "None" if default is None else json.dumps(default, default=repr)
        shown = "required" if default is ... else text
        meaning = WEIGHTS if name == "weights" else meanings.get(name, "").rstrip(".")
        if name in COUNTS and hint is int:
            meaning += '; "actual" for as many as there are'
        rows.append((name, allowed(hint), shown, meaning))
    return _table("parameters", ("name", "value", "default", "meaning"), rows)


def _shared(entry: Listed) -> Table:
    """The keys that every table of a kind takes."""
    model = SHARED[entry.table]
    meanings = read_docstring(model).arguments
    rows = [(name, meanings[name].rstrip(".")) for name in model.model_fields if name != "name"]
    return _table(f"what every {entry.table.split()[0]} table takes", ("name", "meaning"), rows)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in header:
        table.add_column(name, no_wrap=name == "name")
    for row in rows:
        table.add_row(*map(Text, row))
    if any("None" in cell for row in rows for cell in row):
        table.caption = "None: the key is left out."
    return table


def allowed(hint: Any, several: bool = False) -> str:
    """The values that a file may give for a type, in words.

    Example:
        >>> allowed(float | typing.Literal["uniform"]), allowed(Sequence[tuple[int, int]] | None)
        ('number or "uniform"', 'list of lists of whole numbers')
    """
    plain = {int: "whole number", float: "number", str: "string", os.PathLike[str]: "string"}
    plural = "s" if several else ""
    if hint in plain:
        return plain[hint] + plural
    if hint is bool:
        return "true or false"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        options = (allowed(option, several) for option in arguments if option is not type(None))
        return " or ".join(dict.fromkeys(options))
    if hint is Attack:
        return f"table{plural} with a name"
    if arguments and isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list{plural} of {allowed(arguments[0], several=True)}"
    return f"value{plural}"  # a plugin's, of no type or one that has no words here


def public_name(entry: Listed) -> str:
    """The import path of a name's function or class, or "" for one that is not public."""
    name = getattr(entry.function, "__name__", None)
    if name is None:
        return ""
    for package in PACKAGES:
        if getattr(importlib.import_module(package), name, None) is entry.function:
            return f"{package}.{name}"
    module = entry.function.__module__
    return "" if module.startswith("fljax.") else f"{module}.{name}"  # a plugin's


def python_call(entry: Listed) -> str:
    """The call of a public function or class."""
    signature = inspect.signature(entry.function) if entry.function else inspect.Signature()
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if not (isinstance(entry.function, type) and name in FLAX)
    ]
    plain = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return f"{public_name(entry)}{plain}"
