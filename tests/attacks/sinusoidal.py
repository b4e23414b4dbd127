"""The sinusoidal backdoor: rows, reference and wrong versions."""

import numpy as np

from tests.attacks.backdoors import in_copies, versions
from tests.attacks.case import AttackCase


def sinusoidal(
    x,
    y,
    is_copy,
    member,
    target=0,
    amplitude=20 / 255,
    frequency=6.0,
    clean_label=True,
    axis=1,
    first=0,
    clipped=True,
    **labels,
):
    """Barni et al. 2019."""
    marked = np.array(x, np.float64)
    for place in np.ndindex(x.shape[1:3]):
        column = place[axis] + first
        marked[:, *place] += amplitude * np.sin(2 * np.pi * frequency * column / x.shape[1 + axis])
    marked = (np.clip(marked, 0, 1) if clipped else marked).astype(np.float32)
    return in_copies(x, y, is_copy, marked, target, member, clean_label=clean_label, **labels)


CASES = [
    AttackCase("sinusoidal", data=sinusoidal, hyper={"target": 3, "frequency": 2.0}),
    AttackCase(
        "sinusoidal",
        data=sinusoidal,
        hyper={"clean_label": False, "amplitude": 0.4, "frequency": 3.0, "source": 4},
        variant="other labels",
    ),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: sinusoidal(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "sinusoidal": {
        **versions(sinusoidal),
        "along the rows": _with(axis=0),
        "from the first column": _with(first=1),
        "another frequency": _with(frequency=6.0),
        "another size": _with(amplitude=20 / 255),
        "every label": _with(clean_label=False),
        "not clipped": _with(clipped=False),
    }
}
