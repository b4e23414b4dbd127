"""The kernel that selects ranks on a GPU: its steps on a CPU, and that the rules reach it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import bulyan, median, phocas, trimmed_mean
from fljax.numerics import order_statistics, rank_kernel
from fljax.numerics.rank_kernel import select_ranks_in_registers

RULES = {
    "median": median,
    "trimmed_mean": partial(trimmed_mean, trim=2),
    "phocas": partial(phocas, trim=2),
    "bulyan": partial(bulyan, num_malicious=2),
}


def sorted_in_numpy(updates):
    return np.sort(np.where(np.isnan(updates), np.inf, updates), axis=0)


# One thread a column, and two, four and nine rows a thread; more columns than threads, and fewer.
@pytest.mark.parametrize(("n", "d", "held"), [(5, 40, 64), (18, 7, 9), (37, 70, 16), (129, 3, 33)])
def test_ranks_are_numpys(n, d, held):
    updates = np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)
    updates[2, 1], updates[1, 2], updates[0, 0] = np.nan, -np.inf, np.inf
    updates[3] = updates[4]
    updates[:3, 1] = 0.0, -0.0, 1e-20
    ranks = jnp.array([0, n // 2, n - 1])
    found = jax.jit(partial(select_ranks_in_registers, held=held, threads=32, interpret=True))(updates, ranks)
    np.testing.assert_array_equal(jnp.stack(found), sorted_in_numpy(updates)[np.asarray(ranks)])


def test_runs_and_their_ranks_lie_beside_one_another():
    stacks = np.random.default_rng(0).normal(size=(3, 9, 5)).astype(np.float32)
    ranks = np.array([[0, 4], [3, 8], [1, 1]])
    select = partial(select_ranks_in_registers, threads=32, interpret=True)
    found = np.stack(jax.vmap(select)(stacks, jnp.asarray(ranks)), axis=1)
    for run, stack in enumerate(stacks):
        np.testing.assert_array_equal(found[run], np.sort(stack, axis=0)[ranks[run]])


@pytest.fixture
def selecting(monkeypatch):
    """The kernel's steps in place of its own way, for all but a few rows."""
    monkeypatch.setattr(order_statistics, "LARGEST_BESIDE_KERNEL", 4)
    monkeypatch.setattr(order_statistics, "kernel_selects", lambda n, dtype: True)
    interpreted = partial(select_ranks_in_registers, threads=32, interpret=True)
    monkeypatch.setattr(order_statistics, "select_ranks_in_registers", interpreted)


@pytest.mark.parametrize("name", RULES)
def test_rules_say_the_same_by_the_kernel(name, request):
    updates = np.random.default_rng(1).normal(size=(11, 20)).astype(np.float32)
    updates[3, 5], updates[4], updates[9] = np.nan, np.inf, updates[10]
    expected = RULES[name](updates)
    request.getfixturevalue("selecting")
    np.testing.assert_allclose(RULES[name](updates), expected, rtol=1e-6)


def test_gradients_pass_the_kernel(selecting):
    updates = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    slopes = jax.grad(lambda updates: jnp.sum(median(updates)))(updates)
    order = np.argsort(updates, axis=0)
    expected = np.zeros_like(updates)
    np.put_along_axis(expected, order[2:4], 0.5, axis=0)
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["median", "phocas"])
def test_rules_are_lowered_to_it_for_a_gpu(name, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    shape = jax.ShapeDtypeStruct((3, 40, 100), jnp.float32)
    lowered = jax.jit(jax.vmap(RULES[name])).trace(shape).lower(lowering_platforms=("cuda",))
    assert "triton" in lowered.as_text()


def test_what_the_kernel_does_not_take(monkeypatch):
    assert not rank_kernel.kernel_selects(40, jnp.dtype("float32"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert rank_kernel.kernel_selects(40, jnp.dtype("float32"))
    assert not rank_kernel.kernel_selects(40, jnp.dtype("float64"))
    assert not rank_kernel.kernel_selects(rank_kernel.MOST_ROWS + 1, jnp.dtype("float32"))
