"""Figures: what is on which axis, in which colour, under which words."""

import json
from itertools import combinations

import numpy as np
import pytest

from fljax.aggregators import RULES
from fljax.report import load_results
from fljax.report.figures import pictures
from fljax.report.style import COLORS, error_axis, looks, sheet
from tests.support.sweep_folders import cell, write_sweep

CONFIG = {
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "partition": {"name": "label_bias", "bias": 0.5},
}
NAMES = {"FedAvg": "mean", "Krum": "krum", "FLTrust": "fltrust"}


def row(rule, attack, error, success=None, **others):
    config = json.dumps({**CONFIG, "aggregator": {"name": NAMES[rule]}})
    return cell(rule, attack, 0, error, success, config=config, **others)


@pytest.fixture
def drawn():
    """Figures by name."""

    def draw(folder, page=None):
        return {picture.name: picture.figure for picture in pictures(load_results(folder), page)}

    return draw


def a_run(folder, done=lambda rule, attack: True):
    """What `make run` is like: FedAvg alone without attack, small errors beside a large one, a backdoor."""
    errors = {"Krum attack": (0.04, 0.9, 0.07), "Scaling attack": (0.038, 0.11, 0.042)}
    success = {"Scaling attack": (1.0, 0.02, 0.01)}
    cells = [
        row(rule, attack, errors[attack][i], success[attack][i] if attack in success else None)
        for attack in errors
        for i, rule in enumerate(NAMES)
    ]
    cells.append(row("FedAvg", "no attack", 0.03))
    axes = {"aggregator": list(NAMES), "attack": [*errors, "no attack"]}
    return write_sweep(folder, axes, [each for each in cells if done(each["aggregator"], each["attack"])])


@pytest.fixture
def backdoored(tmp_path):
    return a_run(tmp_path / "sweep")


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def texts(figure):
    found = [text.get_text() for part in (figure, *figure.subfigs) for text in part.texts]
    for axes in panels(figure):
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        found += [
            axes.get_title(),
            axes.get_xlabel(),
            axes.get_ylabel(),
            *(each.get_text() for each in labels),
        ]
    return found


def heights(axes):
    """All that is drawn in data units, single markers included; lines over the whole width are references."""
    values = [np.asarray(line.get_ydata(), float) for line in axes.get_lines() if len(line.get_ydata())]
    return np.concatenate([value[np.isfinite(value)] for value in values])


def shares(axes, values):
    """Where values are on the y axis, from 0 at its lower end to 1."""
    points = axes.transData.transform([(0, value) for value in values])
    return axes.transAxes.inverted().transform(points)[:, 1]


def test_small_errors_are_told_apart_beside_a_large_one():
    axes = sheet(5, 3, "heading", "facts")[1].subplots()
    error_axis([axes], [np.array([0.04, 0.07, 0.90, np.nan])])
    at = shares(axes, [0.04, 0.07, 0.90])
    assert np.all((at >= 0) & (at <= 1))
    # As far from each other as a tenth of the axis; on a linear one it is a thirtieth.
    assert at[1] - at[0] > 0.1
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert {"0.05", "0.1", "0.5"} <= set(labels)


def test_close_errors_are_linear_from_zero_and_none_at_all_is_shown():
    close, zero, nothing = sheet(5, 3, "heading", "facts")[1].subplots(3)
    error_axis([close], [[0.1, 0.2]])
    assert (close.get_yscale(), close.get_ylim()[0]) == ("linear", 0)
    error_axis([zero], [[0.0, 0.01, 0.5]])
    assert zero.get_ylim()[0] == 0
    at = shares(zero, [0, 0.01, 0.5])
    assert 0 <= at[0] < at[1] - 0.03 < at[2] - 0.3
    error_axis([nothing], [[np.nan], []])
    assert nothing.get_ylim() == (0, 1)


def test_success_rates_are_on_axes_of_their_own(backdoored, drawn):
    figure = drawn(backdoored)["comparison"]
    by_label = {}
    for axes in panels(figure):
        by_label.setdefault(axes.get_ylabel(), []).append(axes)
    assert set(by_label) == {"test error", "attack success rate"}
    assert len(by_label["attack success rate"]) == 2  # final values, and their course
    error_of_scaling = next(axes for axes in by_label["test error"] if axes.get_title() == "Scaling attack")
    # Success rates of 1.0 would be above; the errors start at 0.9 in round 0.
    assert heights(error_of_scaling).max() < 0.75
    for axes in by_label["attack success rate"]:
        assert heights(axes).max() == 1.0
        assert axes.get_ylim()[1] > 1.0


def test_what_is_alone_has_no_panel_of_its_own(backdoored, drawn):
    found = texts(drawn(backdoored)["comparison"])
    assert found.count("Krum attack") == 2
    assert "no attack" not in found  # FedAvg without attack is a dotted line in the others


def test_heading_and_facts_are_words(backdoored, drawn):
    figures = drawn(backdoored)
    for figure in figures.values():
        found = [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(figure)]
        assert "3 rules under 2 attacks" in found
        facts = "demo · digits · MLP · label bias 0.5 · 20 clients, 4 malicious · 40 rounds · seed 0"
        assert facts in " ".join(" ".join(found).split("\n")), found


def test_the_heat_map_has_backdoors_and_a_colour_bar(backdoored, drawn):
    figure = drawn(backdoored)["heat_map"]
    table, bar = panels(figure)
    assert bar.get_ylabel() == "larger of test error\nand success rate"
    cells = {text.get_text(): text for text in table.texts}
    assert {"0.038 / 1.00 ✗", "0.042 / 0.01", "0.900 / 0.02"} <= set(cells)
    assert cells["0.042 / 0.01"].get_fontweight() == "bold"
    assert cells["0.038 / 1.00 ✗"].get_fontweight() == "normal"
    # Dark where the backdoor succeeds, however small the error is.
    shades = table.images[0].get_array()
    names = [label.get_text() for label in table.get_yticklabels()]
    assert names == ["Krum attack", "Scaling attack", "no attack", "worst case"]
    np.testing.assert_allclose(shades[1], [1.0, 0.11, 0.042])
    np.testing.assert_allclose(shades[3], [1.0, 0.9, 0.07])
    assert shades.mask[2].tolist() == [False, True, True]


def test_what_diverged_is_marked(tmp_path, drawn):
    cells = [row("Krum", "ALIE", 0.1), row("FLTrust", "ALIE", 0.2, diverged=True)]
    # No seed has an error: there is no point to draw, but the rule does not vanish.
    cells.append(row("FedAvg", "ALIE", 0.5, diverged=True) | {"test_error": None})
    figures = drawn(write_sweep(tmp_path / "lost", {"aggregator": list(NAMES), "attack": ["ALIE"]}, cells))
    points = panels(figures["comparison"])[0]
    marks = [text for text in points.texts if text.get_text() == "†"]
    expected = [looks({"": NAMES[rule]})[""].color for rule in ("FedAvg", "FLTrust")]
    assert [text.get_color() for text in marks] == expected
    found = [text.get_text() for text in panels(figures["heat_map"])[0].texts]
    assert found == ["— †", "0.100", "0.200 †"]


def test_one_attack_over_an_axis_is_lines_then_one_map(tmp_path, drawn):
    cells = [
        row(rule, "Trim attack", error + share, **{"attack.fraction": share})
        for rule, error in (("FedAvg", 0.1), ("Krum", 0.05))
        for share in (0.4, 0.1, 0.25)
    ]
    axes = {"aggregator": ["FedAvg", "Krum"], "attack": ["Trim attack"], "attack.fraction": [0.4, 0.1, 0.25]}
    figures = drawn(write_sweep(tmp_path / "one", axes, cells))
    assert list(figures) == ["lines_attack.fraction", "heat_map"]
    (lines,) = panels(figures["lines_attack.fraction"])
    assert (lines.get_xlabel(), lines.get_ylabel()) == ("malicious clients (%)", "test error")
    assert [label.get_text() for label in lines.get_xticklabels()] == ["10", "25", "40"]
    table, _ = panels(figures["heat_map"])
    # In the order of the numbers, not that of the configuration.
    assert [label.get_text() for label in table.get_yticklabels()] == ["10", "25", "40"]
    for figure in figures.values():
        assert not [text for text in texts(figure) if "attack.fraction" in text]


def test_a_single_cell_is_its_course(tmp_path, drawn):
    folder = write_sweep(tmp_path / "one", {}, [row("Krum", "ALIE", 0.25)])
    figures = drawn(folder)
    assert list(figures) == ["comparison"]
    (axes,) = panels(figures["comparison"])
    assert axes.get_title() == "ALIE"


def test_a_rule_has_its_colour_in_every_figure():
    alone = looks({"Krum": "krum"})["Krum"]
    among = looks({"Median": "median", "FLTrust": "fltrust", "Krum": "krum"})
    assert among["Krum"] == alone
    everything = looks({entry.title: name for name, entry in RULES.items()})
    assert everything["Krum"][::2] == alone[::2]
    # Whatever shares a colour differs in dashes and marker.
    assert len(set(everything.values())) == len({look[::2] for look in everything.values()}) == len(RULES)
    dashes = [(look.color, str(look.style)) for look in everything.values()]
    assert len(set(dashes)) == len(RULES)
    paper = looks({name: name for name in ("mean", "krum", "trimmed_mean", "median", "fltrust")})
    assert len({look.color for look in paper.values()}) == 5


def test_variants_of_a_rule_share_its_colour_only():
    found = looks({"Krum": "krum", "NNM + Krum": "krum", "Mine": "mine", "Krum (2)": "krum"})
    krum, mixed, mine, second = found.values()
    assert krum.color == mixed.color == second.color != mine.color
    assert len({str(look.style) for look in (krum, mixed, second)}) == 3
    assert len({look.marker for look in (krum, mixed, second)}) == 3


# Machado, Oliveira & Fernandes (2009), severity 1: protanopia and deuteranopia, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
}
TO_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def lab(color, sight):
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = TO_XYZ @ np.clip(sight @ linear, 0, 1) / [0.9505, 1.0, 1.0888]
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_are_told_apart(sight):
    seen = {color: lab(color, SIGHTS[sight]) for color in COLORS}
    for a, b in combinations(COLORS, 2):
        # 2.3 is a difference that is just noticed.
        assert np.linalg.norm(seen[a] - seen[b]) > 15, (a, b)
    # None is faint on white.
    assert all(lab(color, np.eye(3))[0] < 75 for color in COLORS)


@pytest.mark.parametrize(
    "done",
    [
        lambda rule, attack: (rule, attack) != ("FLTrust", "Scaling attack"),
        lambda rule, attack: attack == "Scaling attack" and rule == "Krum",
    ],
    ids=["a rule without its backdoor", "one cell"],
)
def test_a_sweep_under_way_is_drawn(drawn, tmp_path, done):
    assert "comparison" in drawn(a_run(tmp_path / "sweep", done))
