"""The picture of README.md: `python docs/static/readme.py` runs the sweep again, a minute on two cores."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

import fljax
from fljax.sweeps import load_sweep

HERE = Path(__file__).parent
GREY = "#808080"
COLORS = {
    "FedAvg": "#3b82d0",
    "Krum": "#d98c1f",
    "Trim-mean": "#2e9e5b",
    "Median": "#8a63d2",
    "FLTrust": "#d9483b",
}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.transparent": True,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
}


def main():
    """Five rules under the Trim attack, and FedAvg without it."""
    file = HERE.parents[1] / "configs/rules_by_attacks.toml"
    results = fljax.sweep(load_sweep(file, {"sweep.axes.attack": ["trim_attack"]}))
    with mpl.rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        axis = figure.subplots()
        attacked = results.attack == "Trim attack"
        ends = []
        for title, color in COLORS.items():
            of = results[attacked & (results.aggregator == title)]
            rounds = np.asarray(of.curve_round.iloc[0])
            curves = np.stack([np.asarray(curve) for curve in of.curve_test_error])
            axis.plot(rounds, curves.mean(0), color=color, lw=2)
            axis.fill_between(rounds, curves.min(0), curves.max(0), color=color, alpha=0.15, lw=0)
            ends.append((np.log(curves[:, -5:].mean()), title, color))
        reference = results[~attacked]
        without = np.stack([np.asarray(curve) for curve in reference.curve_test_error]).mean(0)
        axis.plot(rounds, without, ":", color=GREY, lw=1.5)
        ends.append((np.log(without[-5:].mean()), "FedAvg, no attack", GREY))
        # Names stand at the ends of their curves, far enough from each other to be read.
        at = -np.inf
        for value, title, color in sorted(ends):
            at = max(value, at + 0.23)
            axis.text(rounds[-1] + 8, np.exp(at), title, color=color, va="center")
        axis.set(yscale="log", xlabel="round", ylabel="test error", xlim=(0, 500))
        axis.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
        axis.set_title("Digits, 20 clients, 4 of them send the Trim attack", loc="left", fontsize=10)
        figure.savefig(HERE / "readme.png", dpi=160)


if __name__ == "__main__":
    main()
