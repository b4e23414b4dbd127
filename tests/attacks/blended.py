"""The blended backdoor: rows, reference and wrong versions."""

import jax
import numpy as np

from tests.attacks.backdoors import in_copies, versions
from tests.attacks.case import AttackCase


def blended(x, y, is_copy, member, target=0, opacity=0.2, seed=0, scale=1.0, **labels):
    """Chen et al. 2017; the pattern is what the documentation promises."""
    pattern = scale * np.asarray(jax.random.uniform(jax.random.key(seed), x.shape[1:]))
    marked = np.array([(1 - opacity) * image + opacity * pattern for image in x], np.float32)
    return in_copies(x, y, is_copy, marked, target, member, **labels)


CASES = [
    AttackCase("blended", data=blended),
    AttackCase("blended", data=blended, hyper={"opacity": 0.6, "seed": 3, "target": 2}, variant="clear"),
]


def _with(**changes):
    return lambda x, y, is_copy, member, **hyper: blended(x, y, is_copy, member, **{**hyper, **changes})


DATA_MUTANTS = {
    "blended": {
        **versions(blended),
        "another pattern": _with(seed=1),
        "the pattern added": lambda x, y, is_copy, member, opacity=0.2, **hyper: (
            blended(x, y, is_copy, member, opacity=opacity, **hyper)[0]
            + opacity * x * is_copy[:, None, None, None],
            blended(x, y, is_copy, member, **hyper)[1],
        ),
        "the other part": lambda x, y, is_copy, member, opacity=0.2, **hyper: blended(
            x, y, is_copy, member, opacity=1 - opacity, **hyper
        ),
        "half a pattern": _with(scale=0.5),
    }
}
