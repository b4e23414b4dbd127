"""The command `fljax cache`: the compiled programs that are kept, and dropping them."""

from rich.console import Console

from fljax.host.programs import SETTING, clear, kept, place


def show_cache(console: Console, drop: bool) -> None:
    """Say where compiled programs are kept, how many and how large; or drop them.

    Args:
        console: where to draw.
        drop: whether to drop them.
    """
    root = place()
    if root is None:
        text = f"compiled programs are not kept ({SETTING})"
    else:
        folders = kept()
        programs = sum(each.programs for each in folders)
        size = sum(each.bytes for each in folders) / 1e6
        if drop:
            clear()
        text = f"{'dropped' if drop else 'kept'}: {programs} compiled programs, {size:.1f} MB, in {root}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
