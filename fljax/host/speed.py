"""The speed of this machine."""

import time

import jax
import jax.numpy as jnp


def machine_flops(size: int = 1024) -> float:
    """Operations per second of a large float32 matrix product."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(times)
