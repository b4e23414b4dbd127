"""DeepSight: clusters of models that look into their last layer, of which suspicious ones are left out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.layers import checked_head, of_head
from fljax.aggregators.models import called, of_models
from fljax.aggregators.registry import register_rule
from fljax.base import Head, Info
from fljax.numerics.checks import ArgumentError, Float, real, shaped, whole
from fljax.numerics.clipping import clipped_sum
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.hdbscan import hdbscan
from fljax.numerics.masked import masked_median
from fljax.numerics.safe import contained, safe_norms

# What is added to a probability before something is divided by it, as in all implementations.
SMALL = 1e-6


@register_rule(title="DeepSight", assumes="n > 2f; bounds the length", source="Rieger et al. 2022")
def deepsight(
    updates: Array,
    params: Array,
    key: Array,
    head: Head,
    predict: Callable[[Array, Array], Array],
    root_x: Array,
    *,
    num_samples: int = 1000,
    num_draws: int = 3,
    min_cluster_size: int = 5,
    min_samples: int = 3,
    max_share: Float = 1 / 3,
) -> tuple[Array, Info]:
    """Mean of the clusters of which few rows train on few labels, clipped to the median norm (DeepSight).

    With the change ΔW (h, M), Δb (M,) of row i in the last layer, its energies e_c = |Δb_c| + Σ_h |ΔW_hc|
    and shares NEUP_c = e_c² / Σ e², a row is suspicious if the number of classes with
    NEUP_c > max(0.01, 1/M) · max NEUP is at most half the median number. HDBSCAN clusters the rows by the
    cosines of Δb, by NEUP, and, for `num_draws` sets of uniform random inputs x, by
    DDif = mean_x softmax(predict(w + g_i, x)) / softmax(predict(w, x)). Two rows are as far apart as the
    share of clusterings that separate them, those by DDif together counting as one, and HDBSCAN clusters
    them anew, a single cluster allowed. A cluster counts if its suspicious share is below `max_share`; noise
    is a cluster by itself. Rows that count are clipped to the median norm of all rows and averaged.

    A heuristic with fewer than n/2 malicious rows in mind; ‖g‖ is at most the median norm, and so the longest
    honest norm. A row with a non-finite entry, norm or prediction is left out of every statistic. With no
    row that counts the result is 0.

    Args:
        updates: (n, d).
        params: (d,) w, the global model.
        key: typed PRNG key of the random inputs.
        head: the model's last layer.
        predict: `predict(params, x)` of parameters (d,) and inputs (b, ...), the logits (b, M); called
            n + 1 times.
        root_x: (r, ...) real inputs, of which only shape and type count.
        num_samples: random inputs in a set. The paper has 20,000.
        num_draws: sets.
        min_cluster_size: of HDBSCAN.
        min_samples: of HDBSCAN, k nearest others.
        max_share: τ; may be traced.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit, inputs are no real numbers, or a static argument is out of range.

    Example:
        >>> rows, w, key = jnp.eye(4, 9) + 1.0, jnp.ones(9), jax.random.key(0)
        >>> predict = lambda params, x: x @ params[3:].reshape(2, 3) + params[:3]
        >>> given = key, Head(3, 2, 3, bias=0), predict, jnp.ones((1, 2))
        >>> deepsight.explained(rows, w, *given, num_samples=10)[1]["selected"].tolist()
        [True, True, True, True]

    Source: Rieger, Nguyen, Miettinen, Sadeghi, "DeepSight: mitigating backdoor attacks in federated learning
    through deep model inspection", NDSS 2022; k is FLPoison's. BackFed keeps the clusters whose share of
    benign rows is small, takes the merged distances for features and divides logits; FLPoison drops noise;
    others have k = 5 or 1.
    """
    d = updates.shape[1]
    head, ask = checked_head(head, d), called("predict", predict)
    num_samples = whole("num_samples", num_samples, smallest=1)
    num_draws = whole("num_draws", num_draws, smallest=1)
    min_cluster_size = whole("min_cluster_size", min_cluster_size, smallest=2)
    min_samples = whole("min_samples", min_samples, smallest=1)
    max_share = real("max_share", max_share, above=0)
    if not jnp.issubdtype(jnp.result_type(root_x), jnp.floating):
        raise ArgumentError(f"needs inputs that are real numbers, got {jnp.result_type(root_x)}")
    stack = contained(updates)
    norms = safe_norms(stack)
    lengths = jax.lax.stop_gradient(norms.values / norms.shifts)
    fixed = jax.lax.stop_gradient(updates)
    center = jax.lax.stop_gradient(shaped("params", params, (d,)))
    finite = norms.finite & jnp.isfinite(lengths)

    x = jax.random.uniform(key, (num_draws * num_samples, *root_x.shape[1:]), jnp.float32)
    x = x.astype(root_x.dtype)
    before = jax.nn.softmax(ask(center, x)) + SMALL

    def ratios(model: Array) -> Array:
        ratio = jax.nn.softmax(ask(model, x)) / before
        return jnp.mean(ratio.reshape(num_draws, num_samples, -1), axis=1)

    changes = of_models(ratios, center, fixed, finite).astype(updates.dtype)
    valid = finite & jnp.all(jnp.isfinite(changes), axis=(1, 2))
    kernel, bias = of_head(fixed, head)
    shares, suspicious = _labels_trained_on(kernel, bias, valid)

    distances = [_distances(shares, valid)[None]]
    if bias is not None:
        distances.append(cosine_distances(jnp.where(valid[:, None], bias, 0.0))[None])
    distances.append(jax.vmap(_distances, (1, None))(changes, valid))

    def clusters(distances: Array, single: bool = False) -> Array:
        labels = hdbscan(
            distances,
            valid,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            allow_single_cluster=single,
        )
        together = (labels[:, None] == labels[None, :]) & (labels >= 0)
        return together | jnp.eye(len(labels), dtype=bool)

    separated = (~jax.vmap(clusters)(jnp.concatenate(distances))).astype(updates.dtype)
    by_layer, by_change = separated[:-num_draws], separated[-num_draws:]
    merged = (jnp.sum(by_layer, axis=0) + jnp.mean(by_change, axis=0)) / (len(by_layer) + 1)
    together = (clusters(merged, single=True) & valid).astype(updates.dtype)
    share = (together @ suspicious.astype(updates.dtype)) / jnp.maximum(jnp.sum(together, axis=1), 1.0)
    selected = valid & (share < max_share)
    middle = jnp.where(jnp.any(finite), masked_median(norms.values / norms.shifts, finite), 0.0)
    counted = selected.astype(updates.dtype) / jnp.maximum(jnp.sum(selected), 1)
    return clipped_sum(counted, stack, norms, middle), {"selected": selected}


def _labels_trained_on(kernel: Array, bias: Array | None, valid: Array) -> tuple[Array, Array]:
    """Every row's shares of energy (n, M), and whether they lie on few classes."""
    num_classes = kernel.shape[2]
    sizes = jnp.abs(kernel) if bias is None else jnp.concatenate([jnp.abs(kernel), jnp.abs(bias)[:, None]], 1)
    sizes = jnp.where(valid[:, None, None], sizes, 0.0)
    # In units of the largest entry nothing overflows.
    largest = jnp.max(sizes, axis=(1, 2))
    energies = jnp.sum(sizes / jnp.where(largest > 0, largest, 1.0)[:, None, None], axis=1)
    squares = jnp.where(largest[:, None] > 0, jnp.square(energies), 1.0)
    shares = squares / jnp.sum(squares, axis=1, keepdims=True)
    limit = max(0.01, 1 / num_classes) * jnp.max(shares, axis=1, keepdims=True)
    count = jnp.sum(shares > limit, axis=1).astype(kernel.dtype)
    return shares, valid & (count <= masked_median(count, valid) / 2)


def _distances(points: Array, valid: Array) -> Array:
    """Euclidean distances of all pairs of points (n, M); of points that are not valid any number."""
    points = jnp.where(valid[:, None], points, 0.0)
    return jnp.sqrt(jnp.sum(jnp.square(points[:, None] - points[None, :]), axis=2))
