"""Completions of the shell. JAX is imported only by those that need it."""

from collections.abc import Callable
from contextlib import suppress

import typer

from fljax.errors import ConfigError

# What `fljax list` lists: a literal, since importing the registries takes a second.
LISTS = (
    "rules",
    "attacks",
    "schedules",
    "datasets",
    "models",
    "partitions",
    "augmentations",
    "clients",
    "losses",
    "metrics",
)


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completions of a word."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def listed_names(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of `fljax list KIND`: the names of that kind."""
    from fljax.cli.listing import KINDS

    _load_plugins(context)
    kind = str(context.params.get("kind"))
    names = [entry.name for entry in KINDS[kind].entries()] if kind in KINDS else []
    return one_of(*names)(incomplete)


def rules(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of a rule or pre-aggregator."""
    from fljax.aggregators import PRE_AGGREGATORS, RULES

    _load_plugins(context)
    return one_of(*RULES, *PRE_AGGREGATORS)(incomplete)


def _load_plugins(context: typer.Context) -> None:
    """Import the plugins of installed packages and those of the command; one that fails has none."""
    from fljax.config.plugins import load_named
    from fljax.registry import load_installed

    with suppress(ConfigError):
        load_installed()
    with suppress(ConfigError):
        load_named(context.params.get("plugin") or ())


def published_tables(incomplete: str) -> list[str]:
    """Completions of a published table."""
    from fljax.sweeps.published import read_published

    return one_of(*read_published())(incomplete)
