"""The searches of optimising attacks."""
