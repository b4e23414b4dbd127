"""The state and the data of a round."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class Kept(NamedTuple):
    """What an algorithm of the clients keeps from round to round.

    Attributes:
        clients: the states of all clients, with a leading axis (n,).
        shared: what the server keeps and sends to every client.
        attack_states: of the attack on every kind of message.
        aggregator_states: of the rule on every kind of message.
    """

    clients: Any
    shared: Any
    attack_states: tuple[Any, ...] = ()
    aggregator_states: tuple[Any, ...] = ()


class RunState(NamedTuple):
    """The part that changes from round to round, and that a checkpoint holds.

    Attributes:
        params: (d,) raveled global model.
        round: int32 scalar, rounds done so far.
        key: typed PRNG key of the run; a round uses `fold_in(key, round)`.
        server_state: state of the server's optax optimizer.
        aggregator_state: state of the aggregator.
        attack_state: state of the attack.
        model_state: state of the model besides its parameters, such as running batch statistics; () where
            there is none.
        client_state: `Kept`; () where clients keep nothing.
    """

    params: Array
    round: Array
    key: Array
    server_state: Any
    aggregator_state: Any
    attack_state: Any
    model_state: Any = ()
    client_state: Kept | tuple[()] = ()


class RoundData(NamedTuple):
    """The part that a round only reads: one copy of the examples, and the clients that hold them.

    Attributes:
        x: (N, *input_shape) training inputs, float32 or int32 tokens.
        y: (N, ...) labels, int32 classes or float32 numbers.
        table: (n, s_max) int32 positions in x, the first counts[i] of row i being client i's.
        counts: (n,) int32.
        root: (|D_0|,) int32 positions of the root dataset.
        malicious: (n,) boolean.
        root_count: int32 scalar, the number of positions in `root` that count, the first ones; None for all.
        validation: (V,) int32 positions of the examples that the server holds back; None for none.
        attackers: int32 ids of the malicious clients in ascending order, perhaps with n's after them; None to
            look for them in `malicious`, at a cost of O(n) a round.
    """

    x: Array
    y: Array
    table: Array
    counts: Array
    root: Array
    malicious: Array
    root_count: Array | None = None
    validation: Array | None = None
    attackers: Array | None = None

    @property
    def attacker_ids(self) -> Array:
        """`attackers`, or where they are not given what `malicious` says: (n,)."""
        n = self.malicious.shape[0]
        found = self.attackers
        return jnp.nonzero(self.malicious, size=n, fill_value=n)[0] if found is None else found


def of_server(data: RoundData) -> tuple[np.ndarray, dict[str, Any]]:
    """The server's examples by themselves, the root dataset and then those held back for validation.

    Args:
        data: on the host.

    Returns:
        Their positions in `data`, and `root` and `validation` as positions among them.
    """
    root = np.asarray(data.root)
    held = np.empty(0, np.int32) if data.validation is None else np.asarray(data.validation)
    among = np.arange(len(root) + len(held), dtype=np.int32)
    validation = None if data.validation is None else among[len(root) :]
    return np.concatenate([root, held]), {"root": among[: len(root)], "validation": validation}


class SimulationState(NamedTuple):
    """A run and its data together, so that the data are an argument of whatever the user compiles.

    Attributes:
        run: the state.
        data: the data.
    """

    run: RunState
    data: RoundData
