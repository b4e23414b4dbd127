"""Chameleon: rows and reference of its data; its training is in test_chameleon.py."""

from tests.attacks.backdoors import PIXELS, in_copies, versions, with_pixels
from tests.attacks.case import AttackCase


def badnets(x, y, is_copy, member, norm=None, target=0):
    """What malicious clients train on."""
    return in_copies(x, y, is_copy, with_pixels(x, PIXELS), target)


CASES = [AttackCase("chameleon", data=badnets)]

DATA_MUTANTS = {"chameleon": versions(badnets)}
