"""Numerics that survive whatever a malicious client sends. Needs jax alone."""
