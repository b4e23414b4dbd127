"""The tables of README.md that the registries make: `python -m tests.support.tables` writes them anew."""

import re
from collections.abc import Iterable
from pathlib import Path

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.clients import CLIENT_ALGORITHMS
from fljax.data import AUGMENTATIONS, DATASETS, PARTITIONS
from fljax.losses import LOSSES
from fljax.metrics import METRICS
from fljax.models import MODELS

README = Path(__file__).parents[2] / "README.md"
# A table stands between two comments, which name it.
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> dict[str, str]:
    """All tables by name."""

    def summary(entry) -> str:
        return entry.summary.replace("|", r"\|").rstrip(".")

    def streams(entry) -> str:
        return "yes" if entry.facts["streams"] else ""

    return {
        "rules": table(
            ("rule", "in the literature", "tolerates f when", "streams", "source"),
            (
                (f"{before}`{name}`", entry.title, entry.assumes, streams(entry), entry.source)
                for before, registry in (
                    ("", RULES),
                    ("pre: ", PRE_AGGREGATORS),
                    ("post: ", POST_AGGREGATORS),
                )
                for name, entry in registry.items()
            ),
        ),
        "attacks": table(
            ("attack", "in the literature", "knows", "aims at", "streams", "source"),
            (
                (
                    f"`{name}`",
                    entry.title,
                    entry.assumes,
                    entry.facts["optimises"],
                    streams(entry),
                    entry.source,
                )
                for name, entry in ATTACKS.items()
            ),
        ),
        "clients": table(
            ("client", "in the literature", "what it does", "source"),
            (
                (f"`{name}`", entry.title, summary(entry), entry.source)
                for name, entry in CLIENT_ALGORITHMS.items()
            ),
        ),
        "losses": table(
            ("loss", "what it is", "labels"),
            ((f"`{name}`", summary(entry), entry.facts["labels"]) for name, entry in LOSSES.items()),
        ),
        "metrics": table(
            ("metric", "what it is"), ((f"`{name}`", summary(entry)) for name, entry in METRICS.items())
        ),
        "datasets": table(
            ("data set", "what it is"), ((f"`{name}`", summary(entry)) for name, entry in DATASETS.items())
        ),
        "partitions": table(
            ("partition", "who gets what", "source"),
            ((f"`{name}`", summary(entry), entry.source) for name, entry in PARTITIONS.items()),
        ),
        "augmentations": table(
            ("augmentation", "what it does", "source"),
            ((f"`{name}`", summary(entry), entry.source) for name, entry in AUGMENTATIONS.items()),
        ),
        "models": table(
            ("model", "what it is"), ((f"`{name}`", summary(entry)) for name, entry in MODELS.items())
        ),
    }


def filled(text: str) -> str:
    """A text with its tables as the registries make them now."""
    made = tables()
    return _PLACE.sub(lambda place: f"{place[1]}\n{made[place[2]]}\n{place[3]}", text)


def places(text: str) -> list[str]:
    """The names of the tables in a text."""
    return [place[2] for place in _PLACE.finditer(text)]


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
