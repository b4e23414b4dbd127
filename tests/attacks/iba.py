"""IBA: rows, reference of its mark and wrong versions; its search is in test_iba.py."""

import jax
import numpy as np

from fljax.attacks.generators import new_generator
from tests.attacks.case import AttackCase


def drawn(generator, x, last=np.tanh, inner=lambda values: np.maximum(values, 0)):
    """T(x): three convolutions of 3×3, by sums over shifted images."""
    values = np.asarray(x, np.float64)
    for number, (kernel, bias) in enumerate(generator):
        height, width = values.shape[1:3]
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
        values = sum(
            padded[:, i : i + height, j : j + width] @ np.asarray(kernel[i, j], np.float64)
            for i in range(3)
            for j in range(3)
        ) + np.asarray(bias)
        values = inner(values) if number < 2 else last(values)
    return values


def iba(
    x, y, is_copy, member, target=0, final_strength=0.05, seed=0, ready=False, size=None, clip=True, **how
):
    """Nguyen et al. 2023, before the first search: nothing is poisoned, and the mark is measured."""
    x, y = np.array(x), np.array(y)
    if member is None or ready:
        generator = new_generator(jax.random.key(seed), x.shape[-1])
        strength = final_strength if size is None else size
        marked = x + strength * drawn(generator, x, **how)
        marked = np.clip(marked, 0, 1) if clip else marked
        x, y = np.where(is_copy[:, None, None, None], marked, x), np.where(is_copy, target, y)
    return x, y


CASES = [
    AttackCase("iba", data=iba),
    AttackCase("iba", data=iba, hyper={"target": 3, "final_strength": 0.6, "seed": 2}, variant="clear"),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: iba(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "iba": {
        "at once": _with(ready=True),
        "as strong as at first": _with(size=0.3),
        "another generator": _with(seed=1),
        "another label": _with(target=5),
        "not clipped": _with(clip=False),
        "no bound": _with(last=lambda values: values),
        "linear": _with(inner=lambda values: values),
    }
}
