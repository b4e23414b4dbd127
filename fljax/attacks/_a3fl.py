"""A trigger optimised against the model, and against models that unlearn it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks.poisoning import Mix, poisoned
from fljax.attacks.registry import register_attack
from fljax.attacks.training import cosine, cross_entropy
from fljax.attacks.wrappers import NO_ATTACK, from_factory
from fljax.base import Attack, Attackers, Params
from fljax.numerics.checks import ArgumentError, fixed_real, whole


class A3FLState(NamedTuple):
    """The memory of `a3fl`.

    Attributes:
        trigger: (s, s, channels), the patch t.
    """

    trigger: Array


@register_attack(
    title="A3FL",
    source="Zhang et al. 2023",
    assumes="own data, the model",
    optimises="durable backdoor",
    make=from_factory,
    streams=True,
)
def a3fl(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.25,
    size: int = 5,
    corner: int = 2,
    passes: int = 20,
    step: float = 0.01,
    renewed_every: int = 10,
    adversarial_epochs: int = 5,
    strength: float = 0.01,
    adversarial_rate: float = 0.01,
    batches: int = 8,
    batch_size: int = 64,
    mix: Mix = "replace",
) -> Attack:
    """A3FL: a patch trained to work on the global model and on models that have learnt to ignore it.

    Before anybody trains, the first malicious client of the round searches the patch t of all of them. It
    draws B batches of its examples and makes `passes` passes over them. In every K-th pass, from the first,
    it trains a copy θ' of the global model w on patched examples with their true labels, for e epochs of SGD
    with momentum 0.9 and weight decay 5e-4. Every batch moves the patch,

        t ← clip(t − β sign ∇_t [L_w(x ⊕ t, target) + λ0 cos(θ', w) L_θ'(x ⊕ t, target)], 0, 1),

    where L is the cross-entropy and ⊕ puts the patch in its place. Malicious clients then train as honest
    ones do on batches of which a share has the patch and the target's label. The patch is kept from round to
    round, and the success is that of the latest.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels).
        target: the label the attacker wants.
        poison_fraction: ρ, the share of every batch; with `mix="copies"` as for `badnets`.
        size: s, the patch's height and width.
        corner: its first row and column.
        passes: over the batches; the authors make 200.
        step: β ≥ 0, in the unit of the images.
        renewed_every: K, passes from one copy θ' to the next; the authors train one in every pass.
        adversarial_epochs: e.
        strength: λ0.
        adversarial_rate: the learning rate of θ'.
        batches, batch_size: B, and how many examples each of them has; the authors' clients have 500.
        mix: "replace" for a share of every batch, "copies" for appended copies.

    Returns:
        The `Attack`, with an `A3FLState`. It is a `backdoor` of others, too. A search takes the gradients of
        2 · passes · B + ⌈passes / K⌉ · e · B batches.

    Raises:
        ValueError: if a number is out of range, the inputs are no images, or the patch does not fit them.

    Example:
        >>> attack = a3fl(image_shape=(8, 8, 1), target=2)
        >>> attack.init(10, 100).trigger.shape, attack.trigger.target
        ((5, 5, 1), 2)

    Source: Zhang, Jia, Chen, Lin and Wu, "A3FL: adversarially adaptive backdoor attacks to federated
    learning", NeurIPS 2023. The authors' code begins with θ' in the second pass, takes the cosine of whatever
    gradients its convolutions hold, and clips to [−2, 2] after normalisation. Here θ' is trained as the model
    is evaluated: running statistics stay. BackFed makes 100 passes with K = 100, and so never trains θ'.
    """
    if image_shape is None:
        raise ArgumentError("is for images")
    size, corner = whole("size", size, smallest=1), whole("corner", corner)
    if corner + size > min(image_shape[:2]):
        raise ArgumentError(f"size={size} from corner={corner} lies outside images of {image_shape[:2]}")
    counts = {"passes": passes, "renewed_every": renewed_every, "batches": batches, "batch_size": batch_size}
    for name, number in counts.items():
        whole(name, number, smallest=1)
    adversarial_epochs = whole("adversarial_epochs", adversarial_epochs)
    step = fixed_real("step", step, at_least=0, finite=True)
    strength = fixed_real("strength", strength, finite=True)
    adversarial_rate = fixed_real("adversarial_rate", adversarial_rate, at_least=0, finite=True)
    place = slice(corner, corner + size)

    def init(num_clients: int, num_params: int) -> A3FLState:
        return A3FLState(jnp.full((size, size, image_shape[2]), 0.5))

    def put(x: Array, patch: Array) -> Array:
        return x.at[..., place, place, :].set(patch.astype(x.dtype))

    def embed(x: Array, state: A3FLState) -> Array:
        return put(x, state.trigger)

    def prepare(state: A3FLState, attackers: Attackers) -> A3FLState:
        row, key = jnp.argmax(attackers.malicious), attackers.context.key
        drawn: Any = attackers.draw(row, key, batches, batch_size)
        predict, params = attackers.predict, attackers.params

        def renewed(patch: Array) -> tuple[Params, Array]:
            other = _trained_against(put, predict, params, drawn, patch, adversarial_epochs, adversarial_rate)
            return other, strength * cosine(other, params)

        def moved(patch: Array, batch: Any, other: Params, weight: Array) -> Array:
            x, y, counted = batch
            wanted = jnp.full_like(y, target)

            def loss(patch: Array) -> Array:
                marked = put(x, patch)
                against = weight * cross_entropy(predict(other, marked), wanted, counted)
                return cross_entropy(predict(params, marked), wanted, counted) + against

            slope = jnp.nan_to_num(jnp.sign(jax.grad(loss)(patch)))
            return jnp.clip(patch - jnp.asarray(step, patch.dtype) * slope, 0, 1)

        def block(patch: Array, number: int) -> Array:
            other, weight = renewed(patch)

            def one_pass(_: Any, patch: Array) -> Array:
                return lax.scan(lambda at, batch: (moved(at, batch, other, weight), None), patch, drawn)[0]

            return lax.fori_loop(0, number, one_pass, patch)

        full, rest = divmod(passes, renewed_every)
        patch = lax.fori_loop(0, full, lambda _, patch: block(patch, renewed_every), state.trigger)
        return A3FLState(block(patch, rest) if rest else patch)

    return poisoned(
        NO_ATTACK._replace(init=init, prepare=prepare),
        embed,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=None,
        mix=mix,
    )


def _trained_against(
    put: Callable[[Array, Array], Array],
    predict: Callable[[Params, Array], Array],
    params: Params,
    batches: tuple[Array, Array, Array],
    patch: Array,
    epochs: int,
    rate: float,
) -> Params:
    """The model after some epochs of SGD on patched examples with their true labels."""

    def loss(at: Params, batch: Any) -> Array:
        x, y, counted = batch
        return cross_entropy(predict(at, put(x, patch)), y, counted)

    def step(carry: tuple[Params, Params], batch: Any) -> tuple[tuple[Params, Params], None]:
        at, memory = carry
        slope = jax.grad(loss)(at, batch)
        memory = jax.tree.map(lambda m, g, w: 0.9 * m + g + 5e-4 * w, memory, slope, at)
        return (jax.tree.map(lambda w, m: w - (rate * m).astype(w.dtype), at, memory), memory), None

    start = params, jax.tree.map(jnp.zeros_like, params)
    return lax.fori_loop(0, epochs, lambda _, carry: lax.scan(step, carry, batches)[0], start)[0]
