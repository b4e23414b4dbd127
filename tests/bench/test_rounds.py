import json
import math
import re

import numpy as np
import pytest

from fljax.bench import jobs, round_peers, rounds, rounds_report
from fljax.bench.measure import Limits
from fljax.bench.round_peers import Contender
from tests.support.command import command

TINY = {
    "num_clients": 3,
    "model": {"name": "logistic_regression"},
    "local": {"batch_size": 2, "steps": 2},
    "root": {"size": 2},
    "attack": {"name": "trim_attack", "fraction": 0.4},
}
MADE = jobs.Made((3,), 2, each=5, test=4)
JOB = jobs.Job("tiny", TINY, MADE)


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """`fljax bench rounds WORDS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys, "bench", "rounds")


# --- the work -----------------------------------------------------------------------------------------


def test_presets_are_the_published_jobs():
    sizes = {}
    for preset in jobs.PRESETS:
        for job in jobs.plan(preset=preset):
            config = job.config()
            sizes[job.name] = (config.cohort_size or config.num_clients, config.local.steps)
            assert job.made.each >= config.local.batch_size
    assert sizes["CNN, FLTrust, Trim attack"] == (100, 1)
    assert sizes["LeNet, 20 clients, 20 steps of 50"] == (20, 20)
    assert sizes["CNN with dropout, 50 of 1,000 clients, 5 steps of 10"] == (50, 5)
    assert jobs.plan() == jobs.plan(preset="paper")


def test_what_varies_varies_alone_in_every_job(tmp_path):
    (tmp_path / "a.toml").write_text("num_clients = 4\nlocal = { steps = 3 }\n")
    vary = {"num_clients": [2, 8], "model.hidden": [[3], [5]]}
    found = jobs.plan(tmp_path / "a.toml", overrides={"local.batch_size": 7}, vary=vary)
    seen = [
        (job.vary, job.config().num_clients, job.config().model.parameters.get("hidden")) for job in found
    ]
    assert seen == [
        ("num_clients", 2, None),
        ("num_clients", 8, None),
        ("model.hidden", 4, [3]),
        ("model.hidden", 4, [5]),
    ]
    for job in found:
        assert (job.config().local.steps, job.config().local.batch_size, job.made) == (3, 7, None)
        assert job.config().eval_every == jobs.ROUNDS


def test_made_up_data_have_what_the_clients_and_the_server_need():
    dataset = JOB.dataset()
    assert dataset.train_x.shape == (3 * 5 + 2, 3)
    assert dataset.test_x.shape == (4, 3)
    assert set(dataset.train_y) == {0, 1}
    assert jobs.Job("own", TINY).dataset() is None


# --- how it is measured --------------------------------------------------------------------------------


class Clock:
    """Stands for the clocks; what is called advances them."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(rounds.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(rounds.time, "process_time", lambda: 2 * self.now)

    def takes(self, seconds):
        def call():
            self.now += seconds

        return call


@pytest.fixture
def clock(monkeypatch):
    """Rounds of known length: 5 s with rule and attack, 4 s without the attack, 1 s of FedAvg alone."""
    clock = Clock(monkeypatch)

    class Known:
        seconds_compile, bytes = 7.0, 1000

        def __init__(self, experiment):
            self.count = experiment.config.eval_every
            config = experiment.config
            honest = config.attack.name == "none"
            self.seconds = 1.0 if honest and config.aggregator.name == "mean" else 4.0 if honest else 5.0

        def __call__(self):
            clock.now += self.count * self.seconds

        def evaluate(self):
            clock.now += 0.5

    monkeypatch.setattr(rounds, "Rounds", Known)
    monkeypatch.setattr(rounds, "machine_flops", lambda size: 1e3)
    return clock


def test_figures_follow_from_the_times(clock, monkeypatch):
    found = [
        Contender("A", "A, fast", clock.takes(10.0), lambda: {"gradients": 0.7}),
        Contender("A", "A, slow", clock.takes(30.0)),
        Contender("B", "B", clock.takes(40.0), close=lambda: closed.append("B")),
    ]
    closed = []
    monkeypatch.setattr(rounds, "contenders", lambda experiment: (found, {"C": "not installed"}))
    ours, fast, slow, other, missing = rounds.measure_job(JOB, Limits(3, math.inf), compared=True)
    assert closed == ["B"]
    assert ours.keys() == set(rounds.COLUMNS)
    assert (ours["who"], ours["seconds_median"], ours["cpu_seconds_median"]) == ("fljax", 5.0, 10.0)
    shares = [ours[name] for name in rounds.SHARES]
    assert shares == pytest.approx([0.2, 0.2, 0.6, 0.1])
    assert ours["rounds_per_second"] == 0.2
    # 3 clients, 2 steps of 2 examples.
    assert ours["examples_per_second"] == pytest.approx(3 * 2 * 2 * 0.2)
    assert (ours["clients"], ours["batch"], ours["steps"], ours["num_params"]) == (3, 2, 2, 8)
    assert ours["of_floor"] == pytest.approx(ours["round_flops"] / 1e3 / 5)
    # Forward and the kernel's gradient, each 2 × 2 examples × 3 inputs × 2 classes, are the least.
    assert ours["round_flops"] >= 3 * 2 * 2 * (2 * 2 * 3 * 2)
    assert (ours["seconds_compile"], ours["program_bytes"], ours["seconds_evaluation"]) == (7.0, 1000, 0.5)
    assert (fast["ratio"], fast["gradients"], fast["calls"], fast["reason"]) == (2.0, 0.7, 3, "")
    # Another way to write the same peer is left at a first look; another peer never is.
    assert (slow["ratio"], slow["calls"]) == (6.0, rounds.LOOKS)
    assert "slower" in slow["reason"]
    assert (other["ratio"], other["calls"], other["reason"]) == (8.0, 3, "")
    assert (missing["who"], missing["status"], missing["reason"]) == ("C", "left out", "not installed")


def test_short_rounds_are_timed_several_at_once(clock, monkeypatch):
    monkeypatch.setattr(rounds, "LEAST_SECONDS", 12.0)
    calls = []
    peer = Contender("A", "A", lambda: calls.append(clock.takes(5.0)()))
    monkeypatch.setattr(rounds, "contenders", lambda experiment: ([peer], {}))
    ours, theirs = rounds.measure_job(JOB, Limits(1, math.inf), compared=True)
    assert ours["seconds_median"] == theirs["seconds_median"] == 5.0
    # One call to see how long it takes; then three a time, in two looks, a warm-up and one that counts.
    assert len(calls) == 1 + 3 * (rounds.LOOKS + 2)


def test_a_job_that_cannot_be_measured_says_why_and_the_rest_goes_on(clock):
    broken = JOB._replace(values={**TINY, "local": {"batch_size": 2}, "root": {"size": 10**6}}, made=None)
    rows = [row for _, found in rounds.measure_jobs([broken, JOB], Limits(1, 1.0)) for row in found]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert "root" in rows[0]["reason"]


def test_exponents_are_those_of_the_times():
    def row(key, who, value, seconds, status="ok"):
        return {"vary": key, "who": who, "value": value, "seconds_median": seconds, "status": status}

    rows = [row("n", "fljax", n, 3.0 * n**1.5) for n in (2, 4, 8)]
    rows += [row("n", "peer", 2, 1.0), row("", "fljax", None, 1.0), row("n", "fljax", 9, 0.0, "failed")]
    assert rounds.exponents(rows) == pytest.approx({"n, fljax": 1.5})


def test_a_peer_that_is_missing_or_breaks_is_named(monkeypatch):
    def missing(experiment):
        import a_library_that_nobody_has  # noqa: F401

    def breaks(experiment):
        raise RuntimeError("not like this\nand more")

    ready = Contender("C", "C", list)
    monkeypatch.setattr(round_peers, "PEERS", {"A": missing, "B": breaks, "C": lambda experiment: [ready]})
    found, left_out = round_peers.contenders(None)
    assert found == [ready]
    assert left_out == {"A": "not installed", "B": "not like this"}


# --- what is shown and kept ----------------------------------------------------------------------------


def test_the_command_writes_what_it_measured(cli, tmp_path, monkeypatch):
    def missing(experiment):
        raise ImportError

    monkeypatch.setattr(round_peers, "PEERS", {"A": missing})
    (tmp_path / "tiny.toml").write_text(
        "num_clients = 4\nlocal = { batch_size = 2 }\nroot = { size = 2 }\n"
        "model = { name = 'logistic_regression' }\n"
        "aggregator = { name = 'mean' }\n"
    )
    vary = ["--vary", "local.batch_size=[1, 4]"]
    status, out, err = cli(
        "tiny.toml", "--set", "num_clients=3", *vary, "--repeats", 1, "--seconds", 0.01, "--peers"
    )
    assert (status, err) == (0, "")
    folder = tmp_path / "runs" / "bench-rounds"
    assert {path.name for path in folder.iterdir()} == {"rows.jsonl", "results.csv", "results.json"}
    results = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["finished"] is True
    assert results["peer"] == round_peers.versions()
    ours = [row for row in results["rows"] if row["who"] == "fljax"]
    assert [(row["value"], row["batch"], row["clients"]) for row in ours] == [(1, 1, 3), (4, 4, 3)]
    assert len(results["rows"]) == 4
    assert results["exponents"].keys() == {"local.batch_size, fljax"}
    for shown in (
        "A left out: not installed",
        "2/2",
        "local.batch_size = 4",
        "seconds ~ local.batch_size^p of fljax",
        "gradients",
    ):
        assert shown in out, shown


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--preset", "papre"], ["--preset", "did you mean 'paper'"]),
        (["there.toml", "--preset", "pfl"], ["--preset pfl", "there.toml"]),
        (["nowhere.toml"], ["nowhere.toml"]),
        (["--vary", "num_clients=4"], ["--vary num_clients", "list"]),
        (["--vary", "num_clients"], ["--vary", "KEY=VALUE"]),
        (["--set", "num_clints=4"], ["num_clints", "num_clients"]),
        (["--vary", "local.steps=[1, 0]"], ["local.steps", "0"]),
        (["--repeats", "0"], ["--repeats"]),
        (["--seconds", "nan"], ["--seconds"]),
        (["--out", "taken"], ["taken"]),
    ],
    ids=" ".join,
)
def test_wrong_values_are_one_sentence_before_anything_happens(cli, tmp_path, monkeypatch, words, fragments):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "there.toml").write_text("num_clients = 4\n")
    monkeypatch.setattr(rounds, "measure_job", lambda *_: pytest.fail("it measured"))
    status, _, err = cli(*words)
    assert status == 2
    assert re.fullmatch(r"fljax: [^\n]+\n", err), err
    assert all(fragment in err for fragment in fragments), err
    assert not (tmp_path / "runs").exists()


def test_a_table_has_every_figure_and_names_what_is_left_out():
    row = dict.fromkeys(rounds.COLUMNS) | {"job": "job", "who": "fljax", "status": "ok", "vary": ""}
    sizes = {"clients": 1000, "num_params": 139_960, "batch": 32, "steps": 1.5, "program_bytes": 3e6}
    times = {f"seconds_{name}": 0.5 for name in ("median", "min", "q1", "q3", "compile", "evaluation")}
    speeds = {"cpu_seconds_median": 0.9, "rounds_per_second": 2.0, "examples_per_second": 64_000.0}
    shares = {**dict.fromkeys(rounds.SHARES, 0.25), "of_floor": 0.31}
    row |= sizes | times | speeds | shares
    left_out = row | {"who": "peer", "status": "left out", "reason": "not installed", "load_average": None}
    (table,) = rounds_report.tables([row, left_out])
    assert str(table.title) == "job (n = 1,000, d = 139,960, b = 32, R = 1.5)"
    assert table.row_count == 1
    assert rounds_report.remarks([row, left_out])[-1] == "job: peer left out: not installed"
    assert np.isfinite(row["seconds_median"])
