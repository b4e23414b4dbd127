"""The server's root dataset: a small clean sample that no client keeps."""

import numpy as np
from numpy.typing import ArrayLike

from fljax.data.partitions.index_table import Seed, as_generator
from fljax.errors import ConfigError


def root_dataset(
    labels: ArrayLike,
    seed: Seed,
    *,
    size: int = 100,
    bias: float | None = None,
    bias_class: int = 1,
    num_classes: int | None = None,
) -> np.ndarray:
    """Positions of the root examples, drawn without replacement.

    Case I (`bias=None`): uniform over all examples. Case II: ⌊size · bias⌋ examples come from `bias_class`,
    the rest is spread evenly over the other classes (fractions are carried from class to class, the last one
    takes what is left). `bias = 1/M` gives a stratified sample, the authors' demo's default.

    Args:
        labels: (N,) integers in [0, num_classes); with `bias=None` any labels (N, ...).
        seed: a whole number, a JAX key or a NumPy generator.
        size: |D_0|.
        bias: the bias probability in [0, 1], or None.
        bias_class: the class that Case II favours.
        num_classes: M; None for the largest label + 1.

    Returns:
        (size,) int32 positions, ascending.

    Raises:
        ConfigError: if a number is out of range or a class has too few examples.

    Example:
        >>> labels = np.arange(1000) % 10
        >>> np.bincount(labels[root_dataset(labels, 0, size=100, bias=0.4)]).tolist()
        [6, 40, 7, 7, 6, 7, 7, 6, 7, 7]

    Source: Cao et al., NDSS 2021, section V (Cases I and II) and the authors' demo.
    """
    labels = np.asarray(labels)
    random = as_generator(seed)
    if not 0 < size < len(labels):
        raise ConfigError(f"root: size={size} must be between 1 and {len(labels) - 1}, the training examples")
    if bias is None:
        return np.sort(random.choice(len(labels), size, replace=False)).astype(np.int32)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ConfigError(
            f"root: bias={bias} is about classes, and these examples do not have one each; take the uniform "
            "sample"
        )
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if not 0 <= bias <= 1:
        raise ConfigError(f"root: bias={bias} must be between 0 and 1")
    if not 0 <= bias_class < classes:
        raise ConfigError(f"root: bias_class={bias_class} must be between 0 and {classes - 1}")

    favoured = int(size * bias + 1e-9)  # 100 · 0.29 is 28.999… in binary
    others = [label for label in range(classes) if label != bias_class]
    edges = np.floor((size - favoured) / max(len(others), 1) * np.arange(len(others) + 1) + 1e-9)
    edges[-1] = size - favoured
    counts = {bias_class: favoured, **dict(zip(others, np.diff(edges).astype(int), strict=True))}
    picked = []
    for label, count in counts.items():
        available = np.flatnonzero(labels == label)
        if count > len(available):
            raise ConfigError(
                f"root: {count} examples of class {label} wanted (size={size}, bias={bias}), "
                f"but the data set has {len(available)}"
            )
        picked.append(random.choice(available, count, replace=False))
    return np.sort(np.concatenate(picked)).astype(np.int32)
