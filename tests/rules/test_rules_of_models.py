"""Rules that look at a model's tensors or call it, on numbers worked out by hand."""

import numpy as np
import pytest

from fljax.aggregators import Layers, lasa
from tests.support.programs import jitted

lasa = jitted(lasa)

# Five rows alike and one hostile, of a model of four parameters.
ROWS = np.array(
    [
        (1.0, 0.5, -0.2, 0.3),
        (0.8, 0.6, -0.1, 0.4),
        (1.1, 0.4, -0.3, 0.1),
        (0.9, 0.7, 0.1, 0.2),
        (1.2, 0.3, -0.2, 0.5),
        (-3.0, 2.0, 4.0, -1.0),
    ],
    np.float32,
)


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        ("sparse", [0.968918, 0.438756, 0.0, 0.0]),
        ("dense", [0.968918, 0.491841, -0.123834, 0.249611]),
    ],
)
def test_lasa_chooses_rows_for_every_tensor(average, expected):
    # m = 3 of 4: the larger two entries of every row stay. Rows 1–5 are kept in the first tensor, 1–4 in the
    # second.
    update = lasa(ROWS, Layers([(2, 1), (2, 1)]), sparsity=0.25, average=average)
    np.testing.assert_allclose(update, expected, atol=2e-6)
