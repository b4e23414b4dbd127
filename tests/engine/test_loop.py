"""Compiling a round: options of XLA that another version may not know."""

import jax
import jax.numpy as jnp
import pytest

from fljax.engine import loop


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("options", [loop.CPU_OPTIONS, {"xla_cpu_of_another_version": "1"}])
def test_a_program_compiles_whether_xla_knows_the_options(monkeypatch, options):
    monkeypatch.setattr(loop, "CPU_OPTIONS", options)
    given = jnp.ones((2, 5, 5, 1)), jnp.ones((3, 3, 1, 1))
    assert jnp.array_equal(loop.compiled(convolved, given, None)(*given), convolved(*given))


def test_this_version_knows_the_options():
    """Where it does not, convolutions are slow without a word: look for the option's new name."""
    given = jnp.ones((2, 5, 5, 1)), jnp.ones((3, 3, 1, 1))
    jax.jit(convolved).lower(*given).compile(compiler_options=loop.CPU_OPTIONS)


def test_other_errors_of_the_compiler_are_told():
    with pytest.raises(jax.errors.JaxRuntimeError, match="nobody_has_this"):
        loop.compiled(lambda x: jax.ffi.ffi_call("nobody_has_this", x)(x), (jnp.ones(2),), None)
