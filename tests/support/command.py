"""The command line in this process."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from fljax.cli.app import main

# They decide what the terminal is taken for, and where data are.
VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS", "FLJAX_DATA")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def command(monkeypatch, capsys, *first: str) -> Callable[..., Outcome]:
    """A function of words that runs `fljax FIRST WORDS`."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fljax", *first, *map(str, words)])
        with pytest.raises(SystemExit) as leave:
            main()
        return Outcome(leave.value.code or 0, *capsys.readouterr())

    return call
