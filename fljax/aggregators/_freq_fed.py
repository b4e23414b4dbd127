"""FreqFed: the majority whose low frequencies hang together."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.layers import checked_layers, low_frequencies
from fljax.aggregators.registry import register_rule
from fljax.base import Info, Layers
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import ArgumentError, option, shaped
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.linkage import majority_component
from fljax.numerics.safe import finite_rows


@register_rule(
    title="FreqFed", assumes="n > 2f; bounds no row", source="Fereidooni et al. 2024", surrogate="angle"
)
def freq_fed(
    updates: Array,
    layers: Layers | Any,
    params: Array | None = None,
    *,
    on: Literal["updates", "models"] = "updates",
) -> tuple[Array, Info]:
    """Mean of the majority that hangs together by the angles of its tensors' low frequencies (FreqFed).

    Every tensor is a matrix (outputs, all else), a vector one of a single row. With V its orthonormal
    two-dimensional discrete cosine transform (type II) and t = ⌊min(shape) / 2⌋, the entries V_kl with
    k + l ≤ t of all tensors make up a row's features. HDBSCAN clusters the rows by the cosine distances of
    their features, with `min_cluster_size` ⌊n/2⌋ + 1, `min_samples` 1 and a single cluster allowed: the first
    single-linkage cluster that holds a majority. g is the mean of its rows.

    A heuristic with fewer than n/2 malicious rows in mind. It looks at directions only: the length of a row
    is not bounded; put `clip` in front of it. Where the rows fall into two halves, everybody is kept. A row
    with a non-finite entry (or feature) is left out; without another row the result is 0.

    Args:
        updates: (n, d).
        layers: the tensors that a row is made of, `Layers` or a list of their shapes; the last axis is that
            of the outputs.
        params: (d,) w, the global model; only needed for `on="models"`.
        on: what is transformed: "updates" g_i, or "models" w + g_i.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the layers do not make up a row, shapes do not fit, or params is missing.

    Example:
        >>> rows = jnp.array([[1.0, 2.0, 0.5], [2.0, 1.0, 0.4], [1.5, 1.5, 0.6], [-9.0, -9.0, 9.0]])
        >>> freq_fed.explained(rows, Layers([(2, 1), (1,)]))[1]["selected"].tolist()
        [True, True, True, False]

    Source: Fereidooni, Pegoraro, Rieger, Dmitrienko, Sadeghi, "FreqFed: a frequency analysis-based approach
    for mitigating poisoning attacks in federated learning", NDSS 2024. The abstract transforms "the model
    updates (i.e., weights)"; which of the two, and the size of clusters, are those of SafeFL's port (2026),
    which pads nothing and has no noise either.
    """
    layers = checked_layers(layers, updates.shape[1])
    option("on", on, ("updates", "models"))
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    features = low_frequencies(jnp.where(finite[:, None], fixed, 0.0), layers)
    origin = None
    if on == "models":
        if params is None:
            raise ArgumentError('on="models" needs params, the global model')
        center = jax.lax.stop_gradient(shaped("params", params, updates.shape[1:])).astype(updates.dtype)
        origin = low_frequencies(center[None], layers)[0]
    valid = finite & jnp.all(jnp.isfinite(features), axis=1)
    distances = cosine_distances(jnp.where(valid[:, None], features, 0.0), origin)
    update, selected = mean_of_rows(majority_component(distances, valid), updates)
    return jnp.where(jnp.any(valid), update, 0.0), {"selected": selected}
