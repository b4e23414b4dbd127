"""The public functions and classes of every package, from their docstrings."""

import importlib
import inspect
from pathlib import Path

from extension.components import KINDS, blocks, entries, function_directive, linker, put
from extension.typeset import formula, items, leading_formula, prose, read

PACKAGES = {
    "fljax": "Configurations, runs, sweeps, and the decorators that register what is yours.",
    "fljax.aggregators": "Rules and how they are put together.",
    "fljax.attacks": "Attacks and how they are put together.",
    "fljax.base": "The contracts between a round and its pieces.",
    "fljax.clients": "What clients do in a round.",
    "fljax.data": "Data sets and partitions.",
    "fljax.losses": "What training minimises.",
    "fljax.metrics": "What evaluations measure.",
    "fljax.models": "Networks, and adapters for those of other libraries.",
    "fljax.report": "Tables, figures and saved runs.",
    "fljax.simulation.experiment": "A run, piece by piece; also `fljax.experiment`.",
    "fljax.sweeps": "Many runs at once.",
    "fljax.tracking": "Who is told of a run.",
}


def write(app):
    """Write a page for every package."""
    folder = Path(app.srcdir) / "reference" / "api"
    rows = []
    for package, what in PACKAGES.items():
        put(folder / f"{package}.md", page(package, what))
        rows.append(f"- [`{package}`]({package}.md): {what}\n")
    pages = "\n".join(PACKAGES)
    put(
        folder / "index.md",
        "# Functions and classes\n\n" + "".join(rows) + f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n",
    )


def public(package):
    """The public names of a package that are no modules, with what they are."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == package
    ]
    found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def page(package, what):
    """A package's page in Markdown."""
    own = {}
    for kind in KINDS:
        own |= {
            entry.function: (kind, name) for name, entry in entries(kind).items() if _hashable(entry.function)
        }
    chunks, components = [f"# `{package}`", what], []
    for name, value in public(package).items():
        if _hashable(value) and value in own:
            kind, registered = own[value]
            components.append(f"[`{name}`](/reference/{kind}/{registered}.md)")
        elif callable(value):
            chunks.append(described(f"{package}.{name}", value))
    if components:
        chunks.insert(2, "On pages of their own: " + ", ".join(components) + ".")
    return "\n\n".join(chunks) + "\n"


def _hashable(value):
    return inspect.isroutine(value) or inspect.isclass(value)


def described(path, value):
    """A function or a class in Markdown."""
    parts = read(value)
    if parts.summary.startswith(("Create new instance", "dict(")) or not inspect.getdoc(value):
        parts = read(None)
    link = linker("rules", set(_parameters(value)))
    name = path.rpartition(".")[2]
    chunks = [f"## `{name}`", function_directive(path, value), prose(parts.summary, link)]
    lead, text = leading_formula(parts.text)
    chunks += [formula(lead)] if lead else []
    chunks += blocks(text, link)
    for section in ("Args", "Attributes"):
        chunks += [f"`{each}`\n: {prose(of, link)}" for each, of in items(parts.sections.get(section, ""))]
    for section in ("Returns", "Yields", "Raises"):
        if section in parts.sections:
            chunks.append(f"**{section}** {prose(' '.join(parts.sections[section].split()), link)}")
    if "Example" in parts.sections:
        chunks.append(f"```python\n{parts.sections['Example']}\n```")
    chunks += [prose(each, link) if kind == "text" else f"```text\n{each}\n```" for kind, each in parts.notes]
    return "\n\n".join(filter(None, chunks))


def _parameters(value):
    try:
        return inspect.signature(value).parameters
    except (TypeError, ValueError):
        return ()
