"""Components by name: one kind of entry, one way to register it."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fljax.errors import ConfigError, unknown_name

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Entry:
    """A component that a configuration can name.

    Attributes:
        function: the public function, class or factory; its signature says which parameters there are.
        name: what a configuration calls it.
        title: what the literature calls it, for tables and figures.
        source: where it was published, with the year.
        assumes: what it relies on: for a rule the bound on n and f, for an attack what the attacker knows.
        facts: what else its kind records of it, by the names that the registry declares.
    """

    function: Callable[..., Any]
    name: str
    title: str
    source: str = ""
    assumes: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Mapping[str, Entry]):
    """The components of one kind, in the order in which they were registered.

    Args:
        kind: what one of them is called in messages: "rule", "attack".
        facts: the facts that an entry may have beside those of every kind, and their defaults.

    Example:
        >>> rules = Registry("rule", mixes_rows=False)
        >>> @rules.register("first", title="First row")
        ... def first(updates):
        ...     '''The first row.'''
        ...     return updates[0]
        >>> rules["first"].title, rules["first"].summary, rules["first"].facts
        ('First row', 'The first row.', {'mixes_rows': False})
    """

    def __init__(self, kind: str, **facts: Any) -> None:
        self.kind = kind
        self._facts = facts
        self._entries: dict[str, Entry] = {}

    def register(
        self, name: str, *, title: str | None = None, source: str = "", assumes: str = "", **facts: Any
    ) -> Callable[[F], F]:
        """A decorator that makes a function known under a name, and returns it as it is.

        Args:
            name: what a configuration calls it: letters, digits, `_` and `-`, a letter first.
            title: what tables and figures call it; default the name.
            source: where it was published, with the year.
            assumes: what it relies on.
            **facts: those that the registry declares.

        Returns:
            The decorator.

        Raises:
            ValueError: for a name that is taken by another function or no name, or an unknown fact. The same
                function defined once more, as in a notebook, takes its own place.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{self.kind}: a name has letters, digits, _ and -, a letter first, got {name!r}"
            )
        for fact in facts:
            if fact not in self._facts:
                raise ValueError(f"{self.kind} {name}: {unknown_name('fact', fact, self._facts)}")

        def register(function: F) -> F:
            if not callable(function):
                raise ValueError(f"{self.kind} {name}: must be a function, got a {type(function).__name__}")
            known = self._entries.get(name)
            if known is not None and _origin(known.function) != _origin(function):
                raise ValueError(f"{self.kind} {name!r} is taken by {'.'.join(_origin(known.function))}")
            self._entries[name] = Entry(
                function, name, name if title is None else title, source, assumes, {**self._facts, **facts}
            )
            return function

        return register

    def find(self, name: str) -> Entry:
        """The entry of a name that somebody typed.

        Raises:
            ConfigError: if there is none; the nearest name is in its sentence.
        """
        if name not in self._entries:
            raise ConfigError(unknown_name(self.kind, name, self._entries))
        return self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    """The module and the name that a function was defined with."""
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function))
