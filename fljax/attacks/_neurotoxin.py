"""A backdoor in the coordinates that honest clients move least."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks.registry import register_attack
from fljax.attacks.training import into_ball, local_attack, trained_on
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Knowledge, Params, State, Task, Trained
from fljax.numerics.checks import ArgumentError, is_static, option, real


class NeurotoxinState(NamedTuple):
    """The memory of `neurotoxin`.

    Attributes:
        seen: boolean scalar, whether there was a round before.
        params: (d,), the global model of the round before.
    """

    seen: Array
    params: Array


@register_attack(
    title="Neurotoxin",
    source="Zhang et al. 2022",
    assumes="own data, the model's last change",
    optimises="durable backdoor",
    make=from_factory,
    streams=True,
)
def neurotoxin(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    share: float | Array = 0.95,
    source: Literal["global_change", "own_update"] = "global_change",
    norm: float | Array | None = None,
    backdoor: Attack | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Neurotoxin: a backdoor trained only in the coordinates that honest clients move least.

    Let G = w_t − w_(t−1), the model's last change, and M the 0/1 mask of the ⌊k d⌋ coordinates with the
    smallest |G|, of equal ones the first. Every local gradient of a malicious client, and every step that its
    optimizer makes of one, is multiplied by M, and with a `norm` ε the update is then kept in the ball
    ‖δ‖ ≤ ε as in `projected_gradient`. In the first round there is no change to rank, and M is 1 everywhere.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        share: k, between 0 and 1.
        source: G is the model's last change, or the update that the client would send honestly.
        norm: ε ≥ 0; None for no ball.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with a `NeurotoxinState` and the backdoor's `Trigger`. The state belongs to all
        attackers together and follows every round, also one without any of them.

    Raises:
        ValueError: if a number is out of range, or `source` or `backdoor` is none.

    Example:
        >>> bottom_mask(jnp.array([0.5, -0.1, 0.0, -2.0, 0.1]), 0.6).astype(int).tolist()
        [0, 1, 1, 0, 1]

    Source: Zhang et al., "Neurotoxin: durable backdoors in federated learning", ICML 2022. The authors' code
    ranks the gradients of 30 other clients' clean data; BackFed, IBA and F3BA those of the attacker's own
    clean data. FLPoison ranks signed gradients and keeps a tenth. All of them rank all layers together.
    """
    share = real("share", share, at_least=0, at_most=1)
    radius = None if norm is None else real("norm", norm, at_least=0, finite=True)
    option("source", source, ("global_change", "own_update"))

    def init(num_clients: int, num_params: int) -> NeurotoxinState:
        return NeurotoxinState(jnp.zeros((), bool), jnp.zeros((num_params,)))

    def train(client: Client, honest: Array, state: NeurotoxinState, context: Context) -> Trained:
        if source == "own_update":
            mask = bottom_mask(honest, share)
        elif context.params is None:
            raise ArgumentError("needs params, which this round does not provide")
        else:
            mask = bottom_mask(context.params - state.params, share) | ~state.seen
        kept = client.unravel(mask.astype(honest.dtype))

        def masked(tree: Params) -> Params:
            return jax.tree.map(jnp.multiply, tree, kept)

        return client.descend(
            gradient=lambda grads, delta, step: masked(grads),
            change=lambda change, step: masked(change),
            project=None if radius is None else lambda delta, step: into_ball(delta, radius),
        )

    def remember(
        updates: Array, malicious: Array, state: NeurotoxinState, knowledge: Knowledge
    ) -> tuple[Array, State]:
        params = knowledge.context.params
        if params is None:
            return updates, state
        return updates, NeurotoxinState(jnp.ones((), bool), params.astype(state.params.dtype))

    training = local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate)
    task = Task(num_classes, image_shape=image_shape)
    return trained_on(backdoor, training, task, init=init, send=remember)


def bottom_mask(values: Array, share: float | Array) -> Array:
    """The ⌊share · d⌋ entries of smallest size, (d,) boolean; of equal ones the first, NaN is the largest.

    Args:
        values: (d,).
        share: between 0 and 1.
    """
    d = values.shape[0]
    # A product that rounding put just below a whole number is that number.
    count = jnp.int32(int(share * d + 1e-9) if is_static(share) else jnp.floor(share * d * (1 + 1e-6)))
    sizes, limit = size_at(values, count)
    below, at = sizes < limit, sizes == limit
    return below | (at & (jnp.cumsum(at) <= count - jnp.sum(below)))


def size_at(values: Array, count: Array | int) -> tuple[Array, Array]:
    """The sizes of all entries (d,), as numbers that are ordered as they are, and the `count`-th smallest."""
    # Floats of one sign are ordered as their bits are.
    sizes = lax.bitcast_convert_type(jnp.abs(values).astype(jnp.float32), jnp.uint32)

    def narrow(i: Array, low: Array) -> Array:
        place = low | (jnp.uint32(1) << (30 - i).astype(jnp.uint32))
        return jnp.where(jnp.sum(sizes < place) < count, place, low)

    return sizes, lax.fori_loop(0, 31, narrow, jnp.uint32(0))
