"""A data set as arrays in memory, checked when it is made."""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from fljax.data.moments import Moments, moments
from fljax.errors import DataError


class Format(NamedTuple):
    """The form of a data set's examples: all that a model, a loss or an attack must fit.

    Attributes:
        input_shape: of one input.
        num_tokens: inputs are integers from 0 to num_tokens - 1; None for inputs of real numbers.
        label_shape: of one label: () for one class or number, (T,) for a class after every token or for T
            numbers.
        num_classes: M, labels are classes from 0 to M - 1; None for regression.
        moments: mean and deviation by which models get the inputs normalised; None for inputs as they are.
    """

    input_shape: tuple[int, ...]
    num_tokens: int | None
    label_shape: tuple[int, ...]
    num_classes: int | None
    moments: Moments | None = None

    @property
    def input_dtype(self) -> np.dtype:
        """The type of the inputs."""
        return np.dtype(np.float32 if self.num_tokens is None else np.int32)

    @property
    def one_class(self) -> bool:
        """True where every example belongs to one class."""
        return self.num_classes is not None and not self.label_shape

    @property
    def num_outputs(self) -> int:
        """The length of a model's last axis: M, or the number of numbers to predict."""
        return math.prod(self.label_shape) if self.num_classes is None else self.num_classes

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of a model's output for one example: (M,), (T, M) where every token has a class, (k,)."""
        return (*(self.label_shape if self.num_classes is not None else ()), self.num_outputs)

    def batch(self, size: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Shapes and types of the inputs and the labels of so many examples."""
        label = np.float32 if self.num_classes is None else np.int32
        return (
            jax.ShapeDtypeStruct((size, *self.input_shape), self.input_dtype),
            jax.ShapeDtypeStruct((size, *self.label_shape), label),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: classification, prediction of the next token, or regression.

    Args:
        train_x: (N_train, *input_shape) float32, or int32 tokens.
        train_y: (N_train,) int32 classes, 0 to num_classes - 1; (N_train, T) int32 for a class after every
            token; (N_train,) or (N_train, k) float32 numbers for regression.
        test_x: (N_test, *input_shape), of the same type.
        test_y: (N_test, ...), of the same type.
        num_classes: number of classes; None for regression.
        name: short name.
        client_ids: (N_train,) int32, the natural client of each training example, 0 to k - 1; None where
            there are no natural clients.
        source: where the arrays came from, for the record.
        notes: what a report on this data set has to say.
        test_client_ids: (N_test,) int32, the natural client of each test example, -1 for somebody who is
            none of the clients; None where it is not known.
        num_tokens: number of tokens that integer inputs are made of; None for the largest one + 1.
        normalize: whether models get the inputs less the training inputs' mean and divided by their standard
            deviation, of every channel of images and every feature of tables; the arrays stay as they are.

    Raises:
        DataError: the arrays do not fit together.

    Example:
        >>> x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1], np.int32)
        >>> data = Dataset(x, y, x[:2], y[:2], num_classes=2, name="mine")
        >>> data.input_shape
        (3,)
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int | None
    name: str
    client_ids: np.ndarray | None = None
    source: str = "arrays"
    notes: tuple[str, ...] = ()
    test_client_ids: np.ndarray | None = None
    num_tokens: int | None = None
    normalize: bool = False

    def __post_init__(self) -> None:
        tokens = self.train_x.dtype == np.int32
        wanted = np.dtype(np.int32 if tokens else np.float32), self._label_dtype()
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if (x.dtype, y.dtype) != wanted:
                types = f"{part}_x and {part}_y are {x.dtype} and {y.dtype}"
                raise DataError(f"{self.name}: {types}, expected {wanted[0]} and {wanted[1]}")
            if y.ndim not in (1, 2) or x.ndim < 2 or len(x) != len(y) or y.size == 0:
                raise DataError(f"{self.name}: {part}_x {x.shape} and {part}_y {y.shape} do not fit together")
            self._check_labels(part, y)
        for part in "xy":
            train, test = (getattr(self, f"{which}_{part}").shape[1:] for which in ("train", "test"))
            if train != test:
                what = "inputs" if part == "x" else "labels"
                raise DataError(f"{self.name}: {what} {train} in train_{part}, {test} in test_{part}")
        self._check_tokens(tokens)
        self._check_clients()
        if tokens and self.normalize:
            raise DataError(f"{self.name}: normalize is for real numbers, but the inputs are tokens")

    def _label_dtype(self) -> np.dtype:
        return np.dtype(np.float32 if self.num_classes is None else np.int32)

    def _check_labels(self, part: str, y: np.ndarray) -> None:
        if self.num_classes is None:
            if not np.isfinite(y).all():
                raise DataError(f"{self.name}: {part}_y is not finite")
        elif y.min() < 0 or y.max() >= self.num_classes:
            labels = f"{part}_y goes from {y.min()} to {y.max()}"
            raise DataError(f"{self.name}: {labels}, expected 0 to {self.num_classes - 1}")

    def _check_tokens(self, tokens: bool) -> None:
        if not tokens:
            if self.num_tokens is not None:
                raise DataError(f"{self.name}: num_tokens={self.num_tokens}, but the inputs are real numbers")
            return
        low = min(int(self.train_x.min()), int(self.test_x.min()))
        high = max(int(self.train_x.max()), int(self.test_x.max()))
        if self.num_tokens is None:
            object.__setattr__(self, "num_tokens", high + 1)
        if low < 0 or high >= (self.num_tokens or 0):
            tops = f"expected 0 to {(self.num_tokens or 0) - 1}" if low >= 0 else "expected 0 or more"
            raise DataError(f"{self.name}: tokens go from {low} to {high}, {tops}")

    def _check_clients(self) -> None:
        parts = ("client_ids", self.train_y), ("test_client_ids", self.test_y)
        for field, y in parts:
            ids = getattr(self, field)
            if ids is not None and (ids.dtype != np.int32 or ids.shape != y.shape[:1]):
                given = f"{field} are {ids.dtype} {ids.shape}"
                raise DataError(f"{self.name}: {given}, expected int32 {y.shape[:1]}")
        ids, tested = self.client_ids, self.test_client_ids
        if ids is None:
            if tested is not None:
                raise DataError(f"{self.name}: test_client_ids need client_ids")
            return
        users = np.unique(ids)
        if users[0] != 0 or users[-1] != len(users) - 1:
            raise DataError(f"{self.name}: client_ids must be 0 to k - 1, each of them used at least once")
        if tested is not None and (tested.min() < -1 or tested.max() >= len(users)):
            raise DataError(
                f"{self.name}: test_client_ids go from {tested.min()} to {tested.max()}, expected -1 to "
                f"{len(users) - 1}"
            )

    @property
    def mapped(self) -> bool:
        """True if the training inputs are in a mapped file."""
        return is_mapped(self.train_x)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train_x.shape[1:]

    @property
    def format(self) -> Format:
        """The form of the examples."""
        labels = self.train_y.shape[1:]
        return Format(self.input_shape, self.num_tokens, labels, self.num_classes, self._moments)

    @cached_property
    def _moments(self) -> Moments | None:
        return moments(self.train_x) if self.normalize else None

    def label_hash(self) -> str:
        """A fingerprint of all labels in their order, to tell whether two runs saw the same examples.

        Returns:
            The first 16 hex digits of the sha256 of train_y, then test_y, as little-endian int32 (float32
            for regression).

        Example:
            >>> x, y = np.zeros((2, 3), np.float32), np.array([0, 1], np.int32)
            >>> Dataset(x, y, x, y, num_classes=2, name="mine").label_hash()
            '7605713c8dae5653'
        """
        kind = "<f4" if self.num_classes is None else "<i4"
        data = self.train_y.astype(kind).tobytes() + self.test_y.astype(kind).tobytes()
        return hashlib.sha256(data).hexdigest()[:16]


def is_mapped(array: np.ndarray) -> bool:
    """True for a mapped file, or a view of one."""
    base: object = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is not None


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Grey levels 0..255 as float32 in [0, 1].

    Args:
        pixels: uint8, any shape.

    Returns:
        The same shape.

    Example:
        >>> scaled(np.array([0, 255], np.uint8)).tolist()
        [0.0, 1.0]
    """
    x = pixels.astype(np.float32)
    x /= 255
    return x
