"""What was measured and kept: sweeps of rules and attacks, and the tables of the paper."""

import json
import re
import shutil
from pathlib import Path

from extension.components import MEASURED, put

TITLES = {
    "table3": "Table III, rules × attacks",
    "short": "Table III, some rounds only",
    "table4": "Table IV, variants of FLTrust",
    "table5": "Table V, bias of the root dataset",
    "table6": "Table VI, size of the root dataset",
    "direction": "Which direction holds Median back",
    "figure_adaptive": "The adaptive attack, by the share of attackers",
    "figure_clients": "The number of clients",
    "figure_convergence": "Error over the rounds",
    "figure_fraction": "The share of malicious clients",
    "root": "Which root dataset",
    "scaling": "How many copies the Scaling attack needs",
    "server": "Which server",
}
DATA = {
    "uci_har": "UCI HAR",
    "mnist_0.5": "MNIST-0.5",
    "mnist_0.1": "MNIST-0.1",
    "cifar10": "CIFAR-10",
    "fashion_mnist": "Fashion-MNIST",
}


def write(app):
    """Write the pages of the results."""
    folder = Path(app.srcdir) / "results"
    kept = sorted((path.parent for path in (MEASURED / "paper").glob("*/table.md")), key=_place)
    for path in kept:
        put(folder / "paper" / f"{path.name}.md", _page(path, folder / "paper"))
    rows = "".join(f"- [{_title(path.name)}]({path.name}.md)\n" for path in kept)
    put(
        folder / "paper" / "index.md",
        "# The paper's tables\n\nEvery page has the command, the versions and the device. What agrees with "
        "the paper and what does not is in [the benchmarks](/results/benchmarks.md#the-paper-reproduced); "
        f"what the paper leaves open in [its experiments](/explanations/paper.md).\n\n{rows}",
    )
    for data, title in (("digits", "20 attacks × 8 rules, digits"), ("mnist", "20 attacks × 8 rules, MNIST")):
        text = _page(MEASURED / "attacks" / data, folder / "attacks", title)
        put(folder / "attacks" / f"{data}.md", text)


def _place(path):
    """The paper's tables come first, as in `TITLES`."""
    return [*TITLES, _kind(path.name)].index(_kind(path.name)), path.name


def _kind(name):
    return next((key for key in TITLES if name.startswith(key)), name)


def _title(name):
    of = next((key for key in sorted(DATA, key=len, reverse=True) if key in name), "")
    kind = _kind(name)
    rest = name.replace(of, "").replace(kind, "").strip("_ ")
    return f"{TITLES.get(kind, name)}: {DATA.get(of, of)}" + (f" ({rest})" if rest else "")


def _page(path, folder, title=None):
    """A sweep that was kept, in Markdown: its command, table and figures."""
    about = json.loads((path / "about.json").read_text()) if (path / "about.json").exists() else {}
    chunks = [f"# {title}"] if title else ["---\norphan: true\n---", f"# {_title(path.name)}"]
    if "command" in about:
        chunks.append(f"```sh\n{about['command']}\n```")
        versions = about["versions"][0]
        with_ = f"fljax {versions['fljax']}, JAX {versions['jax']}, {', '.join(about['device'])}"
        chunks.append(f"{about['cells']} cells, {with_}.")
    table = (path / "table.md").read_text(encoding="utf-8")
    table = re.sub(r"^(#+) ", lambda m: "#" * max(2, len(m[1])) + " ", table, flags=re.MULTILINE)
    table = re.sub(r"^## .*\n", "", table, count=1) if table.startswith("## ") else table
    chunks.append(table.strip())
    for figure in sorted(path.glob("*.png")):
        copied = folder / "figures" / f"{path.name}_{figure.name}"
        copied.parent.mkdir(parents=True, exist_ok=True)
        if not copied.exists() or copied.stat().st_mtime < figure.stat().st_mtime:
            shutil.copy(figure, copied)
        chunks.append(f"![{figure.stem.replace('_', ' ')}](figures/{copied.name})")
    return "\n\n".join(chunks) + "\n"
