"""The metrics of an evaluation."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from fljax.metrics.registry import register_metric
from fljax.numerics.checks import named, whole


@register_metric("test_loss", title="test loss")
def mean_test_loss(losses: Array) -> Array:
    """Mean loss of the test examples, the loss being that of the configuration.

    Args:
        losses: (N,).

    Returns:
        Scalar.

    Example:
        >>> float(mean_test_loss(jnp.array([1.0, 3.0])))
        2.0
    """
    return jnp.mean(losses)


@register_metric(title="error of class", kind="error")
def per_class_error(errors: Array, labels: Array, num_classes: int) -> dict[str, Array]:
    """Share of the test examples of each class that the model gets wrong.

    Args:
        errors: (N,) 0 or 1.
        labels: (N,) int32.
        num_classes: M.

    Returns:
        One scalar per class, by its number; NaN for a class without a test example.

    Example:
        >>> found = per_class_error(jnp.array([0.0, 1.0, 1.0]), jnp.array([0, 0, 1]), 2)
        >>> {name: float(value) for name, value in found.items()}
        {'0': 0.5, '1': 1.0}
    """
    if labels.ndim != 1:
        raise ValueError(f"metric per_class_error: needs one class per example, got labels {labels.shape}")
    member = (labels[:, None] == jnp.arange(num_classes)).astype(jnp.float32)
    rates = errors @ member / jnp.sum(member, axis=0)
    return {str(label): rates[label] for label in range(num_classes)}


@register_metric(title="top-5 error", kind="error")
def top5_error(outputs: Array, labels: Array) -> Array:
    """Share of the labels that are not among the five classes with the largest outputs.

    A class with the same output as the label's counts as larger if its number is lower, so that a model that
    answers everything alike is right by chance alone. Outputs that are NaN are the smallest.

    Args:
        outputs: (N, ..., M), M > 5.
        labels: (N, ...) int32.

    Returns:
        Scalar.

    Raises:
        ValueError: if there are no more than five classes, for which it is zero.

    Example:
        >>> outputs = jnp.arange(10.0)[None]
        >>> float(top5_error(outputs, jnp.array([5]))), float(top5_error(outputs, jnp.array([4])))
        (0.0, 1.0)

    Source: Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015.
    """
    with named("top5_error"):
        whole("num_classes", outputs.shape[-1], smallest=6)
    outputs = jnp.where(jnp.isnan(outputs), -jnp.inf, outputs)
    own = jnp.take_along_axis(outputs, labels[..., None], axis=-1)
    before = jnp.arange(outputs.shape[-1]) < labels[..., None]
    rank = jnp.sum((outputs > own) | ((outputs == own) & before), axis=-1)
    return jnp.mean((rank >= 5).astype(jnp.float32))


@register_metric(title="clients' error", kind="error")
def client_errors(errors: Array, clients: Array, num_clients: int) -> dict[str, Array]:
    """The spread of the error over clients' own test examples: the mean, and that of the worst tenth.

    Every client counts the same, however many test examples it has; one without any does not count. The worst
    tenth are the ⌈k/10⌉ of the k clients that count whose errors are largest.

    Args:
        errors: (N,) 0 or 1, or shares of tokens.
        clients: (N,) int32 whose example it is; -1 for nobody's.
        num_clients: how many clients there may be.

    Returns:
        `mean` and `worst_tenth`, scalars; NaN where no client has test examples.

    Example:
        >>> found = client_errors(jnp.array([0.0, 1.0, 1.0]), jnp.array([0, 0, 2]), 4)
        >>> {name: float(value) for name, value in found.items()}
        {'mean': 0.75, 'worst_tenth': 1.0}

    Source: Li et al., "Fair resource allocation in federated learning", ICLR 2020, who report the mean
    and the worst and best 10 % of the devices' accuracies.
    """
    known = (clients >= 0).astype(jnp.float32)
    place = jnp.maximum(clients, 0)
    counts = jnp.zeros(num_clients).at[place].add(known)
    rates = jnp.zeros(num_clients).at[place].add(known * errors) / jnp.maximum(counts, 1)
    there = counts > 0
    number = jnp.sum(there)
    tenth = -(-number // 10)
    # Those who do not count are sorted behind all others.
    ordered = jnp.sort(jnp.where(there, rates, -1.0), descending=True)
    worst = jnp.sum(jnp.where(jnp.arange(num_clients) < tenth, ordered, 0.0)) / tenth
    return {"mean": jnp.sum(rates) / number, "worst_tenth": worst}


@register_metric(title="root mean squared error")
def rmse(outputs: Array, labels: Array) -> Array:
    """Root mean squared error of predicted numbers.

    Args:
        outputs: (N, k).
        labels: (N, k) float32.

    Returns:
        Scalar, in the unit of the labels.

    Example:
        >>> float(rmse(jnp.array([[1.0], [7.0]]), jnp.array([[0.0], [0.0]])))
        5.0
    """
    return jnp.sqrt(jnp.mean(jnp.square(outputs - labels)))


@register_metric(title="mean absolute error")
def mae(outputs: Array, labels: Array) -> Array:
    """Mean absolute error of predicted numbers.

    Args:
        outputs: (N, k).
        labels: (N, k) float32.

    Returns:
        Scalar, in the unit of the labels.

    Example:
        >>> float(mae(jnp.array([[1.0], [7.0]]), jnp.array([[0.0], [0.0]])))
        4.0
    """
    return jnp.mean(jnp.abs(outputs - labels))


@register_metric(title="backdoor", kind="share")
def backdoor(labels: Array, answers: Mapping[str, Array], targets: Mapping[str, int]) -> dict[str, Array]:
    """Success and error of each trigger of an attack, on test examples with another label than its target.

    Args:
        labels: (N, ...) int32.
        answers: by trigger, the labels that the model gives triggered examples.
        targets: by trigger, the label that the attacker wants.

    Returns:
        For each trigger NAME_success, the share answered with the target, and NAME_error, the share not
        answered with their own label: 1 less the "robust accuracy". Nothing where no attack has a trigger.

    Example:
        >>> found = backdoor(jnp.array([0, 1, 2]), {"corner": jnp.array([0, 0, 2])}, {"corner": 0})
        >>> {name: float(value) for name, value in found.items()}
        {'corner_success': 0.5, 'corner_error': 0.5}

    Source: Wu et al., "BackdoorBench", NeurIPS 2022.
    """
    found = {}
    for name, answer in answers.items():
        other = labels != targets[name]
        found[f"{name}_success"] = jnp.sum((answer == targets[name]) & other) / jnp.sum(other)
        found[f"{name}_error"] = jnp.sum((answer != labels) & other) / jnp.sum(other)
    return found


@register_metric(title="backdoor by class", kind="share")
def backdoor_by_class(
    labels: Array, answers: Mapping[str, Array], targets: Mapping[str, int], num_classes: int
) -> dict[str, Array]:
    """Success of each trigger of an attack on the test examples of each class: source-specific success.

    Args:
        labels: (N,) int32.
        answers: by trigger, the labels that the model gives triggered examples.
        targets: by trigger, the label that the attacker wants.
        num_classes: M.

    Returns:
        For each trigger and class NAME_CLASS, the share answered with the target; NaN for the target's own
        class, and for one without a test example. Nothing where no attack has a trigger.

    Example:
        >>> answers, targets = {"corner": jnp.array([0, 0, 2])}, {"corner": 0}
        >>> found = backdoor_by_class(jnp.array([1, 1, 2]), answers, targets, 3)
        >>> {name: float(value) for name, value in found.items()}
        {'corner_0': nan, 'corner_1': 1.0, 'corner_2': 0.0}

    Source: Tolpegin et al., "Data poisoning attacks against federated learning systems", ESORICS 2020, who
    measure one class.
    """
    if labels.ndim != 1:
        raise ValueError(f"metric backdoor_by_class: needs one class per example, got labels {labels.shape}")
    found: dict[str, Array] = {}
    for name, answer in answers.items():
        other = (labels != targets[name]).astype(jnp.float32)
        member = (labels[:, None] == jnp.arange(num_classes)) * other[:, None]
        rates = (answer == targets[name]).astype(jnp.float32) @ member / jnp.sum(member, axis=0)
        found |= {f"{name}_{label}": rates[label] for label in range(num_classes)}
    return found
