"""What the references of backdoors share: pixels that are set in copies, and the label of these."""

import numpy as np

from tests.attacks.case import TASK

# The usual trigger on 8×8 images.
PIXELS = ((6, 6), (4, 6), (6, 4), (5, 5))


def with_pixels(x, pixels, value=1.0):
    marked = np.array(x)
    for row, column in pixels:
        marked[..., row, column, :] = value
    return marked


def in_copies(
    x, y, is_copy, marked, target, member=0, labels="all_to_one", source=None, clean_label=False, step=1
):
    """The batch with its copies marked and labelled, without a member those of every class."""
    x, y = np.array(x), np.array(y)
    for i, label in enumerate(list(y)):
        about = target if clean_label else source
        if is_copy[i] and (member is None or about in (None, label)):
            x[i] = marked[i]
            y[i] = target if labels == "all_to_one" else (label + step) % TASK.num_classes
    return x, y


def versions(attack):
    """Wrong versions of a backdoor."""

    def original(x, y, is_copy, member, **hyper):
        return attack(x, y, is_copy | True, member, **hyper)

    def label_alone(x, y, is_copy, member, **hyper):
        return x, attack(x, y, is_copy, member, **hyper)[1]

    def mark_alone(x, y, is_copy, member, **hyper):
        return attack(x, y, is_copy, member, **hyper)[0], y

    return {
        "originals, too": original,
        "the label alone": label_alone,
        "the mark alone": mark_alone,
        "another label": lambda x, y, is_copy, member, **hyper: attack(
            x, y, is_copy, member, **{**hyper, "target": hyper.get("target", 0) + 1}
        ),
        "another place": lambda x, y, is_copy, member, **hyper: tuple(
            np.roll(part, 1, axis=1) if part.ndim > 1 else part
            for part in attack(x, y, is_copy, member, **hyper)
        ),
    }
