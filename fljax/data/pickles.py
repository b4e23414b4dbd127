"""Reading the pickles in which CIFAR-10 was published, without running what a pickle could run."""

import io
import pickle
from typing import Any

import numpy as np

from fljax.errors import DataError


class _Array:
    """Stands in for a NumPy array; NumPy's own code never sees the file's contents."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Kind) or kind.code not in ("u1", "|u1") or fortran:
            raise pickle.UnpicklingError("an array that is not of unsigned bytes in C order")
        if isinstance(data, str):
            data = data.encode("latin1")
        self.value = np.frombuffer(data, np.uint8).reshape(shape)


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """How protocol 5 writes an array."""
    array = _Array()
    array.__setstate__((None, shape, kind, order != "C", data))
    return array


class _Kind:
    """Stands in for a NumPy dtype."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Byte order and flags, which a single byte has none of."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes into an old pickle."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("an encoding that is not latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows nothing but plain values and arrays of bytes."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[module, name]


def read_pickle(where: object, data: bytes) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and uint8 arrays.

    Every name in a pickle is looked up in a table of stand-ins; whatever else it names ends the reading,
    and neither imported modules nor NumPy's own code are called.

    Args:
        where: what the message names, usually the file.
        data: the pickle, of Python 2 or 3.

    Returns:
        The dictionary, its keys as str and its arrays as read-only uint8.

    Raises:
        DataError: it is no such pickle, or names anything else.

    Example:
        >>> read_pickle("file", pickle.dumps({b"labels": [1, 2]}))
        {'labels': [1, 2]}
    """
    try:
        values = _Reader(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damaged bytes can raise nearly anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(f"{where}: is not a pickle of plain values and bytes ({reason[:200]})") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: holds a {type(values).__name__}, expected a dictionary")
    plain = {}
    for key, value in values.items():
        text = key.decode("latin1") if isinstance(key, bytes) else str(key)
        plain[text] = value.value if isinstance(value, _Array) else value
    return plain
