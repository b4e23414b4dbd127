"""Losses of a batch's examples, by name; an objective is made of one in fljax/engine/objectives.py."""

from fljax.losses.functions import binary_cross_entropy, cross_entropy, huber, mse, targets
from fljax.losses.registry import LOSSES, register_loss

__all__ = ["LOSSES", "binary_cross_entropy", "cross_entropy", "huber", "mse", "register_loss", "targets"]
