"""A small sweep, and lines of its cells beside each other."""

from typing import Any

import pytest

BASE: dict[str, Any] = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 8,
    "data": {"name": "synthetic", "num_train": 200, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
    "local": {"steps": 2, "batch_size": 8},
}


def assert_alike(mine, others) -> None:
    """Lines of two cells but for their times: null where the others are, and equal up to rounding."""
    assert len(mine) == len(others)
    for left, right in zip(mine, others, strict=True):
        for name in left.keys() - {"seconds"}:
            if left[name] is None or right[name] is None:
                assert left[name] is right[name], name
            else:
                assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-5), name
