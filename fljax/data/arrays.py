"""Data sets from anyone's arrays, or from an `.npz` file that holds them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fljax.data.dataset import Dataset, is_mapped, scaled
from fljax.data.readers.packed import map_npz
from fljax.data.readers.packed import read_npz as read_npz_arrays
from fljax.errors import ConfigError, DataError, listed

KEYS = ("train_x", "train_y", "test_x", "test_y", "client_ids", "test_client_ids")


def from_arrays(
    train_x: Any,
    train_y: Any,
    test_x: Any = None,
    test_y: Any = None,
    *,
    num_classes: int | None = None,
    client_ids: Any = None,
    test_client_ids: Any = None,
    tokens: bool = False,
    regression: bool = False,
    test_share: float = 0.2,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """A data set from arrays; what is not float32 and int32 is converted.

    Inputs of type uint8 are taken for pixels and divided by 255; every other number becomes float32 as it is
    (so an image in int16 keeps its 0 to 255), unless they are `tokens`. Without a test set, a random
    `test_share` is held out, inside each client where there are client ids.

    Args:
        train_x: (N, *input_shape) numbers, at least two dimensions: NumPy, JAX, or what NumPy can convert. A
            mapped file of float32 (`np.load(..., mmap_mode="r")`) is not read before clients train.
        train_y: (N,) whole numbers, 0 to M − 1, of any integer type; with `tokens` also (N, T), a class after
            every token; with `regression` (N,) or (N, k) real numbers.
        test_x: (N_test, *input_shape) of the same kind, or None.
        test_y: (N_test,), given if and only if `test_x` is.
        num_classes: M; None for the largest label + 1.
        client_ids: (N,) who each training example belongs to, for the partition `by_client`: integers or
            strings, any values; clients are numbered in their sorted order.
        test_client_ids: (N_test,) of the same kind; whoever is no training client is nobody's.
        tokens: True for inputs that are whole numbers from 0 and stay so.
        regression: True for labels that are numbers to predict.
        test_share: share held out where there is no test set, in (0, 1); rounded down, but at least one
            example in all (with client ids: none of a client's only example).
        seed: of that choice.
        name: for messages and records.

    Returns:
        The `Dataset`, for `fljax.run(config, dataset=...)`.

    Raises:
        ConfigError: `test_share` or `num_classes` is out of range.
        DataError: the arrays do not fit together or hold something that is no finite number.

    Example:
        >>> images = np.zeros((10, 4, 4, 1), np.uint8)
        >>> data = from_arrays(images, np.arange(10) % 2, client_ids=["ann"] * 5 + ["bob"] * 5)
        >>> data.train_x.dtype, len(data.train_y), np.bincount(data.client_ids).tolist()
        (dtype('float32'), 8, [4, 4])
    """
    if (test_x is None) != (test_y is None):
        raise DataError(f"{name}: test_x and test_y must be given together")
    if test_client_ids is not None and (client_ids is None or test_x is None):
        raise DataError(f"{name}: test_client_ids need client_ids and test_x")
    if regression and num_classes is not None:
        raise ConfigError(f"{name}: num_classes={num_classes}, but in regression there are no classes")
    inputs = _tokens if tokens else _inputs
    labels = _numbers if regression else partial(_labels, sequences=tokens)
    x, y = inputs(name, "train_x", train_x), labels(name, "train_y", train_y)
    _same_length(name, "train_x", x, "train_y", y)
    ids, test_ids = None, None
    if client_ids is not None:
        users, ids = _clients(name, "client_ids", client_ids, len(y))
    if test_x is None:
        test = _held_out(name, len(y), ids, test_share, seed)
        held_x, held_y = x[test], y[test]
        if is_mapped(x):
            raise DataError(f"{name}: train_x is a mapped file, of which none can be held out: give test_x")
        x, y = x[~test], y[~test]
        if ids is not None:
            ids, test_ids = ids[~test], ids[test]
    else:
        held_x, held_y = inputs(name, "test_x", test_x), labels(name, "test_y", test_y)
        _same_length(name, "test_x", held_x, "test_y", held_y)
        if test_client_ids is not None:
            test_users, places = _clients(name, "test_client_ids", test_client_ids, len(held_y))
            number = {user: i for i, user in enumerate(users.tolist())}
            known = np.array([number.get(user, -1) for user in test_users.tolist()], np.int32)
            test_ids = known[places]
    if not regression:
        largest = max(int(y.max()), int(held_y.max()))
        if num_classes is None:
            num_classes = largest + 1
        elif largest >= num_classes:
            raise ConfigError(f"{name}: num_classes={num_classes}, but the labels go up to {largest}")
    return Dataset(x, y, held_x, held_y, num_classes, name, client_ids=ids, test_client_ids=test_ids)


def read_npz(path: Path, mapped: bool = False, **options: Any) -> Dataset:
    """A data set from an `.npz` file with the arguments of `from_arrays` as its arrays.

    Args:
        path: the file, with `train_x`, `train_y` and, if wanted, `test_x`, `test_y`, `client_ids` and
            `test_client_ids`.
        mapped: whether the training inputs stay in the file, which is then not compressed.
        **options: keyword arguments of `from_arrays`.

    Returns:
        The `Dataset`.

    Raises:
        ConfigError: an option is out of range.
        DataError: the file cannot be read, or its arrays are not a data set. Pickled objects are refused.
    """
    arrays: dict[str, Any] = map_npz(path) if mapped else read_npz_arrays(path)
    unknown, missing = sorted(set(arrays) - set(KEYS)), sorted(set(KEYS[:2]) - set(arrays))
    if unknown or missing:
        found = listed(arrays)
        raise DataError(
            f"{path}: arrays must be train_x, train_y and perhaps {', '.join(KEYS[2:])}, got {found}"
        )
    dataset = from_arrays(**arrays, **options)
    if mapped and not dataset.mapped:
        raise DataError(f"{path}: only a train_x of float32 can be mapped, got {arrays['train_x'].dtype}")
    return dataset


def _array(name: str, what: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: {what} is no array ({error})") from None


def _inputs(name: str, what: str, given: Any) -> np.ndarray:
    """Finite float32 inputs."""
    array = _array(name, what, given)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DataError(f"{name}: {what} holds {array.dtype}, expected real numbers")
    if array.ndim < 2:
        raise DataError(
            f"{name}: {what} has shape {array.shape}, expected examples first and at least one more dimension"
        )
    with np.errstate(over="ignore"):
        x = scaled(array) if array.dtype == np.uint8 else array.astype(np.float32, copy=False)
    if is_mapped(x):
        return x  # not read before it is needed
    # The sum is finite if everything is, and much cheaper to look at; else look at everything.
    with np.errstate(over="ignore", invalid="ignore"):
        bad = not np.isfinite(x.sum()) and not np.isfinite(x).all()
    if bad:
        row = int(np.argwhere(~np.isfinite(x))[0][0])
        raise DataError(f"{name}: {what} is not finite in float32 (example {row} first)")
    return x


def _tokens(name: str, what: str, given: Any) -> np.ndarray:
    """Whole numbers from 0 as int32."""
    array = _array(name, what, given)
    if array.dtype.kind not in "biu" or array.ndim < 2 or not array.size:
        raise DataError(
            f"{name}: {what} is {array.dtype} {array.shape}, expected whole numbers, examples first and at "
            "least one more dimension"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**31 - 1:
        raise DataError(f"{name}: {what} goes from {low} to {high}, expected tokens from 0")
    return array.astype(np.int32)


def _numbers(name: str, what: str, given: Any) -> np.ndarray:
    """Numbers to predict, as finite float32."""
    array = _array(name, what, given)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or not array.size:
        raise DataError(
            f"{name}: {what} is {array.dtype} {array.shape}, expected real numbers, (N,) or (N, k)"
        )
    with np.errstate(over="ignore"):
        y = array.astype(np.float32)
    if not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise DataError(f"{name}: {what} is not finite in float32 (example {row} first)")
    return y


def _labels(name: str, what: str, given: Any, sequences: bool = False) -> np.ndarray:
    """Labels as int32."""
    array = _array(name, what, given)
    if array.dtype.kind not in "biu":
        raise DataError(f"{name}: {what} holds {array.dtype}, expected whole numbers (an integer type)")
    if not (array.ndim == 1 or (sequences and array.ndim == 2)) or not array.size:
        raise DataError(f"{name}: {what} has shape {array.shape}, expected one label for each example, (N,)")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**31 - 1:
        raise DataError(f"{name}: {what} goes from {low} to {high}, expected 0 to the number of classes - 1")
    return array.astype(np.int32)


def _clients(name: str, what: str, given: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The clients in their sorted order, and the number of each example's, as int32."""
    array = _array(name, what, given)
    if array.shape != (count,) or array.dtype.kind not in "biuSU":
        raise DataError(
            f"{name}: {what} are {array.dtype} {array.shape}, expected integers or strings, ({count},)"
        )
    users, places = np.unique(array, return_inverse=True)
    return users, places.astype(np.int32)


def _same_length(name: str, what: str, x: np.ndarray, which: str, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise DataError(f"{name}: {len(x)} examples in {what}, but {len(y)} labels in {which}")


def _held_out(name: str, count: int, ids: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """A mask (N,) of the examples to test on."""
    if not 0 < share < 1:
        raise ConfigError(f"{name}: test_share={share} must be between 0 and 1, both excluded")
    if count < 2:
        raise DataError(f"{name}: {count} example cannot be split into a training and a test part")
    random = np.random.default_rng(seed)
    test = np.zeros(count, bool)
    groups = [np.arange(count)] if ids is None else np.split(np.argsort(ids, kind="stable"), _starts(ids))
    for group in groups:
        test[random.permutation(group)[: int(share * len(group) + 1e-9)]] = True
    if not test.any():
        largest = max(groups, key=len)
        if len(largest) < 2:
            raise DataError(
                f"{name}: every client has a single example, so that none can be held out for testing"
            )
        test[random.choice(largest)] = True
    return test


def _starts(ids: np.ndarray) -> np.ndarray:
    """The places at which the second, third, … client begins among the sorted ids."""
    return np.cumsum(np.bincount(ids))[:-1]
