"""Components by name: one kind of entry, one way to register it."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeVar, cast

from fljax.errors import ConfigError, first_line, unknown_name

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Installed packages announce here which of their modules register something.
PLUGINS = "fljax.plugins"


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

    def __init__(self, kind: str, /, **facts: Any) -> None:
        self.kind = kind
        self._facts = facts
        self._entries: dict[str, Entry] = {}

    def register(
        self,
        name: str | None = None,
        *,
        title: str | None = None,
        source: str = "",
        assumes: str = "",
        **facts: Any,
    ) -> Callable[[F], F]:
        """A decorator that makes a function known under a name, and returns it as it is.

        Args:
            name: what a configuration calls it: letters, digits, `_` and `-`, a letter first; default the
                function's name.
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
        for fact in facts:
            if fact not in self._facts:
                raise ValueError(f"{self.kind} {name}: {unknown_name('fact', fact, self._facts)}")

        def register(function: F) -> F:
            called: Any = getattr(function, "__name__", None) if name is None else name
            if not isinstance(called, str) or not _NAME.fullmatch(called):
                raise ValueError(
                    f"{self.kind}: a name has letters, digits, _ and -, a letter first, got {called!r}"
                )
            if not callable(function):
                raise ValueError(f"{self.kind} {called}: must be a function, got a {type(function).__name__}")
            known = self._entries.get(called)
            if known is not None and _origin(known.function) != _origin(function):
                raise ValueError(f"{self.kind} {called!r} is taken by {'.'.join(_origin(known.function))}")
            self._entries[called] = Entry(
                function,
                called,
                called if title is None else title,
                source,
                assumes,
                {**self._facts, **facts},
            )
            return function

        return register

    def remove(self, name: str) -> None:
        """Forget a name, as a notebook or a test does with one of its own."""
        del self._entries[name]

    def find(self, name: str, besides: Iterable[str] = ()) -> Entry:
        """The entry of a name that somebody typed, perhaps of an installed package's plugin.

        Args:
            name: what was typed.
            besides: names without an entry that the sentence offers, too.

        Raises:
            ConfigError: if there is none; the name that is nearest, or whose title is, is in its sentence.
        """
        if name not in self._entries:
            load_installed()
        if name not in self._entries:
            titles = {entry.title: entry.name for entry in self._entries.values()}
            raise ConfigError(unknown_name(self.kind, name, [*besides, *self._entries], titles))
        return self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def with_options(register: F) -> F:
    """Let a decorator that takes options be written without parentheses, too.

    Args:
        register: `register(name=None, **options)`, which returns a decorator.

    Example:
        >>> @with_options
        ... def named(name=None, *, mark="!"):
        ...     return lambda function: (name or function.__name__) + mark
        >>> @named
        ... def plain(): ...
        >>> plain, named("other", mark="?")(len)
        ('plain!', 'other?')
    """

    @functools.wraps(register)
    def call(name: Any = None, **options: Any) -> Any:
        return register(**options)(name) if callable(name) else register(name, **options)

    return cast(F, call)


def load_installed() -> None:
    """Import the plugins of installed packages, once; whoever shows a list of names calls this before.

    Raises:
        ConfigError: if one cannot be imported.
    """
    waiting = _installed()
    while waiting:
        point = waiting.pop()
        try:
            with plugin_errors(point.name):
                point.load()
        except ConfigError:
            waiting.append(point)  # to fail the next time, too
            raise


@functools.cache
def _installed() -> list[metadata.EntryPoint]:
    """The installed plugins that are not imported yet."""
    return sorted(metadata.entry_points(group=PLUGINS), key=lambda point: point.name, reverse=True)


@contextmanager
def plugin_errors(plugin: str) -> Iterator[None]:
    """Whatever goes wrong while a plugin is imported is a ConfigError that names it."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith("plugin ") else f"plugin {plugin}: {text}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"plugin {plugin} cannot be imported: {type(error).__name__}: {first_line(error)}"
        ) from error


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    """The module and the name that a function was defined with."""
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function))
