"""Smooth versions of rules that select, for attacks that follow a gradient."""

from collections.abc import Callable

from jax import Array

# By the rule's registry name; each takes a subset of the rule's parameters.
SURROGATES: dict[str, Callable[..., Array]] = {}
