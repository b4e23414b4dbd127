"""The keys of a configuration, from the schema and its docstrings."""

import json
import typing
from functools import cache

from pydantic import BaseModel
from sphinx.util.docutils import SphinxDirective

from extension.typeset import items, prose, read
from fljax.config.schema import Component, ExperimentConfig


class Keys(SphinxDirective):
    """`configuration-keys`: a table of all keys, their defaults and meanings."""

    def run(self):
        """The table."""
        self.env.note_dependency(__file__)
        return self.parse_text_to_nodes(table())


def setup(app):
    """Register the directive."""
    app.add_directive("configuration-keys", Keys)


def table():
    """All keys in Markdown: those without a table, then table by table."""
    rows = [("key", "default", "meaning"), ("---",) * 3]
    fields = ExperimentConfig.model_fields
    inner = {name: _table_in(field.annotation) for name, field in fields.items()}
    for name in sorted(fields, key=lambda name: bool(inner[name])):
        rows += _rows(ExperimentConfig, name, "")
        if inner[name]:
            rows += [row for each in inner[name].model_fields for row in _rows(inner[name], each, f"{name}.")]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(model, name, above):
    """A row for a key, which of a table has what the table is; none for a name, which is in that row."""
    if above and name == "name":
        return []
    field, inner = model.model_fields[name], _table_in(model.model_fields[name].annotation)
    meaning = _meanings(model).get(name, "")
    if not meaning and inner:
        named = _meanings(inner).get("name", "")
        meaning = f"{read(inner).summary.rstrip('.')}" + f": {named}" * bool(named)
    default = "required" if field.is_required() else _shown(field.default)
    return [(f"`{above}{name}`", default, prose(meaning.rstrip(".")))]


@cache
def _meanings(model):
    return dict(items(read(model).sections.get("Attributes", "")))


def _table_in(annotation):
    """The table with keys of its own that a field takes, or None."""
    options = [annotation, *typing.get_args(annotation)]
    tables = [each for each in options if isinstance(each, type) and issubclass(each, BaseModel)]
    return next((each for each in tables if set(each.model_fields) - {"name"}), None)


def _shown(default):
    """A default as a file has it."""
    if default is None:
        return "left out"
    if isinstance(default, BaseModel):
        return f'`{{ name = "{default.name}" }}`' if isinstance(default, Component) else "as below"
    return f"`{json.dumps(default)}`"
