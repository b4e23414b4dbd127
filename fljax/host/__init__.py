"""The machine that drives the devices: its memory, its signals, its terminal, its locks."""
