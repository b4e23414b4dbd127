import csv
import inspect
import itertools
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.bench import grid, measure, peers, report
from fljax.errors import ConfigError
from fljax.registry import Entry
from tests.support.command import command

LIMITS = measure.Limits(2, 0.05)


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """`fljax bench aggregators WORDS` in an empty folder: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys, "bench", "aggregators")


def rows_of(cells, compared=False, limits=LIMITS):
    devices = grid.find_devices(["all"])
    return [row for _, rows in measure.measure(cells, devices, 0.25, limits, compared) for row in rows]


# --- what is measured --------------------------------------------------------------------------------


def test_the_grid_is_everything_at_every_size_with_shared_data_side_by_side():
    cells = grid.plan(n=[7, 5], d=[3, 4], dtypes=["float32", "float64"], devices=["all"])
    assert len(cells) == len({str(cell) for cell in cells}) == len({**RULES, **PRE_AGGREGATORS}) * 4 * 2 * 2
    assert not RULES.keys() & PRE_AGGREGATORS.keys(), "a name has to say which one is meant"
    assert {cell.device for cell in cells} == {"cpu:0", "cpu:1"}
    assert {cell.work.num_malicious for cell in cells} == {1}
    places = [(cell.work[:2], cell.dtype, cell.device) for cell in cells]
    changes = sum(a != b for a, b in itertools.pairwise(places))
    assert changes + 1 == len(set(places))


def test_the_presets():
    (paper,) = grid.plan(["krum"])
    assert paper.work == (100, 139_960, 20, {})
    assert paper.device == "cpu:0"
    assert grid.plan(["krum"], preset="paper") == [paper]
    assert [cell.work[:2] for cell in grid.plan(["mean"], preset="large")] == [
        (1000, 10_000),
        (10_000, 10_000),
    ]
    scaling = [cell.work[:2] for cell in grid.plan(["mean"], preset="scaling")]
    assert len(scaling) == len(set(scaling)) == 9
    assert {n for n, d in scaling if d == 100_000} == {10, 20, 50, 100, 200, 400}
    assert {d for n, d in scaling if n == 100} == {1_000, 10_000, 100_000, 1_000_000}
    assert grid.BYZPY.keys() <= grid.registry().keys()
    works = {cell.rule: cell.work for cell in grid.plan(preset="byzpy")}
    assert works == grid.BYZPY
    sizes = [work[:2] for work in works.values()]
    assert sum(a != b for a, b in itertools.pairwise(sizes)) + 1 == len(set(sizes))
    assert works["nnm"] == (196, 4096, 32, {})


@pytest.mark.parametrize("rule", [*RULES, *PRE_AGGREGATORS])
def test_every_rule_gets_its_arguments_from_its_signature(rule):
    function, arrays, hyper = grid.resolve(grid.plan([rule], n=[12], d=[5])[0])
    shapes = grid.array_shapes(12, 5)
    known = {
        **grid.model_facts(5),
        "key": jax.random.key(0),
        **{name: jnp.ones(shapes[name]) for name in shapes},
    }
    given = {name: known[name] for name in arrays}
    result = jax.eval_shape(lambda rows: function(rows, **given, **hyper), measure.draw(12, 5, 2))
    assert result.shape[-1] == 5
    assert [hyper[name] for name in grid.COUNTS if name in hyper] in ([], [2])


def test_there_is_a_value_for_every_array():
    stack = measure.make_stack(4, 3, 1, "bfloat16", jax.devices()[1], LIMITS)
    assert {name: stack.arrays[name].shape for name in grid.array_shapes(4, 3)} == grid.array_shapes(4, 3)
    assert jnp.issubdtype(stack.arrays["key"].dtype, jax.dtypes.prng_key)
    arrays = jax.tree.leaves((stack.updates, dict(stack.arrays)))
    assert {device for array in arrays for device in array.devices()} == {jax.devices()[1]}
    assert stack.floors.keys() == {f"{floor}_seconds" for floor in report.FLOORS}
    assert min(stack.floors.values()) > 0


def test_the_flipped_rows_are_the_last_ones():
    honest, some = measure.draw(6, 50, 0), measure.draw(6, 50, 2)
    np.testing.assert_array_equal(some[:4], honest[:4])
    np.testing.assert_array_equal(some[4:], -honest[4:])
    cosines = honest @ honest[0] / np.linalg.norm(honest, axis=1)
    assert cosines.min() > 0


def test_a_count_too_large_for_n_is_lowered_but_another_refusal_is_not_hidden():
    def hyper(rule, n):
        return grid.resolve(grid.plan([rule], n=[n], d=[4])[0])[2]

    assert hyper("bulyan", 11) == {"num_malicious": 2}
    assert hyper("bulyan", 10) == {"num_malicious": 1}
    assert hyper("minimum_diameter", 10) == {"num_malicious": 2}
    with pytest.raises(ValueError, match="smallest_spectrum"):
        hyper("smallest_spectrum", 1000)


def test_given_hyper_parameters_replace_the_usual_ones():
    work = grid.BYZPY["centered_clipping"]
    assert grid.resolve(grid.Cell("centered_clipping", work, "float32", "cpu:0"))[2] == work.hyper
    clip = grid.plan(["clip"], n=[4], d=[16])[0]
    assert grid.resolve(clip)[2] == {"radius": 4.0}
    assert np.linalg.norm(measure.draw(50, 400, 10), axis=1).min() > 20.0


# --- how it is measured ------------------------------------------------------------------------------


class Clock:
    """Stands for time.perf_counter; a call advances it."""

    def __init__(self, monkeypatch):
        self.now, self.log = 0.0, []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def side(self, name, seconds, prepare=0.0):
        def before():
            self.now += prepare
            return ()

        def call():
            self.now += seconds
            self.log.append(name)

        return before, call


def test_sides_take_turns_within_their_own_budgets(monkeypatch):
    clock = Clock(monkeypatch)
    fast, slow = clock.side("fast", 0.5, prepare=100.0), clock.side("slow", 3.0)
    times = measure.repeat([fast, slow], [0.5, 3.0], measure.Limits(8, 10.0))
    # What is prepared is not timed. The slow one stops when the warm-up and its calls have used 10 s.
    assert times == [[0.5] * 8, [3.0] * 3]
    assert clock.log == ["fast"] * 5 + ["slow"] * 3 + ["fast"] * 3
    assert measure.repeat([slow], [11.0], measure.Limits(8, 10.0)) == [[11.0]]


def test_the_figures_fit_together():
    (row,) = rows_of(grid.plan(["trimmed_mean"], n=[8], d=[1000]), limits=measure.Limits(9, 5.0))
    assert row.keys() == set(measure.COLUMNS)
    assert (row["status"], row["calls"], row["num_malicious"], row["variant"]) == ("ok", 9, 1, "")
    assert 0 < row["seconds_min"] <= row["seconds_q1"] <= row["seconds_median"] <= row["seconds_q3"]
    assert row["seconds_compile"] > 0
    assert row["matrix_bytes"] == 32_000
    assert row["gb_per_s"] == pytest.approx(32_000 / row["seconds_median"] / 1e9)
    for floor in ("read", "copy"):
        assert row[f"of_{floor}"] == pytest.approx(row[f"{floor}_seconds"] / row["seconds_median"])
    # The matrix and the result, at least.
    assert 1 + 1 / 8 <= row["memory_multiple"] == row["program_bytes"] / 32_000
    assert row["peer"] is row["ratio"] is None


def test_types_are_those_asked_for_and_stay_inside():
    seen = []

    def spy(updates):
        """Spy."""
        seen.append(str(updates.dtype))
        return updates[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grid, "RULES", {**RULES, "spy": Entry(spy, "spy", "Spy")})
        rows = rows_of(grid.plan(["spy"], n=[3], d=[10], dtypes=grid.DTYPES))
    assert list(dict.fromkeys(seen)) == ["float32", "bfloat16", "float64"]
    assert [row["matrix_bytes"] for row in rows] == [120, 60, 240]
    assert jnp.ones(1).dtype == "float32"


def test_a_pre_aggregator_is_measured_with_its_input_donated_too_if_the_result_fits(monkeypatch):
    def double(updates):
        """Double."""
        return 2 * updates

    def half(updates):
        """Half of the rows."""
        return 2 * updates[::2]

    pieces = {function.__name__: Entry(function, function.__name__, "") for function in (double, half)}
    for module in (grid, measure):
        monkeypatch.setattr(module, "PRE_AGGREGATORS", pieces)
    rows = rows_of(grid.plan(["double", "half"], n=[8], d=[1000]))
    assert [(row["rule"], row["variant"], row["memory_multiple"]) for row in rows] == [
        ("double", "", 2.0),
        ("double", "donated", 1.0),
        ("half", "", 1.5),
    ]


def test_what_cannot_be_measured_says_why_and_the_rest_goes_on(monkeypatch):
    def needs(updates, banana):
        """Needs."""

    def refuses(updates):
        """Refuses."""
        raise ValueError("refuses: not with me\nmore")

    def breaks(updates):
        """Breaks."""
        raise RuntimeError("no luck")

    def breaks_late(updates):
        """Breaks on the device."""
        return jax.pure_callback(refuses, jax.ShapeDtypeStruct((3,), "float32"), updates)

    functions = (needs, refuses, breaks, breaks_late)
    added = {function.__name__: Entry(function, function.__name__, "") for function in functions}
    monkeypatch.setattr(grid, "RULES", {**RULES, **added})
    rows = rows_of(grid.plan(["needs", "refuses", "breaks", "breaks_late", "mean"], n=[4], d=[3]))
    assert [(row["rule"], row["status"]) for row in rows] == [
        ("needs", "refused"),
        ("refuses", "refused"),
        ("breaks", "failed"),
        ("breaks_late", "failed"),
        ("mean", "ok"),
    ]
    assert rows[0]["reason"] == "needs: needs banana, for which the benchmark has no value"
    assert rows[1]["reason"] == "refuses: not with me"
    assert rows[2]["reason"] == "RuntimeError: no luck"
    monkeypatch.setattr(measure, "make_stack", lambda *_: [][0])
    rows = rows_of(grid.plan(["mean", "median"], n=[4], d=[3]))
    assert [row["status"] for row in rows] == ["failed", "failed"]


# --- the peer ----------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch):
    """Modules that stand for byzfl and torch, with NumPy arrays as tensors."""

    def rule(compute):
        return lambda *args, **kwargs: lambda rows: compute(rows, *args, **kwargs)

    def too_large(rows):
        raise RuntimeError("quantile() input tensor is too large")

    def trimmed(rows, f):
        return np.sort(rows, axis=0)[f : len(rows) - f].mean(0)

    def clipping(rows, c):
        norms = np.linalg.norm(rows, axis=1)
        assert norms.max() > c, "it was given its own result"
        rows *= np.minimum(1.0, c / norms)[:, None]
        return rows

    threads = []
    torch = SimpleNamespace(
        set_num_threads=threads.append,
        get_num_threads=lambda: threads[-1],
        from_numpy=lambda array: array,
        clone=np.copy,
        cuda=SimpleNamespace(is_available=lambda: False),
        threads=threads,
    )
    byzfl = SimpleNamespace(
        Average=rule(lambda rows: rows[0]),  # not the mean
        Median=rule(too_large),
        TrMean=rule(trimmed),
        Clipping=rule(clipping),
        Krum=rule(lambda rows, f: rows[f]),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "byzfl", byzfl)
    monkeypatch.setattr(peers, "version", lambda name: f"{name}-version")
    return SimpleNamespace(torch=torch, byzfl=byzfl)


def test_the_peer_is_timed_on_the_same_data_and_its_result_compared(fake):
    assert peers.load(3) == {"byzfl": "byzfl-version", "torch": "torch-version", "torch_threads": 3}
    names = ["mean", "median", "trimmed_mean", "clip", "sign_majority", "krum"]
    rows = {(row["rule"], row["variant"]): row for row in rows_of(grid.plan(names, n=[9], d=[50]), True)}
    krum = rows.pop(("krum", "n−f−1 neighbours"))
    assert json.loads(krum["hyper"]) == {"num_malicious": 1, "num_neighbors": 7}
    assert rows.keys() == {*((name, "") for name in names[:-1]), ("clip", "donated")}
    assert all(row["status"] == "ok" for row in rows.values())
    trimmed = rows["trimmed_mean", ""]
    assert trimmed["difference"] < 1e-6
    assert trimmed["ratio"] == trimmed["peer_seconds_median"] / trimmed["seconds_median"]
    assert trimmed["peer_calls"] >= 1
    assert rows["mean", ""]["difference"] > 0.01, "another computation must be visible"
    for variant in ("", "donated"):
        assert rows["clip", variant]["difference"] < 1e-6
        assert "in place" in rows["clip", variant]["peer_note"]
    assert rows["median", ""]["ratio"] is None
    assert "too large" in rows["median", ""]["peer_note"]
    assert rows["sign_majority", ""]["peer"] is None


def test_pairs_set_our_parameters_to_what_the_peer_computes(fake):
    made = []
    for name in ("Krum", "GeometricMedian", "CenteredClipping"):
        setattr(fake.byzfl, name, lambda *args, name=name, **kwargs: made.append((name, args, kwargs)))
    (krum,) = peers.pairs("krum", 10, {"num_malicious": 2})
    assert krum.override == {"num_neighbors": 7}
    steps, converged = peers.pairs("geometric_median", 10, {})
    assert steps.override == {
        "smoothing": 0.1,
        "smoothing_unit": 1.0,
        "max_iterations": 3,
        "tolerance": 0.0,
        "start": "zero",
    }
    assert converged.override == {}
    once, five = peers.pairs("centered_clipping", 10, {"radius": 2})
    assert (once.override, five.override) == ({"num_iterations": 1}, {"num_iterations": 5})
    (ten,) = peers.pairs("centered_clipping", 10, {"radius": 2, "num_iterations": 10})
    for pair in (krum, steps, converged, once, five, ten):
        pair.make()
    assert made == [
        ("Krum", (2,), {}),
        ("GeometricMedian", (), {"nu": 0.1, "T": 3}),
        ("GeometricMedian", (), {"nu": 1e-6, "T": 100}),
        *(("CenteredClipping", (), {"L": count, "tau": 2.0}) for count in (1, 5, 10)),
    ]
    # Every override is a parameter of ours.
    for name, entry in grid.registry().items():
        for pair in peers.pairs(name, 12, {"num_malicious": 2, "bucket_size": 2}):
            pair.override.keys() <= set(inspect.signature(entry.function).parameters) or pytest.fail(name)
    with pytest.raises(ValueError, match="30,045,015 subsets"):
        peers.pairs("minimum_diameter", 30, {"num_malicious": 10})[0].make()


# --- what is shown and kept --------------------------------------------------------------------------


def test_the_command_writes_what_it_measured(cli, tmp_path, fake):
    words = ["--rule", "trimmed_mean", "--rule", "clip", "--n", 6, "--d", 16, "--d", 32]
    status, out, err = cli(*words, "--repeats", 2, "--peers")
    assert (status, err) == (0, "")
    folder = tmp_path / "runs" / "bench-aggregators"
    names = {"rows.jsonl", "results.csv", "results.json"}
    assert {path.name for path in folder.iterdir()} == names | {"times_by_d.png"}
    assert (folder / "times_by_d.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["command"].startswith("fljax bench aggregators --rule trimmed_mean --rule clip --n 6")
    assert results["finished"] is True
    assert results["cores"] == results["peer"]["torch_threads"] == fake.torch.threads[-1]
    assert results["versions"]["jax"] == jax.__version__
    assert [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()] == results["rows"]
    assert len(results["rows"]) == 2 * 3
    table = list(csv.DictReader((folder / "results.csv").open()))
    assert [row["rule"] for row in table] == [row["rule"] for row in results["rows"]]
    assert float(table[0]["seconds_median"]) == results["rows"][0]["seconds_median"]
    for shown in ("4/4", "trimmed_mean", "clip, donated", "peer/ours", "in place", "fresh copy"):
        assert shown in out, shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", out)
    # The next one has a folder of its own.
    assert cli("--rule", "root_only", "--n", 2, "--d", 2, "--repeats", 1, "--device", "all")[0] == 0
    plots = {path.name for path in (tmp_path / "runs" / "bench-aggregators-2").glob("*.png")}
    assert plots == {f"times_float32_cpu_{i}.png" for i in range(2)}


def test_an_interrupted_run_keeps_what_it_has(cli, tmp_path, monkeypatch):
    real = measure.measure_cell

    def interrupted(cell, *more):
        if cell.rule == "median":
            raise KeyboardInterrupt
        return real(cell, *more)

    monkeypatch.setattr(measure, "measure_cell", interrupted)
    words = [word for rule in ("mean", "median", "krum") for word in ("--rule", rule)]
    status, out, err = cli(*words, "--n", 8, "--d", 4, "--repeats", 1, "--out", "kept")
    assert (status, err) == (130, "")
    assert "interrupted" in out
    results = json.loads((tmp_path / "kept" / "results.json").read_text())
    assert results["finished"] is False
    assert [row["rule"] for row in results["rows"]] == ["mean"]
    assert (tmp_path / "kept" / "times.png").exists()


def test_a_run_without_a_figure_still_ends_with_its_reasons(cli, tmp_path):
    status, out, _ = cli("--rule", "smallest_spectrum", "--n", 1000, "--d", 2, "--repeats", 1, "--out", "o")
    assert status == 0
    assert "refused: smallest_spectrum" in out
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"rows.jsonl", "results.csv", "results.json"}


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--rule", "medain"], ["'medain'", "did you mean 'median'"]),
        (["--dtype", "float16"], ["--dtype", "'float16'", "bfloat16"]),
        (["--device", "cpu:7"], ["--device", "'cpu:7'", "cpu:0"]),
        (["--preset", "papre"], ["--preset", "did you mean 'paper'"]),
        (["--preset", "large", "--n", "4"], ["--preset large", "--n"]),
        (["--preset", "byzpy", "--rule", "krum"], ["byzpy", "multi_krum"]),
        (["--n", "0"], ["--n", "0"]),
        (["--d", "-3"], ["--d", "-3"]),
        (["--fraction-malicious", "0.5"], ["--fraction-malicious", "0.5"]),
        (["--fraction-malicious", "nan"], ["--fraction-malicious", "nan"]),
        (["--repeats", "0"], ["--repeats"]),
        (["--seconds", "nan"], ["--seconds"]),
        (["--out", "taken"], ["taken"]),
    ],
    ids=" ".join,
)
def test_wrong_values_are_one_sentence_before_anything_happens(cli, tmp_path, monkeypatch, words, fragments):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    monkeypatch.setattr(measure, "make_stack", lambda *_: pytest.fail("it measured"))
    status, _, err = cli(*words)
    assert status == 2
    assert re.fullmatch(r"fljax: [^\n]+\n", err), err
    assert all(fragment in err for fragment in fragments), err
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine.txt"]


def test_a_missing_peer_is_one_sentence(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "byzfl", None)
    status, _, err = cli("--peers", "--rule", "mean", "--n", 4, "--d", 4)
    assert status == 2
    assert re.fullmatch(r'fljax: --peers needs [^\n]+pip install "fljax\[bench\]"\n', err), err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError):
        peers.load(1)


def test_the_peer_is_not_imported_without_being_asked_for(tmp_path):
    code = (
        "import sys\n"
        "sys.argv = 'fljax bench aggregators --rule mean --n 2 --d 2 --repeats 1'.split()\n"
        "try:\n    from fljax.cli.app import main; main()\n"
        "except SystemExit as leave:\n    assert not leave.code\n"
        "assert 'fljax.bench.peers' in sys.modules\n"
        "print('loaded', [m for m in ('torch', 'byzfl', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("sizes", "compared", "axes"),
    [
        ([(4, 8)], True, ""),
        ([(4, 8), (8, 16)], False, ""),
        ([(4, 8), (4, 16)], False, "d"),
        ([(4, 8), (4, 16), (8, 16)], True, "dn"),
    ],
)
def test_figures_of_any_grid(tmp_path, sizes, compared, axes):
    rows = []
    for i, (n, d) in enumerate(sizes * 7):
        row = dict.fromkeys(measure.COLUMNS) | {"rule": f"rule {i // len(sizes)}", "n": n, "d": d}
        times = {f"{name}_seconds": 1e-4 * d for name in report.FLOORS} | {"seconds_median": 1e-3 * n * d}
        peer = {"peer": "ByzFL", "peer_seconds_median": 1e-2, "ratio": 2.0} if compared and i % 2 else {}
        rows.append(
            row | {"variant": "", "dtype": "float32", "device": "cpu:0", "status": "ok"} | times | peer
        )
    report.write_results(rows, {}, tmp_path)
    expected = {f"times_by_{axis}.png" for axis in axes} or {"times.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == expected
