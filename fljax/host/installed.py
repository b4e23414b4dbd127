"""The version of fljax that runs."""

from importlib import metadata


def own_version() -> str:
    """As it is installed; "unknown" where a checkout is only on the path.

    Example:
        >>> own_version() == "unknown" or own_version()[0].isdigit()
        True
    """
    try:
        return metadata.version("fljax")
    except metadata.PackageNotFoundError:
        return "unknown"
