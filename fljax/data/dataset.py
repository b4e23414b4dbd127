"""A data set as arrays in memory, checked when it is made."""

import hashlib
from dataclasses import dataclass

import numpy as np

from fljax.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set in memory.

    Args:
        train_x: (N_train, *input_shape) float32.
        train_y: (N_train,) int32, 0 to num_classes - 1.
        test_x: (N_test, *input_shape) float32.
        test_y: (N_test,) int32, 0 to num_classes - 1.
        num_classes: number of classes.
        name: short name.
        client_ids: (N_train,) int32, the natural client of each training example, 0 to k - 1; None where
            there are no natural clients.
        source: where the arrays came from, for the record.
        notes: what a report on this data set has to say.

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
    num_classes: int
    name: str
    client_ids: np.ndarray | None = None
    source: str = "arrays"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.dtype != np.float32 or y.dtype != np.int32:
                types = f"{part}_x and {part}_y are {x.dtype} and {y.dtype}"
                raise DataError(f"{self.name}: {types}, expected float32 and int32")
            if y.ndim != 1 or x.ndim < 2 or len(x) != len(y) or len(y) == 0:
                raise DataError(f"{self.name}: {part}_x {x.shape} and {part}_y {y.shape} do not fit together")
            if y.min() < 0 or y.max() >= self.num_classes:
                labels = f"{part}_y goes from {y.min()} to {y.max()}"
                raise DataError(f"{self.name}: {labels}, expected 0 to {self.num_classes - 1}")
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise DataError(
                f"{self.name}: inputs {self.train_x.shape[1:]} in train_x, {self.test_x.shape[1:]} in test_x"
            )
        ids = self.client_ids
        if ids is None:
            return
        if ids.dtype != np.int32 or ids.shape != self.train_y.shape:
            given = f"client_ids are {ids.dtype} {ids.shape}"
            raise DataError(f"{self.name}: {given}, expected int32 {self.train_y.shape}")
        users = np.unique(ids)
        if users[0] != 0 or users[-1] != len(users) - 1:
            raise DataError(f"{self.name}: client_ids must be 0 to k - 1, each of them used at least once")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train_x.shape[1:]

    def label_hash(self) -> str:
        """A fingerprint of all labels in their order, to tell whether two runs saw the same examples.

        Returns:
            The first 16 hex digits of the sha256 of train_y, then test_y, as little-endian int32.

        Example:
            >>> x, y = np.zeros((2, 3), np.float32), np.array([0, 1], np.int32)
            >>> Dataset(x, y, x, y, num_classes=2, name="mine").label_hash()
            '7605713c8dae5653'
        """
        data = self.train_y.astype("<i4").tobytes() + self.test_y.astype("<i4").tobytes()
        return hashlib.sha256(data).hexdigest()[:16]


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
