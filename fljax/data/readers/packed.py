"""Unpacking gzip, xz, zip and npz with a bound on what comes out, checked before it does.

A few megabytes can be packed so that they unpack to any size. Here no file is unpacked beyond what its format
can hold, and a header is believed only as far as the file behind it can bear it out.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from fljax.errors import DataError
from fljax.files import open_regular, reading

_CHUNK = 1 << 20
# An archive's directory is read in one piece; this is one of tens of thousands of entries.
_MOST_AT_ONCE = 4 << 20
# No deflated byte becomes more than 1,032 (zlib's documentation), and a stored one stays one.
_LARGEST_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
# Dictionaries of up to 64 MiB, as `xz -9` makes them.
_XZ_MEMORY = 100 << 20
_MOST_HEADER = 2000
MOST_NPZ = 1 << 40
# Where an archive's local header says how long its name and its extra field are.
_LOCAL_LENGTHS = 26


def gunzip(data: bytes, most: int) -> bytes:
    """Unpack a gzip file of one member.

    Args:
        data: the file.
        most: bytes to unpack; what follows them is not looked at.

    Returns:
        At most `most` bytes; fewer are all there are, and their checksum is right.

    Raises:
        ValueError: it is truncated, or something follows.
        zlib.error: it is damaged.

    Example:
        >>> import gzip
        >>> packed = gzip.compress(b"abc")
        >>> gunzip(packed, 10), gunzip(packed, 2)
        (b'abc', b'ab')
    """
    return _all_of(zlib.decompressobj(wbits=31), data, most)


def unxz(data: bytes, most: int) -> bytes:
    """Unpack an xz file of one stream, as `gunzip` does gzip.

    Raises:
        ValueError: it is truncated, or something follows.
        lzma.LZMAError: it is damaged, or would need more memory than `xz -9` asks for.

    Example:
        >>> unxz(lzma.compress(b"abc"), 10)
        b'abc'
    """
    return _all_of(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), data, most)


def _all_of(decoder: Any, data: bytes, most: int) -> bytes:
    unpacked = decoder.decompress(data, most)
    if len(unpacked) < most and not decoder.eof:
        raise ValueError("it ends too early")
    if decoder.unused_data.strip(b"\0"):
        raise ValueError("something follows its end")
    return unpacked


class _InPieces:
    """A binary file that hands out no more than a few megabytes at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data = b"" if size > _MOST_AT_ONCE else self._file.read(size if size >= 0 else _MOST_AT_ONCE + 1)
        if size > _MOST_AT_ONCE or len(data) > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("a directory of too many entries")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Open an archive whose entries are stored or deflated and claim no more than their bytes can hold.

    Args:
        file: open, of known size.

    Returns:
        The archive.

    Raises:
        zipfile.BadZipFile, ValueError, ...: it is damaged, or its directory is not true.
    """
    pieces: Any = _InPieces(file)
    archive = zipfile.ZipFile(pieces)
    size = file.seek(0, 2)
    for info in archive.infolist():
        if info.compress_type not in _LARGEST_RATIO:
            raise zipfile.BadZipFile(f"{info.filename!r} is packed in another way than stored or deflated")
        largest = _LARGEST_RATIO[info.compress_type] * info.compress_size
        if info.compress_size > size or info.file_size > largest + 64:
            claim = f"{info.file_size:,} bytes, more than its {info.compress_size:,} can hold"
            raise zipfile.BadZipFile(f"{info.filename!r} claims {claim}")
    return archive


def read_some(file: Any, most: int) -> bytes:
    """All of an open archive's entry, up to one byte more than `most`."""
    pieces, left = [], most + 1
    while left and (piece := file.read(min(left, _CHUNK))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """An entry of at most `most` bytes.

    Raises:
        DataError: it has more.
        zipfile.BadZipFile, zlib.error, ...: it is damaged.
    """
    if (size := archive.getinfo(name).file_size) > most:
        raise DataError(f"{archive.filename}/{name}: {size:,} bytes, expected at most {most:,}")
    with archive.open(name) as file:
        return read_some(file, most)


def read_npz(path: Path, shapes: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file; pickled objects are refused.

    Args:
        path: the file.
        shapes: names to bytes that the arrays may have; None for any names, and what the memory holds.

    Returns:
        The arrays by name.

    Raises:
        DataError: the file cannot be read, or an array is larger than allowed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "file.npz"
        >>> np.savez(path, x=np.arange(3))
        >>> read_npz(path)
        {'x': array([0, 1, 2])}
    """
    what = "cannot be read as an .npz file of plain arrays"
    with reading(path, what), open_regular(path, MOST_NPZ) as file, open_zip(file) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if missing := sorted(shapes.keys() - entries.keys()) if shapes else []:
            raise DataError(f"{path}: holds no array {', '.join(missing)}")
        if shapes is not None:
            entries = {name: entries[name] for name in shapes}
        check_fits(f"{path}: its arrays take", sum(info.file_size for info in entries.values()))
        for name, most in (shapes or {}).items():
            if entries[name].file_size > most + _MOST_HEADER:
                raise DataError(
                    f"{path}: {name} has {entries[name].file_size:,} bytes, expected at most {most:,}"
                )
        for info in entries.values():  # all of them, before the first is unpacked
            with archive.open(info) as entry:
                _header(entry, info)
        return {name: _array(archive, info) for name, info in entries.items()}


def map_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file that `np.savez` wrote, mapped and not read.

    Args:
        path: the file; its arrays are stored, not compressed.

    Returns:
        The arrays by name, read-only.

    Raises:
        DataError: the file cannot be read, or an array is compressed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "file.npz"
        >>> np.savez(path, x=np.arange(3))
        >>> {name: type(array).__name__ for name, array in map_npz(path).items()}
        {'x': 'memmap'}
    """
    what = "cannot be read as an .npz file of plain arrays"
    arrays: dict[str, np.ndarray] = {}
    with reading(path, what), open_regular(path, MOST_NPZ) as file, open_zip(file) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise DataError(
                    f"{path}: {info.filename} is compressed, so that it cannot be mapped (np.savez)"
                )
            with archive.open(info) as entry:
                shape, fortran, dtype = _header(entry, info)
                header = entry.tell()
            # The local header ends in a name and an extra field, whose lengths are in it.
            file.seek(info.header_offset + _LOCAL_LENGTHS)
            lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
            begin = info.header_offset + _LOCAL_LENGTHS + 4 + lengths + header
            arrays[info.filename.removesuffix(".npy")] = np.memmap(
                path, dtype, "r", begin, shape, "F" if fortran else "C"
            )
    return arrays


def check_fits(what: str, size: int) -> None:
    """Check that so many bytes are free.

    Args:
        what: the beginning of the message.
        size: bytes.

    Raises:
        DataError: they are not.

    Example:
        >>> check_fits("x: its arrays take", 10)
    """
    free = psutil.virtual_memory().available
    if size > free:
        raise DataError(f"{what} {size / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free")


def _header(file: Any, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of one array, which must agree with the size of its entry."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{info.filename!r} is in version {version} of the format, not 1 or 2")
    header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = header(file, max_header_size=_MOST_HEADER)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{info.filename!r} holds {dtype}, no numbers or text")
    wanted, present = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
    if min(shape, default=0) < 0 or wanted != present:
        raise ValueError(f"{info.filename!r} announces {dtype} {shape}, but holds {present:,} bytes")
    return shape, fortran, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file, info)
        wanted = info.file_size - file.tell()
        data, filled = np.empty(wanted, np.uint8), 0
        while piece := file.read(_CHUNK):  # the last, empty one checks the entry's CRC
            data[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
        if filled != wanted:
            raise ValueError(f"{info.filename!r} ends too early")
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")
