"""TOML from anyone: a bounded file, keys and tables of bounded depth, numbers that fit."""

import re
import tomllib
from pathlib import Path
from typing import Any

from fljax.files import read_regular

MOST_BYTES = 4_000_000
# Tables in tables, and parts of a dotted key; a configuration has five.
MOST_DEPTH = 32
TOO_LONG = "a whole number has more than 64 bits"
# The parser's time and memory grow with the square of a key's parts, so this comes before it.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}[ \t]*+\.[ \t]*+){{{MOST_DEPTH}}}")


def read_toml_file(path: Path) -> dict[str, Any]:
    """The values of one TOML file.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `MOST_BYTES`.
        ValueError: it is not TOML, or more than TOML must be able to hold.
    """
    return parse_toml(read_regular(path, MOST_BYTES).decode("utf-8-sig"))


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ValueError: it is not TOML, goes deeper than `MOST_DEPTH`, or holds a whole number beyond 64 bits.

    Example:
        >>> parse_toml("local.steps = 2")
        {'local': {'steps': 2}}
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MOST_DEPTH} parts")
    too_deep = f"tables or lists are more than {MOST_DEPTH} deep"
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # thousands of digits
        raise ValueError(TOO_LONG) from None
    waiting: list[tuple[Any, int]] = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, (dict, list)):
            if depth > MOST_DEPTH:
                raise ValueError(too_deep)
            items = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in items]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(TOO_LONG)
    return values
