"""scikit-learn's embedded tables: split by the seed, standardised by what is trained on."""

import numpy as np
import pytest
from sklearn import datasets

from fljax.data import load


@pytest.mark.parametrize(
    ("name", "sizes", "classes"),
    [("breast_cancer", (455, 114), 2), ("wine", (142, 36), 3), ("diabetes", (353, 89), None)],
)
def test_tables(name, sizes, classes):
    data, again, other = load(name, seed=3), load(name, seed=3), load(name, seed=4)
    features, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    assert (len(data.train_y), len(data.test_y), data.num_classes) == (*sizes, classes)
    np.testing.assert_array_equal(data.train_x, again.train_x)
    assert not np.array_equal(data.train_y, other.train_y)
    np.testing.assert_allclose(data.train_x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.train_x.std(0), 1, atol=1e-5)
    assert abs(data.test_x.mean(0)).max() > 0.01  # not by what is tested
    # The same rows as the table's: undone, and put into an order of their own.
    x, y = np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])
    order = np.random.default_rng(3).permutation(len(labels))
    mean, deviation = (getattr(features[order[: sizes[0]]], what)(0) for what in ("mean", "std"))
    np.testing.assert_allclose(x * deviation + mean, features[order], rtol=1e-4, atol=1e-5)
    if classes is None:
        kept = labels[order[: sizes[0]]]
        y = y * kept.std() + kept.mean()
        assert data.train_y.dtype == np.float32
    np.testing.assert_allclose(y, labels[order], rtol=1e-4)
