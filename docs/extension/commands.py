"""The command line, from its own help."""

from pathlib import Path

import typer.main
from typer.testing import CliRunner

from extension.components import put
from fljax.cli.app import app as command_line


def write(app):
    """Write the page of all commands."""
    chunks = ["# Command line"]
    for words in _commands((), typer.main.get_command(command_line)):
        if words:
            chunks.append(f"## `fljax {' '.join(words)}`")
        chunks.append(f"```text\n{_help(words)}\n```")
    put(Path(app.srcdir) / "reference" / "command-line.md", "\n\n".join(chunks) + "\n")


def _commands(words, group):
    """The words of every command, that of the group first."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        if not getattr(command, "hidden", False):
            yield from _commands((*words, name), command)


def _help(words):
    """What `--help` prints, 100 columns wide."""
    settings = {"terminal_width": 100, "prog_name": "fljax"}
    printed = CliRunner().invoke(command_line, [*words, "--help"], env={"COLUMNS": "100"}, **settings)
    if printed.exit_code:
        raise RuntimeError(f"fljax {' '.join(words)} --help: {printed.output}")
    return printed.output.strip()
