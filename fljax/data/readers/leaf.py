"""Reading data sets in LEAF's layout: JSON files in `train/` and `test/`, with the examples of each user."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.data.readers.packed import check_fits
from fljax.errors import DataError
from fljax.files import read_regular, reading

# Bytes of a file; LEAF writes 50 to 100 writers into one, about 100 million bytes, and all of Shakespeare.
MOST = 4_000_000_000
# The characters of Shakespeare in the order of LEAF's models, which number them from 0.
LETTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
WINDOW = 80  # characters of an input
PIXELS = 28
NUM_CHARACTERS = 62  # digits, capital letters, small letters


class Part(NamedTuple):
    """All files of one part."""

    users: list[str]  # who has examples, in ascending order
    x: np.ndarray
    y: np.ndarray
    owners: np.ndarray  # (N,) int32 positions in `users`


Convert = Callable[[Any, Any], tuple[np.ndarray, np.ndarray]]


def images(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """A writer's characters: rows of 28 × 28 grey levels in [0, 1] and numbers of classes, as arrays.

    Raises:
        ValueError: they are something else.
    """
    values, labels = np.asarray(x), np.asarray(y)
    if values.dtype.kind not in "iuf" or values.shape != (len(labels), PIXELS**2):
        raise ValueError(f"x is {values.dtype} {values.shape}, expected rows of {PIXELS**2} numbers")
    if not (values.min() >= 0 and values.max() <= 1):  # also true of NaN
        raise ValueError("x has a number outside [0, 1]")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= NUM_CHARACTERS:
        raise ValueError(f"y must be whole numbers from 0 to {NUM_CHARACTERS - 1}")
    return values.astype(np.float32).reshape(-1, PIXELS, PIXELS, 1), labels.astype(np.int32)


def characters(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """A role's windows of 80 characters, and the character after each, as positions in `LETTERS`.

    Raises:
        ValueError: they are something else.

    Example:
        >>> x, y = characters(["To be, or not to be".rjust(80)], [":"])
        >>> x.shape, "".join(LETTERS[place] for place in x[0, -5:]), y.tolist()
        ((1, 80), 'to be', [21])
    """
    for name, texts, length in (("x", x, WINDOW), ("y", y, 1)):
        if not all(isinstance(text, str) and len(text) == length for text in texts):
            raise ValueError(f"{name} must be texts of {length} character{'s' * (length != 1)}")
    return _positions(x).reshape(-1, WINDOW), _positions(y)


_PLACES = np.full(128, -1, np.int32)
_PLACES[[ord(letter) for letter in LETTERS]] = np.arange(len(LETTERS))


def _positions(texts: list[str]) -> np.ndarray:
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    places = np.where(codes < 128, _PLACES[np.minimum(codes, 127)], -1)
    if (places < 0).any():
        raise ValueError(f"{chr(codes[places < 0][0])!r} is none of LEAF's {len(LETTERS)} characters")
    return places.astype(np.int32)


def find(root: Path, name: str) -> Path | None:
    """The folder with `train/` and `test/`: the data set's own, or `data/` in it, as LEAF makes it."""
    folders = (root / name, root / name / "data")
    return next((folder for folder in folders if (folder / "train").is_dir()), None)


def read(folder: Path, convert: Convert) -> tuple[Part, Part]:
    """Read both parts.

    Args:
        folder: of `find`.
        convert: `images` or `characters`.

    Returns:
        The training and the test part; users without examples are in neither.

    Raises:
        DataError: a file is missing, damaged, too large, or not in the layout.
    """
    train, test = (read_part(folder / part, convert) for part in ("train", "test"))
    return train, test


def read_part(folder: Path, convert: Convert) -> Part:
    """Read all JSON files of a folder; arguments and errors as for `read`."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder}: not found, or no .json file in it")
    users: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in paths:
        for user, data in read_file(path, convert).items():
            if user in users:
                raise DataError(f"{path}: user {user[:80]!r} is in an earlier file, too")
            users[user] = data
    if not users:
        raise DataError(f"{folder}: nobody has an example")
    names = sorted(users)
    check_fits(f"{folder}: its examples take", sum(x.nbytes for x, _ in users.values()))
    x, y = (np.concatenate([users[name][i] for name in names]) for i in (0, 1))
    owners = np.repeat(np.arange(len(names), dtype=np.int32), [len(users[name][1]) for name in names])
    return Part(names, x, y, owners)


def read_file(path: Path, convert: Convert) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The examples of each user in one file; of the others only what they are needed for is kept.

    Raises:
        DataError: as `read`.
    """
    with reading(path, "is not in LEAF's layout"):
        text = read_regular(path, MOST)
        check_fits(f"{path}: reading it takes", 2 * len(text))
        return _File(path, text.decode("utf-8"), convert).users()


class _File:
    """One file, decoded user by user: as Python's lists a whole file would be six times as large."""

    def __init__(self, path: Path, text: str, convert: Convert) -> None:
        self.path, self.text, self.convert = path, text, convert
        self.decoder = json.JSONDecoder()
        self.lists: dict[str, Any] = {}
        self.arrays: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.sizes: dict[str, int] = {}

    def users(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        end = self._skip(self._members(self._skip(0), self._part))
        if end != len(self.text):
            raise ValueError("something follows its end")
        users, counts = self.lists.get("users"), self.lists.get("num_samples")
        if not isinstance(users, list) or not isinstance(counts, list) or len(users) != len(counts):
            raise ValueError("users and num_samples must be lists of the same length")
        for user, count in zip(users, counts, strict=True):
            if not isinstance(user, str) or user not in self.sizes:
                raise ValueError(f"user {str(user)[:80]!r} has no entry in user_data")
            if type(count) is not int or count != self.sizes[user]:
                told = f"{str(count)[:20]} examples, but has {self.sizes[user]}"
                raise ValueError(f"num_samples gives user {user[:80]!r} {told}")
        # LEAF leaves the entries of users that it dropped, without examples.
        return {user: self.arrays[user] for user in users if user in self.arrays}

    def _part(self, key: str, at: int) -> int:
        if key == "user_data":
            return self._members(at, self._user)
        self.lists[key], end = self.decoder.raw_decode(self.text, at)
        return end

    def _user(self, user: str, at: int) -> int:
        entry, end = self.decoder.raw_decode(self.text, at)
        if user in self.sizes:
            raise ValueError(f"user {user[:80]!r} occurs twice")
        x, y = (entry.get(key) if isinstance(entry, dict) else None for key in "xy")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise ValueError(f"user {user[:80]!r} must have lists x and y of the same length")
        self.sizes[user] = len(y)
        if y:
            try:
                self.arrays[user] = self.convert(x, y)
            except (ValueError, TypeError, OverflowError) as error:
                raise DataError(f"{self.path}: user {user[:80]!r}: {str(error)[:200]}") from None
        return end

    def _members(self, at: int, visit: Callable[[str, int], int]) -> int:
        """Go through an object's members; `visit(key, start of the value) -> its end`. Returns the end."""
        at = self._skip(self._expect("{", at))
        while self.text[at : at + 1] != "}":
            start = at
            key, at = self.decoder.raw_decode(self.text, at)
            if not isinstance(key, str):
                raise ValueError(f"a name is expected at character {start:,}")
            at = self._skip(visit(key, self._skip(self._expect(":", self._skip(at)))))
            if self.text[at : at + 1] == ",":
                at = self._skip(at + 1)
            elif self.text[at : at + 1] != "}":
                raise ValueError(f"',' or '}}' is expected at character {at:,}")
        return at + 1

    def _expect(self, mark: str, at: int) -> int:
        if self.text[at : at + 1] != mark:
            raise ValueError(f"{mark!r} is expected at character {at:,}")
        return at + 1

    def _skip(self, at: int) -> int:
        while self.text[at : at + 1] in (" ", "\n", "\r", "\t"):
            at += 1
        return at
