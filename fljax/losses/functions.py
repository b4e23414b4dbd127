"""The losses of a batch's examples."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fljax.losses.registry import register_loss
from fljax.numerics.checks import fixed_real, named


@register_loss(title="cross-entropy", labels="classes")
def cross_entropy(outputs: Array, labels: Array, *, label_smoothing: float = 0.0) -> Array:
    """Softmax cross-entropy, −Σ_c t_c log softmax(z)_c with t = (1 − s)·onehot(y) + s/M.

    Args:
        outputs: (..., M) logits z.
        labels: (...) int32 classes y.
        label_smoothing: s in [0, 1], spread over all M classes, the example's own among them.

    Returns:
        (...) losses.

    Raises:
        ValueError: if `label_smoothing` is out of range.

    Example:
        >>> round(float(cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0]), 3)
        1.386

    Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016. PyTorch
    smooths alike.
    """
    with named("cross_entropy"):
        smoothing = fixed_real("label_smoothing", label_smoothing, at_least=0.0, at_most=1.0)
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
    if smoothing == 0:
        return losses
    uniform = jax.nn.logsumexp(outputs, axis=-1) - jnp.mean(outputs, axis=-1)
    return (1 - smoothing) * losses + smoothing * uniform


@register_loss(title="squared error")
def mse(outputs: Array, labels: Array) -> Array:
    """Squared error, the mean over the outputs of (z − t)².

    Args:
        outputs: (b, k) predictions z, or (..., M) for classes.
        labels: numbers t, (b, k) or for k = 1 (b,); or (...) int32 classes, of which t is the one-hot vector,
            as in classification by the square loss.

    Returns:
        One loss per label: (b,), or (...).

    Example:
        >>> mse(jnp.array([[3.0]]), jnp.array([1.0])).tolist()
        [4.0]
        >>> mse(jnp.array([[1.0, 1.0]]), jnp.array([0])).tolist()
        [0.5]

    Source: for classes Hui and Belkin, "Evaluation of neural architectures trained with square loss vs
    cross-entropy in classification tasks", ICLR 2021, without their rescaling. The mean over the outputs is
    that of PyTorch's MSELoss; many papers write ½‖z − t‖² instead.
    """
    return jnp.mean(jnp.square(outputs - targets(outputs, labels)), axis=-1)


@register_loss(title="Huber loss")
def huber(outputs: Array, labels: Array, *, delta: float = 1.0) -> Array:
    """Huber's loss, the mean over the outputs of e²/2 where |e| ≤ δ and δ(|e| − δ/2) elsewhere, e = z − t.

    Args:
        outputs: (b, k) predictions z, or (..., M) for classes.
        labels: numbers t, or classes as for `mse`.
        delta: δ > 0, in the unit of the labels.

    Returns:
        One loss per label: (b,), or (...).

    Raises:
        ValueError: if `delta` is not positive.

    Example:
        >>> huber(jnp.array([[3.0], [0.5]]), jnp.array([0.0, 0.0])).tolist()
        [2.5, 0.125]

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    with named("huber"):
        fixed_real("delta", delta, above=0.0, finite=True)
    return jnp.mean(optax.huber_loss(outputs, targets(outputs, labels), delta=delta), axis=-1)


@register_loss(title="binary cross-entropy", labels="classes")
def binary_cross_entropy(outputs: Array, labels: Array) -> Array:
    """A sigmoid σ for each class c against the rest, the mean of −log σ(z_c) for c = y and −log σ(−z_c) else.

    Args:
        outputs: (..., M) logits z.
        labels: (...) int32 classes y.

    Returns:
        (...) losses.

    Example:
        >>> round(float(binary_cross_entropy(jnp.zeros((1, 2)), jnp.array([1]))[0]), 3)
        0.693

    Source: the mean over the outputs is that of PyTorch's BCEWithLogitsLoss.
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(outputs, targets(outputs, labels)), axis=-1)


def targets(outputs: Array, labels: Array) -> Array:
    """The targets of outputs (..., M): one-hot vectors of classes, or numbers in their shape."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
    return labels.reshape(outputs.shape)
