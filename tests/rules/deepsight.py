"""DeepSight: rows, reference and wrong versions."""

import jax
import numpy as np

from fljax.numerics.hdbscan import hdbscan
from tests.rules.case import RuleCase
from tests.rules.foolsgold import cosine, finite_rows
from tests.rules.norm_filter import no_longer_than_honest
from tests.rules.rounding import ROUNDING, wide
from tests.rules.sign_guard import clipped_mean


def softmax(logits):
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


_clusters = jax.jit(hdbscan, static_argnames=("min_cluster_size", "min_samples", "allow_single_cluster"))


def together_in(distances, min_cluster_size, min_samples, single=False):
    """Which rows share a cluster. The clustering itself is compared with scikit-learn's elsewhere."""
    how = {"min_cluster_size": min_cluster_size, "min_samples": min_samples, "allow_single_cluster": single}
    valid = np.ones(len(distances), bool)
    labels = np.asarray(_clusters(np.asarray(distances, np.float32), valid, **how))
    return ((labels[:, None] == labels) & (labels >= 0)) | np.eye(len(labels), dtype=bool)


def euclidean(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def shares_of_energy(kernel, bias, squared=True):
    energies = np.abs(bias) + np.abs(kernel).sum(0)
    energies = energies**2 if squared else energies
    total = energies.sum()
    return energies / total if total > 0 else np.full(len(energies), 1 / len(energies))


def deepsight(
    updates,
    params,
    noise,
    head,
    predict,
    root_x,
    num_samples=1000,
    num_draws=3,
    min_cluster_size=5,
    min_samples=3,
    max_share=1 / 3,
    squared=True,
    halved=True,
    merges=("bias", "shares", "changes"),
    ratio=True,
    clips=True,
    inverted=False,
    each_draw=False,
):
    everything = wide(updates)
    present = finite_rows(everything)
    if not present:
        return np.zeros(everything.shape[1])
    rows, center = everything[present], wide(params)
    size = head.num_features * head.num_classes
    kernels = rows[:, head.kernel : head.kernel + size].reshape(len(rows), head.num_features, -1)
    biases = rows[:, head.bias : head.bias + head.num_classes]
    shares = np.array([shares_of_energy(*pair, squared) for pair in zip(kernels, biases, strict=True)])
    limit = max(0.01, 1 / head.num_classes) * shares.max(1, keepdims=True)
    count = (shares > limit).sum(1)
    suspicious = count <= np.median(count) / (2 if halved else 1)

    clustering = {"min_cluster_size": min_cluster_size, "min_samples": min_samples}
    apart = {
        "shares": [~together_in(euclidean(shares), **clustering)],
        "bias": [~together_in([[1 - cosine(a, b) for b in biases] for a in biases], **clustering)],
        "changes": [],
    }
    for x in wide(noise):
        before = softmax(predict(center, x))
        after = [softmax(predict(center + row, x)) for row in rows]
        change = np.array([(each / (before + 1e-6) if ratio else each).mean(0) for each in after])
        apart["changes"].append(~together_in(euclidean(change), **clustering))
    parts = [apart[name] for name in merges]
    parts = [[each] for part in parts for each in part] if each_draw else parts
    merged = np.mean([np.mean(part, axis=0) for part in parts], axis=0)
    together = together_in(merged, **clustering, single=True)
    share = [np.mean(suspicious[row]) for row in together]
    kept = [i for i, part in enumerate(share) if (part < max_share) != inverted]
    middle = np.median(np.linalg.norm(rows, axis=1)) if clips else np.inf
    return clipped_mean(rows, kept, middle)


def noise_of(updates, params, key, head, predict, root_x, num_samples=1000, num_draws=3, **others):
    drawn = jax.random.uniform(key, (num_draws * num_samples, *root_x.shape[1:]), np.float32)
    noise = np.asarray(drawn).reshape(num_draws, num_samples, -1)
    return params, noise, head, predict, root_x


def no_longer_than_the_median(case, updates, others, result):
    norms = np.linalg.norm(wide(updates), axis=1)
    return bool(np.linalg.norm(wide(result)) <= np.median(norms) * (1 + 64 * ROUNDING) + 1e-30)


def deepsight_with(**changed):
    return lambda *arrays, **options: deepsight(*arrays, **{**options, **changed})


CASES = [
    RuleCase(
        "deepsight",
        deepsight,
        {"num_samples": 5, "max_share": 0.4, "min_cluster_size": size, "min_samples": samples},
        ("max_share",),
        arrays=("params", "key", "head", "predict", "root_x"),
        draws=noise_of,
        tolerated=5,
        hostile=no_longer_than_honest,
        translation=False,
        scaling=(),
        accepts=no_longer_than_the_median,
        largest=12,  # the reference needs many seconds at 129 rows
    )
    for size, samples in ((2, 1), (5, 3))
]


MUTANTS = {
    "deepsight": {
        "energies not squared": deepsight_with(squared=False),
        "the median count": deepsight_with(halved=False),
        "no cosines": deepsight_with(merges=("shares", "changes")),
        "no shares of energy": deepsight_with(merges=("bias", "changes")),
        "no predictions": deepsight_with(merges=("bias", "shares")),
        "predictions not compared": deepsight_with(ratio=False),
        "every draw counts": deepsight_with(each_draw=True),
        "not clipped": deepsight_with(clips=False),
        "keeps the suspicious": deepsight_with(inverted=True),
        "a smaller share": deepsight_with(max_share=0.15),
        "one draw": lambda updates, params, noise, *arrays, **options: deepsight(
            updates, params, noise[:1], *arrays, **options
        ),
    }
}
