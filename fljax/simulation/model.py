"""The configured model, and the number of clients that train at once."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from fljax.config.components import make_model
from fljax.config.schema import Component, ExperimentConfig
from fljax.data import Dataset, Format
from fljax.data.moments import Moments
from fljax.errors import ConfigError, first_line
from fljax.models import Model, as_model, for_clients
from fljax.models.precision import Precision, in_precision
from fljax.simulation.checks import check_model

# Clients of which the largest has so many times the mean's examples are better trained a few at once.
UNEQUAL = 1.5


def build_model(config: ExperimentConfig, model: Any, dataset: Dataset) -> tuple[Model, tuple[str, ...]]:
    """The model, and what a report has to say about it."""
    form = dataset.format
    try:
        if model is None:
            return _configured_model(config.model.model_dump_json(), form, config.precision)
        return _checked(model, form, config.precision)
    except ConfigError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        name = config.model.name if model is None else type(model).__name__
        raise ConfigError(
            f"model {name} does not fit inputs of shape {form.input_shape}: {first_line(error)}"
        ) from None


@lru_cache(maxsize=16)
def _configured_model(table: str, form: Format, precision: Precision) -> tuple[Model, tuple[str, ...]]:
    """Cached, so that runs of the same model share its compiled initialisation."""
    module = make_model(Component.model_validate_json(table), form)
    model, notes = _checked(module, form, precision)
    state = None if model.init_state is None else jax.jit(model.init_state)
    return model._replace(init=jax.jit(model.init), init_state=state), notes


def drawn_once(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A model's initialisation for a call outside of `jit`: where it is compiled, with few optimisations.

    On a CPU that compiles in a quarter of the time, of a second or more, and draws the same bits.
    """
    compiled = isinstance(init, jax.stages.Wrapped) and jax.default_backend() == "cpu"
    return _compiled_fast(init) if compiled else init


@lru_cache(maxsize=16)
def _compiled_fast(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1})


def _checked(module: Any, form: Format, precision: Precision) -> tuple[Model, tuple[str, ...]]:
    model, key = as_model(module, form.input_shape, form.input_dtype), jax.random.key(0)
    if form.moments is not None:
        model = behind_normalization(model, form.moments)
    params = jax.eval_shape(model.init, key)
    if not jax.tree.leaves(params):
        raise ValueError("it has no parameters")
    # Measured on a CPU and a GPU, see benchmarks/README.md.
    if jax.default_backend() in ("cpu", "gpu") and num_convolutions(params) > 0:
        model = for_clients(model)
    model = in_precision(model, precision)
    return model, check_model(model, params, form, key)


def behind_normalization(model: Model, moments: Moments) -> Model:
    """A model that sees its inputs less a mean and divided by a deviation, in training and evaluation."""
    mean, deviation = (np.asarray(values, np.float32) for values in moments)

    def seen(x: jax.Array) -> jax.Array:
        return (x - mean) / deviation

    def apply(params: Any, x: jax.Array, *state: Any) -> jax.Array:
        return model.apply(params, seen(x), *state)

    behind = model.train
    if behind is None:
        return model._replace(apply=apply)

    def train(params: Any, x: jax.Array, state: Any, real: jax.Array) -> tuple[jax.Array, Any]:
        return behind(params, seen(x), state, real)

    def train_at_random(params: Any, x: jax.Array, state: Any, real: jax.Array, key: jax.Array) -> Any:
        return behind(params, seen(x), state, real, key)

    return model._replace(apply=apply, train=train_at_random if model.random else train)


def clients_at_once(
    config: ExperimentConfig, params: Any, cohort_size: int, counts: Any, devices: int = 1
) -> int:
    """The number of clients to train at once on a device; measured, see benchmarks/README.md.

    Args:
        config: the configuration.
        params: shapes of the model's parameters.
        cohort_size: τ.
        counts: (n,) numbers of examples.
        devices: among which the cohort is divided.
    """
    cohort_size = -(-cohort_size // devices)
    if config.client_chunk != "auto":
        return min(config.client_chunk, cohort_size)
    target = cohort_size
    if jax.default_backend() == "cpu" and num_convolutions(params) > 0:
        # The convolutions of one client are ordinary ones, and its activations stay in the cache.
        target = 1
    elif jax.default_backend() == "cpu" and config.local.epochs is not None:
        # Clients that train at once wait for the one with most examples.
        target = min(cohort_size, 5) if counts.max() > UNEQUAL * counts.mean() else cohort_size
    # A divisor of the cohort, so that no second program is compiled for a remainder.
    return max(size for size in range(1, target + 1) if cohort_size % size == 0)


def num_params(params: Any) -> int:
    """The length of a model's raveled parameters, d, by their shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def num_convolutions(params: Any) -> int:
    """The number of convolutions of a model, by the shapes of its parameters."""
    return sum(len(leaf.shape) == 4 for leaf in jax.tree.leaves(params))
