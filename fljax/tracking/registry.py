"""Trackers by name."""

from collections.abc import Callable

from fljax.registry import F, Registry, with_options

TRACKERS = Registry("tracker")


@with_options
def register_tracker(name: str | None = None, *, title: str | None = None) -> Callable[[F], F]:
    """Make a tracker known under a name, for `--track` and `track=`; a decorator.

    The class, or function, is called without arguments and returns an object with some of the methods of
    `Tracker`. What it writes by default belongs below `started.folder`, which is given to it.

    Args:
        name: what it is called; default the function's name.
        title: what lists call it; default the name.

    Returns:
        The decorator, which returns the function as it is.

    Raises:
        ValueError: the name is taken, or is no name.

    Example:
        >>> @register_tracker("shout")
        ... class Shout:
        ...     '''Says every error.'''
        ...     def evaluation(self, line):
        ...         print(line["test_error"], "!")
        >>> TRACKERS["shout"].summary
        'Says every error.'
        >>> TRACKERS.remove("shout")
    """
    return TRACKERS.register(name, title=title)
