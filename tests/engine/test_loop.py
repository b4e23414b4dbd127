"""Compiling a round: options of XLA that another version may not know."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import pytest

from fljax.config.schema import parse_config
from fljax.engine import loop
from fljax.simulation.experiment import assemble, compile_experiment


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
    options = loop.CPU_OPTIONS | (loop.QUICK_OPTIONS if version("jaxlib").startswith("0.10.") else {})
    jax.jit(convolved).lower(*given).compile(compiler_options=options)


@pytest.fixture
def as_users_compile():
    """Tests are compiled with hardly an optimisation."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def test_small_programs_are_compiled_quickly(monkeypatch, as_users_compile):
    seen = []
    compile_ = jax.stages.Lowered.compile

    def spy(lowered, compiler_options=None):
        seen.append(compiler_options)
        return compile_(lowered, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", spy)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    config = {"num_clients": 20, "rounds": 1, "eval_every": 1, "model": {"name": "mlp", "hidden": [4]}}
    for values, quick in ((config, True), ({**config, "model": {"name": "mlp", "hidden": [3000]}}, False)):
        seen.clear()
        compile_experiment(assemble(parse_config(values)))
        programs = [options for options in seen if options and loop.CPU_OPTIONS.keys() <= options.keys()]
        # Rounds and evaluation; one more where XLA did not know an option.
        assert len(programs) >= 2
        for options in programs:
            assert ("xla_backend_optimization_level" in options) is quick


def test_other_errors_of_the_compiler_are_told():
    with pytest.raises(jax.errors.JaxRuntimeError, match="nobody_has_this"):
        loop.compiled(lambda x: jax.ffi.ffi_call("nobody_has_this", x)(x), (jnp.ones(2),), None)
