"""Runs of the paper's experiments that are kept: sweeps, and the small files of their reports.

python benchmarks/paper.py har      # Tables III to VI and the figures on UCI HAR
python benchmarks/paper.py mnist    # Table III (b) at full length, which server, which direction
python benchmarks/paper.py short    # the other data sets, shortened

A sweep that is there is continued; the folders of the sweeps stay under runs/paper/.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from fljax.report import load_results, write_report

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "paper"
FEW_RULES = "sweep.axes.aggregator=['mean', 'fltrust']"
# Name of the kept folder and of the configuration, and what is set besides; a short run is one of Table III.
RUNS = {
    "har": {
        "table3_uci_har": ["sweep.seeds=3"],
        "table4_uci_har": ["sweep.seeds=3"],
        "table5_uci_har": ["sweep.seeds=3"],
        "table6_uci_har": ["sweep.seeds=3"],
        "figure_convergence_uci_har": ["sweep.seeds=3"],
        "figure_adaptive_uci_har": ["sweep.seeds=3"],
        "figure_fraction_uci_har": [],
        "figure_clients_uci_har": [],
        "server_uci_har": [],
        "scaling_uci_har": [],
    },
    "mnist": {
        "root_mnist_0.5": [],
        "table3_mnist_0.5_selected": ["sweep.seeds=3"],
        "direction_mnist_0.5": [],
        "table3_mnist_0.5": [],
    },
    "short": {
        "short_fashion_mnist": ["rounds=100", "eval_every=10", "sweep.axes.attack=['none', 'trim_attack']"],
        "short_mnist_0.1": ["rounds=200", "eval_every=20", "sweep.axes.attack=['none']", FEW_RULES],
        "short_cifar10": ["rounds=5", "eval_every=5", "sweep.axes.attack=['none']", FEW_RULES],
    },
}


def keep(name: str, folder: Path, command: list[str]) -> None:
    """Copy what is small: tables, figures in few colours, configuration, device, versions, times."""
    out = KEPT / name
    write_report(folder, out, ["md", "csv", "png"])
    # Every cell is in the sweep's own table, and a figure for each of many combinations is too much to keep.
    unwanted = ["results.csv", "curves.csv", "report.md", *(path.name for path in out.glob("*_[0-9].png"))]
    for name_of_file in unwanted:
        (out / name_of_file).unlink()
    for path in out.glob("*.png"):
        picture = Image.open(path).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    results = load_results(folder)
    frame = results.frame
    groups = frame.groupby("group")["seconds_compile"].first()
    about = {
        "command": " ".join(command),
        "cells": f"{len(frame)} of {results.total}",
        "device": sorted(frame["device"].unique()),
        "versions": [json.loads(text) for text in frame["versions"].unique()],
        "seconds_compile_all_programs": round(float(groups.sum()), 1),
        "seconds_run_all_cells": round(float(frame["seconds_run"].sum()), 1),
        "config": results.config,
    }
    (out / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=RUNS)
    parser.add_argument("--only", help="the name of one run")
    parser.add_argument("--keep-only", action="store_true", help="keep what is there, run nothing")
    given = parser.parse_args()
    for name, settings in RUNS[given.which].items():
        if given.only not in (None, name):
            continue
        folder = ROOT / "runs" / "paper" / name
        options = [word for setting in settings for word in ("--set", setting)]
        config = f"configs/paper/{name.replace('short_', 'table3_')}.toml"
        command = ["fljax", "sweep", config, *options]
        if not given.keep_only:
            places = ["--out", str(folder), *(["--resume"] if folder.exists() else [])]
            subprocess.run([sys.executable, "-m", *command, *places], cwd=ROOT, check=True)
        keep(name, folder, command)


if __name__ == "__main__":
    main()
