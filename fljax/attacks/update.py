"""Attacks on the updates of malicious clients."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from fljax.aggregators.base import is_static
from fljax.attacks.base import Attack, Trigger, check_stack, malicious_rows, on_updates
from fljax.attacks.base import Task as _Task
from fljax.attacks.data import default_pixels, feature_trigger, pattern_trigger


def _row_sum(weights: Array, updates: Array) -> Array:
    """Σ_i weights_i g_i, written as a product, which a CPU does at memory speed."""
    return jnp.matmul(weights.astype(updates.dtype), updates, precision=Precision.HIGHEST)


def scale(updates: Array, malicious: Array, *, factor: float | Array | None = None) -> Array:
    """Scaling: every malicious row is multiplied by a factor.

    g'_i = factor · g_i for malicious i. With the factor n, one attacker's update survives averaging over n
    clients (model replacement).

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        factor: the factor; None for n, the number of rows.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> scale(jnp.ones((2, 1)), jnp.array([True, False]), factor=5.0).tolist()
        [[5.0], [1.0]]

    Source: Bagdasaryan et al., AISTATS 2020; Cao et al., NDSS 2021 (λ = n).
    """
    updates, malicious = check_stack("scale", updates, malicious)
    n = updates.shape[0]
    factor = jnp.asarray(n if factor is None else factor, updates.dtype)
    return jnp.where(malicious[:, None], factor * updates, updates)


def sign_flip(
    updates: Array,
    malicious: Array,
    *,
    of: Literal["own", "mean"] = "own",
    factor: float | Array = 1.0,
) -> Array:
    """Sign flipping: every malicious row becomes a negative multiple of an honest update.

    g'_i = −factor · g_i ("own"), or −factor · the mean of the honest rows ("mean").

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        of: "own" negates the attacker's own update (Blades, FLPoison, ByzPy), "mean" the mean of the honest
            rows (ByzFL), or of all rows if none is honest.
        factor: the magnitude; 1 in the codes above, larger ones drown the honest majority in a mean.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or `of` is neither.

    Example:
        >>> sign_flip(jnp.array([[1.0], [3.0]]), jnp.array([True, False])).tolist()
        [[-1.0], [3.0]]

    Source: Li et al., "RSA: Byzantine-robust stochastic aggregation methods", AAAI 2019.
    """
    updates, malicious = check_stack("sign_flip", updates, malicious)
    if of not in ("own", "mean"):
        raise ValueError(f'sign_flip: of={of!r} must be "own" or "mean"')
    source = updates
    if of == "mean":
        pool = _pool(malicious)
        known = jnp.where(pool[:, None], updates, 0.0)
        source = (_row_sum(pool, known) / jnp.sum(pool))[None, :]
    return jnp.where(malicious[:, None], -jnp.asarray(factor, updates.dtype) * source, updates)


def _pool(malicious: Array) -> Array:
    """The rows statistics are taken over: the honest ones, or all if there is none."""
    return ~malicious | jnp.all(malicious)


def _extreme(updates: Array, pool: Array, largest: bool) -> Array:
    """Largest or smallest value per coordinate over the pool, written so that XLA fuses it into one pass."""
    worst = -jnp.inf if largest else jnp.inf
    rows = [jnp.where(pool[i], updates[i], worst) for i in range(updates.shape[0])]
    return reduce(jnp.maximum if largest else jnp.minimum, rows)


def trim_attack(
    updates: Array,
    malicious: Array,
    key: Array,
    *,
    stretch: float | Array = 2.0,
    knowledge: Literal["full", "partial"] = "full",
    max_malicious: int | None = None,
) -> Array:
    """The Trim attack of Fang et al., against trimmed mean and median.

    Per coordinate j let s_j be the sign of the update before the attack (of the sum of all rows). Malicious
    values are drawn independently, uniformly just beyond the honest values on the side opposite to s_j: for
    s_j = −1 between w_max,j and the farther of `stretch`·w_max,j and w_max,j/`stretch`, for s_j = +1 between
    w_min,j and the farther of its two. With partial knowledge, from the mean μ_j and standard deviation σ_j
    (divided by m) of the attackers' own rows: ŝ_j = sign(μ_j), values uniform in [μ_j + 3σ_j, μ_j + 4σ_j]
    for ŝ_j = −1 and in [μ_j − 4σ_j, μ_j − 3σ_j] for ŝ_j = +1. Where the sign is 0, full knowledge sends 0
    and partial knowledge μ_j.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, the extremes are those of all rows.
        key: typed PRNG key; row i draws from `fold_in(key, i)`.
        stretch: b > 1, how far beyond the extreme.
        knowledge: "full" (all honest rows) or "partial" (the attackers' own).
        max_malicious: an upper bound on the number of malicious rows, to draw fewer random numbers; the
            result does not depend on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, `knowledge` is neither or a static `stretch` is not above 1.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [3.0], [9.0]])
        >>> crafted = trim_attack(rows, jnp.array([False, False, False, True]), jax.random.key(0))
        >>> bool(0.5 <= crafted[3, 0] <= 1.0)
        True

    Source: Fang et al., USENIX Security 2020, sections 3.3 and 3.4, where s is the direction of the attacked
    rule's own update. The FLTrust authors' demo takes the sign of the sum, as this does, but the extremes
    over all rows (and the server's update), and divides by U(1, 2) where this draws uniformly.
    """
    updates, malicious = check_stack("trim_attack", updates, malicious)
    n, d = updates.shape
    if knowledge not in ("full", "partial"):
        raise ValueError(f'trim_attack: knowledge={knowledge!r} must be "full" or "partial"')
    if is_static(stretch) and not stretch > 1:
        raise ValueError(f"trim_attack: stretch={stretch} must be larger than 1")
    if knowledge == "full":
        sign = jnp.sign(_row_sum(jnp.ones((n,)), updates))
        pool = _pool(malicious)
        low, high = _extreme(updates, pool, largest=False), _extreme(updates, pool, largest=True)
        extreme = jnp.where(sign > 0, low, high)
        # Beyond the extreme means downwards for s > 0 and upwards for s < 0: a value on that side of zero
        # is stretched, one on the other side shrunk towards zero.
        farther = jnp.where(sign * extreme > 0, extreme / stretch, extreme * stretch)
        near = jnp.where(sign == 0, 0.0, extreme)
        width = jnp.where(sign == 0, 0.0, farther - extreme)
    else:
        count = jnp.maximum(jnp.sum(malicious), 1)
        center = _row_sum(malicious, jnp.where(malicious[:, None], updates, 0.0)) / count
        # Two passes: a difference of squares would cancel.
        squares = jnp.where(malicious[:, None], jnp.square(updates - center), 0.0)
        deviation = jnp.sqrt(_row_sum(jnp.ones((n,)), squares) / count)
        sign = jnp.sign(center)
        near, width = center - 3.0 * sign * deviation, -sign * deviation

    rows = malicious_rows(malicious, max_malicious)

    # One row at a time: as one (m, d) expression, XLA recomputes the extremes over all n rows for each of the
    # m (140 ms against 50 ms at (100, 139,960), m = 20).
    def craft(row: Array) -> Array:
        draw = jax.random.uniform(jax.random.fold_in(key, row), (d,), updates.dtype)
        return near + width * draw

    crafted = jax.lax.map(craft, rows)
    return updates.at[rows].set(crafted, mode="drop")


def scaling_attack(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float | None = None,
    target: int = 0,
    poison_fraction: float = 0.5,
    pixels: Sequence[tuple[int, int]] | None = None,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """The Scaling attack: a backdoor trained into the malicious clients' updates, then scaled by n.

    Each malicious client appends copies of a fraction of its examples, with the trigger embedded and the
    target as their label, trains honestly on the augmented data (its weight in FedAvg stays its honest number
    of examples), and sends `factor` times its update. The
    share that is copied is not settled by the paper; 0.5 is this library's choice (SAFEFL draws it from
    U(0, 1] per client).

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        factor: None for n, the number of rows of the stack.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of the client's examples.
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if `poison_fraction` is negative or the trigger does not fit the inputs.

    Example:
        >>> attack = scaling_attack(image_shape=(8, 8, 1))
        >>> int(attack.trigger.embed(jnp.zeros((1, 8, 8, 1))).sum())
        4

    Source: Bagdasaryan et al., AISTATS 2020, as evaluated by Cao et al., NDSS 2021.
    """
    if not poison_fraction >= 0:
        raise ValueError(f"scaling_attack: poison_fraction={poison_fraction} must not be negative")
    if target < 0 or (num_classes is not None and target >= num_classes):
        raise ValueError(f"scaling_attack: target={target} is not one of the {num_classes} labels from 0")
    if image_shape is None and pixels is not None:
        raise ValueError(
            "scaling_attack: pixels are for images; the trigger on plain features is set by every"
        )
    if image_shape is None:
        embed = partial(feature_trigger, every=every, value=0.0 if value is None else value)
    else:
        where = tuple(pixels) if pixels is not None else default_pixels(*image_shape)
        embed = partial(pattern_trigger, pixels=where, value=1.0 if value is None else value)

    def poison_data(x: Array, y: Array, is_copy: Array) -> tuple[Array, Array]:
        mask = is_copy.reshape(is_copy.shape + (1,) * (x.ndim - is_copy.ndim))
        return jnp.where(mask, embed(x), x), jnp.where(is_copy, target, y)

    corrupting = on_updates(scale, _Task(num_classes=0), factor=factor)
    return corrupting._replace(
        poison_data=poison_data, copies=poison_fraction, trigger=Trigger(embed, target)
    )
