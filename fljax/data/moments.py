"""The mean and the deviation of inputs, by which a model's inputs are normalised."""

from typing import NamedTuple

import numpy as np

# Examples whose squares are in memory at the same time.
_AT_ONCE = 1000


class Moments(NamedTuple):
    """Numbers of every channel, or of every feature; hashable, as a part of a data set's form.

    Attributes:
        mean: one number for every place of the inputs' last axis.
        deviation: likewise, positive.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def moments(x: np.ndarray) -> Moments:
    """The mean and the standard deviation over examples and all axes but the last.

    Args:
        x: (N, ..., C) real numbers: images by channel, rows of a table by feature.

    Returns:
        The `Moments`, as float32 has them; a constant channel has deviation 1.

    Example:
        >>> moments(np.array([[0.0, 5.0], [2.0, 5.0]], np.float32))
        Moments(mean=(1.0, 5.0), deviation=(1.0, 1.0))
    """
    flat = x.reshape(-1, x.shape[-1])
    mean = flat.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    rows = _AT_ONCE * max(1, len(flat) // len(x))
    for start in range(0, len(flat), rows):
        squares += np.square(flat[start : start + rows] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(flat))
    # Not of rounding alone.
    deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)
    return Moments(*(tuple(values.astype(np.float32).tolist()) for values in (mean, deviation)))
