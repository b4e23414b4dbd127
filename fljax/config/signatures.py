"""Parameters of a component, read from its function's signature and checked against it.

A component in a configuration is a table, `{name = "krum", num_malicious = 20}`. What it may hold is what
the function takes by keyword; there is no second list.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import jax
import pydantic

from fljax.errors import ConfigError, unknown_name


def keyword_parameters(
    function: Callable[..., Any], hidden: Iterable[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """`{name: (type, default)}` of the keyword-only parameters; no default is pydantic's `...`.

    Args:
        function: a rule, an attack, a loader, a partition.
        hidden: parameters that something else provides.

    Example:
        >>> def f(x, *, trim: int | jax.Array, power: int = 2): ...
        >>> keyword_parameters(f)
        {'trim': (<class 'int'>, Ellipsis), 'power': (<class 'int'>, 2)}
    """
    hints = typing.get_type_hints(function.func if isinstance(function, functools.partial) else function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in hidden:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            found[name] = (_without_arrays(hints.get(name, Any)), default)
    return found


@functools.lru_cache(maxsize=256)
def traceable_parameters(
    function: Callable[..., Any], hidden: Iterable[str] = ()
) -> dict[str, tuple[type, Any]]:
    """`{name: (int or float, default)}` of the keyword parameters that may also be a traced array.

    Example:
        >>> def f(x, *, trim: int | jax.Array, power: int = 2, scale: float | jax.Array = 1.0): ...
        >>> traceable_parameters(f)
        {'trim': (<class 'int'>, Ellipsis), 'scale': (<class 'float'>, 1.0)}
    """
    hints = typing.get_type_hints(function.func if isinstance(function, functools.partial) else function)
    found: dict[str, tuple[type, Any]] = {}
    for name, (_, default) in keyword_parameters(function, hidden).items():
        options = typing.get_args(hints.get(name, Any))
        if jax.Array in options and (int in options or float in options):
            found[name] = (float if float in options else int, default)
    return found


def _without_arrays(hint: Any) -> Any:
    """A type as a file can give it: unions lose their array members."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kept = tuple(option for option in typing.get_args(hint) if option is not jax.Array)
        return typing.Union[kept]  # noqa: UP007 - built from a tuple
    return hint


def check_parameters(
    where: str,
    parameters: Mapping[str, tuple[Any, Any]],
    given: Mapping[str, Any],
    shared: Collection[str] = (),
) -> dict[str, Any]:
    """Validate `given` against `parameters`.

    Args:
        where: the configuration key, for the message.
        parameters: as `keyword_parameters` returns them.
        given: values from the configuration.
        shared: what every table of this kind may hold besides, for the message.

    Returns:
        The validated values; parameters that were not given are left out.

    Raises:
        ConfigError: for an unknown, missing or mistyped parameter, naming the valid ones.

    Example:
        >>> check_parameters("aggregator", {"trim": (int, ...)}, {"trim": 3})
        {'trim': 3}
    """
    for name in given:
        if name not in parameters:
            if not parameters:
                near = get_close_matches(name, shared, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"{where}: takes no parameters, got {name!r}{hint}")
            raise ConfigError(f"{where}: {unknown_name('parameter', name, [*parameters, *shared])}")
    try:
        model = _model_of(tuple(parameters.items()))
    except TypeError:  # a default that cannot be hashed
        model = _model_of.__wrapped__(tuple(parameters.items()))
    try:
        checked = model.model_validate({name: _tuples(value) for name, value in given.items()})
    except pydantic.ValidationError as error:
        raise ConfigError(one_sentence(error, where)) from None
    values = checked.model_dump()
    for name in given:
        if (number := _too_large(values[name])) is not None:
            raise ConfigError(
                f"{where}.{name}: must fit into 32 bits, -2147483648 to 2147483647, got {number}"
            )
    return {name: values[name] for name in given}


@functools.lru_cache(maxsize=256)
def _model_of(parameters: tuple[tuple[str, tuple[Any, Any]], ...]) -> type[pydantic.BaseModel]:
    """Made once for a function's parameters: it takes longer than all checks of a sweep."""
    strict = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    fields: dict[str, Any] = dict(parameters)
    return pydantic.create_model("Parameters", __config__=strict, **fields)


def _too_large(value: Any) -> int | None:
    """A whole number in a value that no 32-bit integer can be, which is what arrays are made of."""
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := _too_large(item)) is not None), None)
    beyond = isinstance(value, int) and not -(2**31) <= value < 2**31
    return value if beyond else None


def _tuples(value: Any) -> Any:
    """Lists, which are all a file has, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def explain(error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str = "") -> str:
    """The first problem with a table as one sentence; an unknown key comes with the nearest valid one."""
    unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
    if not unknown:
        return one_sentence(error, where)
    *parents, key = map(str, unknown[0])
    table: Any = model
    for parent in parents:
        if parent in getattr(table, "model_fields", {}):
            table = table.model_fields[parent].annotation
            tables = [each for each in typing.get_args(table) if hasattr(each, "model_fields")]
            # A table that may be missing; of a union of several tables pydantic names the member.
            table = tables[0] if len(tables) == 1 and typing.get_args(table)[1:] == (type(None),) else table
        else:  # a union; pydantic names its member
            table = next(each for each in typing.get_args(table) if getattr(each, "__name__", "") == parent)
    if not where and not parents and key == "sweep":
        return "this file has a [sweep] table; run it with: fljax sweep"
    place = ".".join(([where] if where else []) + [part for part in parents if not part[:1].isupper()])
    sentence = unknown_name("key", key, [f.alias or name for name, f in table.model_fields.items()])
    return f"{place}: {sentence}" if place else sentence


def one_sentence(error: pydantic.ValidationError, where: str = "") -> str:
    """The first problem pydantic found, as one sentence that names the key and the value.

    A value that fits no member of a union has one problem per member; what they allow is joined by "or".
    """
    problems = [(_key(e["loc"]), e) for e in error.errors()]
    key, first = problems[0]
    if isinstance(first["input"], dict):
        # A table was given, so the table among the alternatives is what was meant.
        key, first = next((p for p in problems if p[0].startswith(f"{key}.")), problems[0])
    shown_key = ".".join(part for part in (where, key) if part)
    if first["type"] == "missing":
        near = get_close_matches(key.rpartition(".")[2], map(str, first["input"]), n=1)
        return f"{shown_key}: this parameter is required" + (f" (is {near[0]!r} meant?)" if near else "")
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    allowed = dict.fromkeys(_allowed(e["msg"]) for k, e in problems if k == key)
    shown = repr(first["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{shown_key}: must be {' or '.join(allowed)}, got {shown}"


def _key(location: tuple[int | str, ...]) -> str:
    """Dotted key of pydantic's location, without the parts that name a member of a union."""
    return ".".join(str(part) for part in location if not _is_type_tag(str(part)))


def _is_type_tag(part: str) -> bool:
    return (
        part in {"int", "float", "str", "bool"}
        or part.startswith("constrained-")
        or "[" in part
        or part[:1].isupper()
    )


_WORDS = (
    (r"^Input should be ", ""),
    (r"^(Tuple|List) should have at least (\d+) items? after validation.*", r"a list of at least \2"),
    (r"valid dictionary or instance of \w+", "table"),
    (r"valid (tuple|list)", "list"),
)


def _allowed(message: str) -> str:
    """The values that pydantic's message allows, in a TOML user's words."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message
