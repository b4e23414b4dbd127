"""Completions of the shell: every press of a key starts a process, so JAX is imported only for plugins."""

import re
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import typer

from fljax.errors import ConfigError
from fljax.registry import PLUGINS

# The lists of `fljax list`: where the names of each are registered, and by which decorators. Importing the
# registries takes a second; their source is read in a twentieth of it.
_PLACES = {
    "rules": ("aggregators", "rule|pre_aggregator|post_aggregator"),
    "attacks": ("attacks", "attack"),
    "schedules": ("attacks", "schedule"),
    "datasets": ("data", "dataset"),
    "models": ("models", "model"),
    "partitions": ("data", "partition"),
    "augmentations": ("data", "augmentation"),
    "clients": ("clients", "client_algorithm"),
    "losses": ("losses", "loss"),
    "metrics": ("metrics", "metric"),
}
LISTS = tuple(_PLACES)


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completions of a word."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def registered(kind: str) -> list[str]:
    """The names of a list that the library itself registers, from its source.

    Example:
        >>> registered("losses")
        ['binary_cross_entropy', 'cross_entropy', 'huber', 'mse']
    """
    folder, decorators = _PLACES[kind]
    # The name that the decorator gives, or that of what it stands before.
    pattern = re.compile(
        rf'^@register_(?:{decorators})\((?:\s*"([^"]+)")?[\s\S]*?^(?:def|class) (\w+)', re.MULTILINE
    )
    found = ["none"] * (kind == "attacks")
    for path in (Path(__file__).parents[1] / folder).rglob("*.py"):
        found += [given or own for given, own in pattern.findall(path.read_text(encoding="utf-8"))]
    return sorted(found)


def names_of(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """Completions of a name of a list."""

    def completed(context: typer.Context, incomplete: str) -> list[str]:
        return one_of(*_names(context, kind))(incomplete)

    return completed


def listed_names(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of `fljax list KIND`: the names of that kind."""
    kind = str(context.params.get("kind"))
    return one_of(*_names(context, kind))(incomplete) if kind in _PLACES else []


def _names(context: typer.Context, kind: str) -> list[str]:
    """The names of a list, those of plugins among them; a plugin that fails has none."""
    plugins = context.params.get("plugin") or ()
    if not plugins and not metadata.entry_points(group=PLUGINS):
        return registered(kind)
    from fljax.cli.listing import KINDS
    from fljax.config.plugins import load_named
    from fljax.registry import load_installed

    with suppress(ConfigError):
        load_installed()
    with suppress(ConfigError):
        load_named(plugins)
    return [entry.name for entry in KINDS[kind].entries()]


def published_tables(incomplete: str) -> list[str]:
    """Completions of a published table."""
    from fljax.sweeps.published import read_published

    return one_of(*read_published())(incomplete)
