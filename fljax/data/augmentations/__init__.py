"""Augmentations: random changes of the inputs that clients train on."""
