"""What the paper proves of FLTrust, on a problem where every constant is known.

Theorem 1: for a μ-strongly convex loss with an L-Lipschitz gradient, one local step and any number of
malicious clients, ‖w^t − w*‖ ≤ (1 − ρ)^t ‖w^0 − w*‖ + 12αΔ_1/ρ with Δ_1 = σ_1 √(2/|D_0|) √(d ln 6 + ln(3/δ)).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fljax.aggregators import fltrust
from fljax.attacks import fltrust_attack, sign_flip, trim_attack
from tests.support.programs import jitted

CLIENTS, DIM, RATE, ROUNDS, SEEDS = 20, 8, 0.03, 600, 5
SIZES = (64, 256, 1024)


def gradient(w, target, key, weights):
    """Gradient of the squared loss of a linear model on fresh examples: x ~ N(0, I), y = x·w* + N(0, 1).

    The expected loss is ‖w − w*‖²/2 and a constant: μ = L = 1. At w* the gradient of an example is x times
    noise, so σ_1 = 1.
    """
    first, second = jax.random.split(key)
    features = jax.random.normal(first, (len(weights), DIM))
    noise = jax.random.normal(second, (len(weights),))
    return features.T @ (weights * (features @ (w - target) - noise))


def opposite(updates, root, malicious, key):
    return sign_flip(updates, malicious, factor=10.0)


def aside(updates, root, malicious, key):
    """At 45° to the root update, all to the same side: what moves the model most away from its way."""
    unit = root / jnp.linalg.norm(root)
    side = jnp.eye(DIM)[0] - unit[0] * unit
    return jnp.where(malicious[:, None], unit + side / jnp.linalg.norm(side), updates)


def trim(updates, root, malicious, key):
    return trim_attack(updates, malicious, key)


def optimum(updates, root, malicious, key):
    return fltrust_attack(updates, root, malicious, key, search="optimum")


@partial(jax.jit, static_argnames="attack")
def final_errors(attack, sizes, counts):
    """‖w − w*‖ after the last round, (sizes, counts of malicious clients, seeds)."""

    def run(size, count, seed):
        key = jax.random.key(seed)
        target = jax.random.normal(jax.random.fold_in(key, 0), (DIM,))
        own = jnp.full(32, 1 / 32)
        root_weights = jnp.where(jnp.arange(max(SIZES)) < size, 1 / size, 0.0)

        def step(w, key):
            keys = jax.random.split(key, CLIENTS + 1)
            # The clients see fresh examples, the root dataset stays.
            updates = -jax.vmap(lambda k: gradient(w, target, k, own))(keys[1:])
            root = -gradient(w, target, jax.random.fold_in(jax.random.key(seed), 1), root_weights)
            crafted = attack(updates, root, jnp.arange(CLIENTS) < count, keys[0])
            return w + RATE * fltrust(crafted, root_update=root), None

        w, _ = jax.lax.scan(step, jnp.zeros(DIM), jax.random.split(jax.random.fold_in(key, 2), ROUNDS))
        return jnp.linalg.norm(w - target)

    over_seeds = jax.vmap(run, (None, None, 0))
    over_counts = jax.vmap(over_seeds, (None, 0, None))
    return jax.vmap(over_counts, (0, None, None))(sizes, counts, jnp.arange(SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("attack", [opposite, aside, trim, optimum])
def test_the_error_has_the_theorems_shape_as_long_as_one_client_is_honest(attack):
    counts = jnp.array([0, 6, 12, 18, CLIENTS - 1])
    errors = np.asarray(final_errors(attack, jnp.array(SIZES), counts))
    sizes = np.array(SIZES)[:, None, None]
    spread = np.sqrt(2 / sizes) * math.sqrt(DIM * math.log(6) + math.log(3 / 0.05))
    # ρ without Δ_2, which a large root dataset makes small.
    rho = 1 - (math.sqrt(3 / 4) + 2 * RATE)
    assert (errors < 12 * RATE * spread / rho).all()
    # The bound is wide, the shape sharper: √|D_0| times the error is the same for all sizes, within a factor.
    scaled = np.median(errors, axis=2) * np.sqrt(sizes[:, :, 0])
    assert (scaled.max(axis=0) < 2 * scaled.min(axis=0)).all()


@pytest.mark.slow
def test_with_no_honest_client_the_model_may_stay_where_it_is():
    # "Any number" leaves out n of n: with nobody to trust the update is zero.
    errors = np.asarray(final_errors(opposite, jnp.array(SIZES), jnp.array([CLIENTS])))
    assert (errors > 1).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_the_key_lemma(seed, size):
    """‖g − ∇F‖ ≤ 3‖g_0 − ∇F‖ + 2‖∇F‖, whatever the clients send (signs as for gradients)."""
    random = np.random.default_rng(seed)
    updates = (size * random.normal(size=(6, 5))).astype(np.float32)
    root, true = random.normal(size=(2, 5)).astype(np.float32)
    g = np.asarray(jitted(fltrust)(updates, root_update=root))
    bound = 3 * np.linalg.norm(root - true) + 2 * np.linalg.norm(true)
    assert np.linalg.norm(g - true) <= bound * (1 + 1e-5)
