"""The figure of one run."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fljax.report.style import BENIGN, MALICIOUS, error_axis, save, sheet, tidy


def plot_run(metrics: Mapping[str, np.ndarray], heading: str, facts: str, path: Path) -> None:
    """Test error, and success rate, trust scores or acceptance where there are any, over rounds.

    Args:
        metrics: columns of metrics.jsonl.
        heading: what was run.
        facts: on what.
        path: the PNG to write.
    """
    save(run_figure(metrics, heading, facts), path)


def run_figure(metrics: Mapping[str, np.ndarray], heading: str, facts: str) -> Figure:
    """The figure of `plot_run`."""

    def there(*names: str) -> list[str]:
        return [name for name in names if name in metrics and np.isfinite(metrics[name]).any()]

    panels = [("test error", ["test_error"])]
    panels += [("attack success rate", names) for names in [there("attack_success_rate")] if names]
    trust = there("trust_benign", "trust_malicious")
    accepted = there("benign_accepted", "malicious_accepted")
    if trust or accepted:
        panels.append(("mean trust score" if trust else "share of clients accepted", trust or accepted))
    with matplotlib.rc_context({"text.parse_math": False}):
        figure, body = sheet(max(3.6 * len(panels), 5.0), 3.1, heading, facts)
        axes = body.subplots(1, len(panels), squeeze=False)[0]
        for panel, (title, names) in zip(axes, panels, strict=True):
            for name in names:
                who = "malicious" if "malicious" in name else "benign"
                color = {"test_error": "#333333", "attack_success_rate": MALICIOUS}.get(name)
                look = {"color": color or (MALICIOUS if who == "malicious" else BENIGN)}
                marks = {"marker": ".", "ms": 4} if np.isfinite(metrics[name]).sum() <= 25 else {}
                dashes = "--" if color is None and who == "malicious" else "-"
                panel.plot(metrics["round"], metrics[name], dashes, **look, **marks, label=f"{who} clients")
            panel.set_xlabel("round", fontsize=9)
            panel.set_ylabel(title, fontsize=9)
            if len(names) > 1:
                panel.legend(frameon=False, fontsize=8)
            if title == "test error":
                error_axis([panel], [metrics["test_error"]])
            else:
                panel.set_ylim(bottom=0, top=None if trust and names == trust else 1.02)
        tidy(axes)
    return figure
