"""A metric is described where it is measured: a copy of the library with one more shows it everywhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

import fljax
from fljax.engine.evaluate import Evaluation
from fljax.engine.round import RoundMetrics
from fljax.simulation.lines import EVALUATED, MEASURED, PER_ROUND

FIELD = """    largest_entry: Annotated[Array, Metric("largest entry", panel="largest entry")]
    finite: Annotated["""
VALUE = """        largest_entry=jnp.max(jnp.abs(update)),
        finite="""
SCRIPT = """
import fljax
from fljax.config.schema import parse_config
from fljax.report import write_report
from fljax.report.run import run_figure
from fljax.sweeps import make_sweep

values = {"rounds": 4, "eval_every": 2, "num_clients": 6, "aggregator": {"name": "mean"}}
values |= {"data": {"name": "synthetic", "num_train": 200, "num_test": 50}, "root": {"size": 20}}
values |= {"model": {"name": "logistic_regression"}}
result = fljax.run(parse_config(values), "run", progress=False)
fljax.sweep(make_sweep(values, {"seeds": 1}), "sweep", progress=False, workers=1)
for folder in ("run", "sweep"):
    write_report(folder, formats=["csv"])
print([axes.get_ylabel() for part in run_figure(result.metrics, "", "").subfigs for axes in part.axes])
"""


def test_every_number_of_a_round_and_of_an_evaluation_is_described():
    assert [*EVALUATED, "further"] == list(Evaluation._fields)
    assert [*PER_ROUND, "finite"] == list(RoundMetrics._fields)
    titles = [metric.title for metric in MEASURED.values()]
    assert len(set(titles)) == len(titles)


def test_a_metric_is_added_in_one_place(tmp_path):
    library = tmp_path / "fljax"
    shutil.copytree(Path(fljax.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    module = library / "engine" / "round.py"
    text = module.read_text(encoding="utf-8")
    for line, more in (("    finite: Annotated[", FIELD), ("        finite=", VALUE)):
        assert text.count(line) == 1
        text = text.replace(line, more)
    module.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["largest_entry"] for line in lines]
    assert len(values) == 2
    assert min(values) > 0
    table = pd.read_parquet(tmp_path / "sweep" / "results.parquet")
    assert list(table["curve_largest_entry"][0]) == values
    for folder in ("run", "sweep"):
        curves = pd.read_csv(tmp_path / folder / "report" / "curves.csv")
        assert curves["largest_entry"].tolist() == values
    assert "'largest entry'" in done.stdout
