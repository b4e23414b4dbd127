"""The command `fljax` and `python -m fljax`."""

from fljax.host.signals import watching


def main() -> None:
    """Run the command line; signals are answered while it is still being imported."""
    with watching():
        from fljax.cli.app import main as command

        command()


if __name__ == "__main__":
    main()
