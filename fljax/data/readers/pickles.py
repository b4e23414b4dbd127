"""Reading the pickles in which CIFAR-10 was published, without running what a pickle could run.

A pickle is a program for a stack machine. This is a machine that knows lists, dictionaries, plain values and
arrays of bytes, looks names up in a table of stand-ins, and counts its steps.
"""

import pickletools
from typing import Any

import numpy as np

from fljax.errors import DataError
from fljax.files import reason

# A batch takes about 60,000: an opcode or three for each of 10,000 labels and names of files.
MOST_STEPS = 200_000


class _Array:
    """Stands in for a NumPy array; NumPy's own code never sees the file's contents."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Kind) or kind.code not in ("u1", "|u1") or fortran:
            raise ValueError("an array that is not of unsigned bytes in C order")
        if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
            raise ValueError("an array without a shape")
        data = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(data, np.uint8).reshape(shape)


class _Kind:
    """Stands in for a NumPy dtype."""

    def __init__(self, code: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def build(self, state: Any) -> None:
        """Byte order and flags, which a single byte has none of."""


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """An array as protocol 5 writes it."""
    array = _Array()
    array.build((None, shape, kind, order != "C", data))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes as Python 3 writes them into an old pickle."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("an encoding that is not latin1")
    return text.encode("latin1")


class _Name:
    """A name the pickle looks up, which the table of stand-ins has."""

    def __init__(self, name: str) -> None:
        if name not in _CALLS:
            raise ValueError(f"it names {name[:100]}")
        self.call = _CALLS[name]


_CALLS: dict[str, Any] = {
    "numpy.core.multiarray _reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray _reconstruct": lambda *_: _Array(),
    "numpy.core.numeric _frombuffer": _from_buffer,
    "numpy._core.numeric _frombuffer": _from_buffer,
    "numpy ndarray": lambda *_: _Array(),
    "numpy dtype": lambda code, *_: _Kind(code),
    "_codecs encode": _encode,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # of Python 2, where text was bytes
_PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_FRAMING = {"PROTO", "FRAME"}


class _Machine:
    """Runs a pickle's opcodes."""

    def __init__(self, most: int) -> None:
        self.left = most  # bytes that names may still make; one text can be asked for again and again
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PLAIN:
            stack.append(argument)
        elif name in _BYTES:
            stack.append(argument.encode("latin1"))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _PUT or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name not in _FRAMING:
            self._structure(name, argument)

    def _structure(self, name: str, argument: Any) -> None:
        """Opcodes that make lists, tuples and dictionaries or fill them, and those of objects."""
        if name in ("EMPTY_LIST", "LIST"):
            self.stack.append(self._items() if name == "LIST" else [])
        elif name in ("EMPTY_TUPLE", "TUPLE"):
            self.stack.append(tuple(self._items()) if name == "TUPLE" else ())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(name[-1]))))
        elif name in ("EMPTY_DICT", "DICT"):
            self.stack.append(_filled({}, self._items()) if name == "DICT" else {})
        elif name in ("APPEND", "APPENDS"):
            items = self._items() if name == "APPENDS" else self._pop(1)
            _of(list, self.stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._items() if name == "SETITEMS" else self._pop(2)
            _filled(_of(dict, self.stack[-1]), items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(_Name(argument if name == "GLOBAL" else " ".join(self._pop(2))))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            made = _of(_Name, function).call(*_of(tuple, arguments))
            self.left -= len(made) if isinstance(made, bytes) else 0
            if self.left < 0:
                raise ValueError("it makes more bytes than it has")
            self.stack.append(made)
        elif name == "BUILD":
            (state,) = self._pop(1)
            _of((_Array, _Kind), self.stack[-1]).build(state)
        else:
            raise ValueError(f"it uses {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("too little on its stack")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _items(self) -> list[Any]:
        """The values put on the stack since the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in the wrong place")
    return value


def _filled(table: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Keys are text: hashing others, such as nested tuples, can take for ever."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        table[_of((str, bytes), key)] = value
    return table


def read_pickle(where: object, data: bytes, most: int = MOST_STEPS) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and uint8 arrays.

    Every name in a pickle is looked up in a table of stand-ins; whatever else it names ends the reading,
    and neither imported modules nor NumPy's own code are called.

    Args:
        where: what the message names, usually the file.
        data: the pickle, of Python 2 or 3.
        most: opcodes that it may take.

    Returns:
        The dictionary, its keys as str and its arrays as read-only uint8.

    Raises:
        DataError: it is no such pickle, names anything else, or takes more opcodes.

    Example:
        >>> import pickle
        >>> read_pickle("file", pickle.dumps({b"labels": [1, 2]}))
        {'labels': [1, 2]}
    """
    machine = _Machine(len(data))
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number > most:
                raise ValueError(f"it has more than {most:,} steps")
            if opcode.name != "STOP":
                machine.step(opcode.name, argument)
        (values,) = machine.stack
    except Exception as error:  # damaged bytes can raise nearly anything
        raise DataError(f"{where}: is not a pickle of plain values and bytes ({reason(error)})") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: holds a {type(values).__name__}, expected a dictionary")
    plain = {}
    for key, value in values.items():
        text = key.decode("latin1") if isinstance(key, bytes) else key
        plain[text] = value.value if isinstance(value, _Array) else value
    return plain
