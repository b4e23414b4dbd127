"""A page for every name of a configuration, from its docstring, its registry and what was measured."""

import csv
import inspect
import json
from functools import cache
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

from extension import pictures
from extension.typeset import formula, items, leading_formula, prose, read
from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.cli.details import WEIGHTS, allowed, config_line, public_name
from fljax.cli.listing import KINDS
from fljax.config.components import COUNTS

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "results"
TITLES = {
    "rules": "Rules",
    "attacks": "Attacks",
    "schedules": "Schedules of attacks",
    "datasets": "Data sets",
    "models": "Models",
    "partitions": "Partitions",
    "augmentations": "Augmentations",
    "clients": "Client algorithms",
    "losses": "Losses",
    "metrics": "Metrics",
}
GUIDES = {
    "rules": "functions",
    "attacks": "attacks",
    "schedules": "attacks",
    "datasets": "data",
    "models": "models",
    "partitions": "data",
    "augmentations": "data",
    "clients": "clients",
    "losses": "clients",
    "metrics": "clients",
}


class Table(SphinxDirective):
    """`components`: the table of a kind, its names linked to their pages."""

    required_arguments = 1

    def run(self):
        """The table."""
        self.env.note_dependency(__file__)
        return self.parse_text_to_nodes(table(self.arguments[0]))


def setup(app):
    """Register the directive."""
    app.add_directive("components", Table)


@cache
def entries(kind):
    """All of a kind that have a docstring, by name."""
    return {entry.name: entry for entry in KINDS[kind].entries() if entry.function is not None}


def page_of(kind, name):
    """Where a component's page is."""
    return f"/reference/{kind}/{name}.md"


def linker(kind, own=()):
    """From a name in a docstring to a page, of its own kind first; `own` are names of parameters."""

    def link(name):
        if name in own:
            return None
        return next((page_of(each, name) for each in (kind, *KINDS) if name in entries(each)), None)

    return link


def table(kind):
    """A table of a kind in Markdown."""
    registry = {"rules": {**RULES, **PRE_AGGREGATORS, **POST_AGGREGATORS}, "attacks": ATTACKS}.get(kind, {})
    streams = bool(registry)
    header = [KINDS[kind].one, "in the literature", *(() if streams else (KINDS[kind].summary,))]
    facts = next(iter(entries(kind).values())).facts
    header += [*facts, *(["streams"] if streams else [])]
    rows = []
    for name, entry in entries(kind).items():
        before = "pre: " * (name in PRE_AGGREGATORS) + "post: " * (name in POST_AGGREGATORS)
        row = [f"{before if kind == 'rules' else ''}[`{name}`]({page_of(kind, name)})", entry.title]
        if not streams:
            row.append(prose(entry.summary.rstrip("."), linker(kind)))
        row += [prose(entry.facts.get(fact, "")) for fact in facts]
        row += ["yes" if registry[name].facts["streams"] else ""] if streams else []
        rows.append(row)
    kept = [number for number in range(len(header)) if any(row[number] for row in rows)]
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line[number] for number in kept)} |\n" for line in lines)


def write(app):
    """Write all pages and their pictures, where they are not as they were."""
    folder = Path(app.srcdir) / "reference"
    for kind in KINDS:
        made = folder / kind
        made.mkdir(exist_ok=True)
        for name, entry in entries(kind).items():
            picture = pictures.make(kind, name, entry.function, Path(app.srcdir) / "pictures" / kind)
            put(made / f"{name}.md", page(kind, name, entry, picture))
        put(
            made / "index.md",
            f"# {TITLES[kind]}\n\nHow they are used: [the guide](/guides/{GUIDES[kind]}.md). "
            f"In a terminal: `fljax list {kind}`.\n\n```{{components}} {kind}\n```\n",
        )
        for path in made.glob("*.md"):
            if path.stem not in {"index", *entries(kind)}:
                path.unlink()


def put(path, text):
    """Write a file unless it is like that, so that Sphinx reads again only what has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def blocks(parts, link):
    """Markdown of paragraphs and of what is indented among them, which is a formula."""
    return [prose(text, link) if kind == "text" else formula(text) for kind, text in parts]


def page(kind, name, entry, picture):
    """A component's page in Markdown."""
    parts = read(entry.function)
    own = set(inspect.signature(entry.function).parameters) | set(entry.parameters)
    link = linker(kind, own - set(entries(kind)))
    lead, text = leading_formula(parts.text)
    title = entry.title if entry.title and entry.title != name else ""
    # No entry of the side bar, which all pages have: two hundred more would hide the others.
    up = f"[{TITLES[kind]}](index.md) · `{name}`"
    chunks = ["---\norphan: true\n---", f"# {title or name}", up, prose(parts.summary, link)]
    chunks += [formula(lead)] if lead else []
    chunks += blocks(text, link)
    chunks.append(facts(kind, name, entry))
    chunks.append("## In a configuration\n\n```toml\n" + config_line(entry) + "\n```")
    chunks.append(
        parameters(
            entry, dict(_split(items(parts.sections.get("Args", "") or parts.sections.get("Attributes", ""))))
        )
    )
    if picture:
        shown = f"![{title or name}](/pictures/{kind}/{picture.name})"
        chunks.append(f"## What it does\n\n{shown}\n\n{pictures.caption(kind, name)}")
    if public_name(entry):
        chunks.append("## In Python\n\n" + function_directive(public_name(entry), entry.function))
        for section in ("Returns", "Raises"):
            if section in parts.sections:
                body = prose(" ".join(parts.sections[section].split()), link)
                chunks.append(f"**{section}** {body}")
        if "Args" in parts.sections:
            arrays = [
                f"`{names}`\n: {prose(meaning, link)}"
                for names, meaning in items(parts.sections["Args"])
                if not {each.strip() for each in names.split(",")} & set(entry.parameters)
            ]
            chunks += arrays
    if "Example" in parts.sections:
        chunks.append(f"```python\n{parts.sections['Example']}\n```")
    if parts.notes:
        chunks.append("## Source")
        chunks += [
            prose(text.removeprefix("Source: "), link) if block == "text" else f"```text\n{text}\n```"
            for block, text in parts.notes
        ]
    return "\n\n".join(filter(None, chunks)) + "\n"


def _split(pairs):
    """A pair for every name of `x, y: meaning`."""
    for names, meaning in pairs:
        for name in names.split(","):
            yield name.strip(" *"), meaning


def function_directive(path, function):
    """A function's or a class' entry in the index, with its signature."""
    what = "class" if isinstance(function, type) else "function"
    try:
        signature = inspect.signature(function)
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        shown = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    except (TypeError, ValueError):
        shown = ""
    if "<" in shown or " at 0x" in shown:
        shown = "(...)"
    return f"```{{py:{what}}} {path}{shown}\n```"


def parameters(entry, meanings):
    """The table of a component's own parameters."""
    if not entry.parameters:
        return "It takes no parameters of its own."
    rows = [("parameter", "value", "default", "meaning"), ("---",) * 4]
    for name, (hint, default) in entry.parameters.items():
        shown = (
            "required" if default is ... else "left out" if default is None else f"`{json.dumps(default)}`"
        )
        meaning = WEIGHTS if name == "weights" else meanings.get(name, "").rstrip(".")
        if name in COUNTS and hint is int:
            meaning += '; "actual" for as many as there are'
        rows.append((f"`{name}`", prose(allowed(hint)), shown, prose(meaning)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def facts(kind, name, entry):
    """What the registry and the benchmarks say of it."""
    rows = [(label, prose(text)) for label, text in entry.facts.items() if text]
    registry = {**RULES, **PRE_AGGREGATORS, **POST_AGGREGATORS} if kind == "rules" else ATTACKS
    if kind in ("rules", "attacks"):
        streams = registry[name].facts["streams"]
        rows.append(("streams", "yes" if streams else "no, it needs all updates at once"))
        rows.append(("measured", cost(kind, name)))
    return "".join(f"{label}\n: {text}\n\n" for label, text in rows if text)


@cache
def _measured():
    path = MEASURED / "rules" / "paper" / "results.csv"
    with path.open(encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    # Of several variants the usual one.
    found.sort(
        key=lambda row: ("", "converged").index(row["variant"]) if row["variant"] in ("", "converged") else 2
    )
    rules = {}
    for row in found:
        rules.setdefault(row["rule"], row)
    speed = json.loads((MEASURED / "attacks" / "speed.json").read_text())
    attacks = {}
    for row in speed["rows"]:
        if "ms" in row and (row["attack"] not in attacks or not row["hyper"]):
            attacks[row["attack"]] = row
    return rules, attacks


def cost(kind, name):
    """What a call costs, where it was measured, or ""."""
    rules, attacks = _measured()
    where = "at 100 × 139,960 numbers on two CPU cores"
    if kind == "rules" and name in rules:
        row = rules[name]
        times = [f"{1000 * float(row['seconds_median']):.3g} ms {where}"]
        if row["variant"] not in ("", "converged"):
            times.append(row["variant"])
        if row["peer_seconds_median"]:
            times.append(f"{row['peer']} {1000 * float(row['peer_seconds_median']):,.0f} ms")
        memory, compiling = float(row["memory_multiple"]), float(row["seconds_compile"])
        times.append(f"memory {memory:.2g} times that of the updates")
        times.append(f"{compiling:.2g} s to compile")
        return f"{'; '.join(times)} ([how](/results/benchmarks.md))"
    if kind == "attacks" and name in attacks:
        row = attacks[name]
        of = "".join(f", `{key} = {value}`" for key, value in row["hyper"].items())
        return f"{row['ms']:.3g} ms {where}, 20 of them malicious{of} ([how](/results/benchmarks.md))"
    return ""
