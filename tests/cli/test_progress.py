"""What a call from Python shows while it runs."""

import pytest

import fljax
from fljax.config.schema import parse_config

pytestmark = pytest.mark.usefixtures("shared_experiments")

CONFIG = parse_config(
    {
        "rounds": 4,
        "eval_every": 2,
        "num_clients": 6,
        "data": {"name": "synthetic", "num_train": 200, "num_test": 50},
        "model": {"name": "logistic_regression"},
        "root": {"size": 20},
        "aggregator": {"name": "mean"},
    }
)


def test_a_run_shows_how_far_it_is_unless_something_else_is_asked(capsys):
    fljax.run(CONFIG)
    out, err = capsys.readouterr()
    assert out == ""
    assert "round 4/4  test error" in err.splitlines()[-1]
    rounds = []
    for progress in (False, None, lambda record: rounds.append(record.round)):
        fljax.run(CONFIG, progress=progress)
    assert rounds == [2, 4]
    assert capsys.readouterr() == ("", "")


def test_a_long_interval_between_evaluations_is_not_silent(capsys, monkeypatch):
    # Every call is a round, and every line is due.
    monkeypatch.setattr("fljax.engine.loop.LONGEST_CALL", 0.0)
    monkeypatch.setattr("fljax.simulation.progress.LINE_EVERY", -1.0)
    fljax.run(CONFIG)
    lines = capsys.readouterr().err.splitlines()[-4:]
    assert [line.split()[:2] for line in lines] == [["round", f"{done}/4"] for done in (1, 2, 3, 4)]
    assert ["test error" in line for line in lines] == [False, True, False, True]
    assert all("rounds/s" in line for line in lines)
    assert "left" in lines[0]


def test_an_interrupted_run_says_how_to_continue(tmp_path):
    out = tmp_path / "run"

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as error:
        fljax.run(CONFIG, out, progress=interrupt)
    assert error.value.__notes__ == [
        f"what is done is kept; continue with fljax.run(..., out={str(out)!r}, resume=True)"
    ]
    rounds = []
    fljax.run(CONFIG, out, resume=True, progress=lambda record: rounds.append(record.round))
    assert rounds == [4]
    with pytest.raises(KeyboardInterrupt) as error:
        fljax.run(CONFIG, progress=interrupt)
    assert not hasattr(error.value, "__notes__")
