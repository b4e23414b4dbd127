"""FreqFed: rows, reference and wrong versions."""

import numpy as np
from scipy.fft import dctn

from tests.rules.case import RuleCase
from tests.rules.flame import at_least_half, cosine_distances, majority
from tests.rules.foolsgold import finite_rows
from tests.rules.lfighter import averages_some_rows
from tests.rules.rounding import wide


def features_of(row, layers, kind=2, norm="ortho", rest=0, vectors=True):
    found, start = [], 0
    for shape in layers.shapes:
        size = int(np.prod(shape))
        tensor = row[start : start + size].reshape(shape)
        start += size
        if not size or (len(shape) < 2 and not vectors):
            continue
        if len(shape) > 1:
            tensor = np.moveaxis(tensor, (-1, -2), (0, 1))
        matrix = tensor.reshape(tensor.shape[0] if len(shape) > 1 else 1, -1)
        changed = dctn(matrix, type=kind, norm=norm)
        low = min(matrix.shape) // 2 + rest
        found += [changed[i, j] for i, j in np.ndindex(*changed.shape) if i + j <= low]
    return np.array(found)


def freq_fed(updates, layers, params=None, on="updates", select=majority, **how):
    everything = wide(updates)
    present = finite_rows(everything)
    if not present:
        return np.zeros(everything.shape[1])
    rows = everything[present]
    features = np.array([features_of(row, layers, **how) for row in rows])
    origin = features_of(wide(params), layers, **how) if on == "models" else 0.0
    return rows[select(cosine_distances(features, origin))].mean(0)


def freq_fed_with(**changed):
    return lambda *arrays, **options: freq_fed(*arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "freq_fed",
        freq_fed,
        {"on": on},
        arrays=arrays,
        translation=False,
        accepts=averages_some_rows,
        largest=300,
    )
    for on, arrays in (("updates", ("layers",)), ("models", ("layers", "params")))
]


MUTANTS = {
    "freq_fed": {
        "the third transform": freq_fed_with(kind=3),
        "not orthonormal": freq_fed_with(norm="backward"),
        "one frequency more": freq_fed_with(rest=1),
        "one frequency fewer": freq_fed_with(rest=-1),
        "matrices alone": freq_fed_with(vectors=False),
        "half is enough": freq_fed_with(select=at_least_half),
        "everybody": freq_fed_with(select=lambda distances: np.arange(len(distances))),
    }
}
