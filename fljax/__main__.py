"""The command `fljax` and `python -m fljax`."""

import gc

from fljax.host.signals import watching

# What a command imports stays; by Python's own threshold of 700 new objects, a sixth of the time of importing
# goes into looking through all of it for garbage.
MANY = 50_000


def main() -> None:
    """Run the command line; signals are answered while it is still being imported."""
    gc.set_threshold(MANY, 20, 20)
    with watching():
        from fljax.cli.app import main as command

        command()


if __name__ == "__main__":
    main()
