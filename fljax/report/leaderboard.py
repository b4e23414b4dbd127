"""The rules of a sweep in one order, by the harm that its attacks do to them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fljax.report.facts import facts
from fljax.report.panels import Picture
from fljax.report.ranking import Outcome
from fljax.report.results import BASELINE, NO_ATTACK, Results
from fljax.report.style import paper_width, sheet, tidy
from fljax.report.summary import MOST_TABLES, Entry, Section, Table, describe, sections, select

# A table of fewer rules or attacks is read at a glance.
FEWEST_RULES, FEWEST_ATTACKS = 3, 3
# Draws of the seeds, and the share of the ranks that an interval holds.
DRAWS, LEVEL = 2000, 0.95


class Standing(NamedTuple):
    """The place of one rule.

    Attributes:
        rule: its label.
        rank: from 1, by `worst`, then by `mean`.
        low, high: the interval of the rank over the seeds; NaN with one seed.
        worst: the largest harm over the attacks.
        attack: the attack that it is of.
        mean: the mean harm over the attacks.
        spread: its standard deviation over the attacks.
        plain: the test error without attack.
        milliseconds: wall time of a round, its share of the programs that ran at once.
        relative: that as a multiple of FedAvg's.
        complete: whether all seeds of all attacks are there.
    """

    rule: str
    rank: int
    low: float
    high: float
    worst: float
    attack: str
    mean: float
    spread: float
    plain: float
    milliseconds: float
    relative: float
    complete: bool


def is_ranked(results: Results) -> bool:
    """True if a sweep has rules and attacks enough for an order."""
    enough = len(results.rules) >= FEWEST_RULES and len(results.real_attacks) >= FEWEST_ATTACKS
    return enough and len(results.combinations()) <= MOST_TABLES


def standings(results: Results, cells: pd.DataFrame) -> list[Standing]:
    """The rules in order.

    The harm of an attack is the larger of the mean error and the mean success rate over the seeds. A rule's
    rank is by its largest harm over the attacks, and of equals by its mean harm. The seeds are drawn anew,
    with replacement and the same for all rules and attacks, and everything is computed again: the middle
    95 % of a rule's ranks are its interval. The attacks of the sweep are taken as they are.

    Args:
        results: the sweep.
        cells: those of one combination of its further axes.
    """
    attacks, seeds = results.real_attacks, sorted(cells["seed"].unique())
    rules = [rule for rule in results.rules if (cells["aggregator"] == rule).any()]
    shape = len(rules), len(attacks), len(seeds)
    errors, rates = np.full(shape, np.nan), np.full(shape, np.nan)
    there = np.zeros(shape, bool)
    places = [{label: place for place, label in enumerate(labels)} for labels in (rules, attacks, seeds)]
    columns = ["aggregator", "attack", "seed", "test_error", "attack_success_rate"]
    for rule, attack, seed, error, rate in cells[columns].itertuples(index=False, name=None):
        if attack != NO_ATTACK:
            place = places[0][rule], places[1][attack], places[2][seed]
            errors[place], rates[place], there[place] = error, rate, True
    every = np.ones((1, len(seeds)))
    harm = _harm(errors, rates, there, every)[0]
    ranks = _ranks(harm[None])[0]
    low = high = np.full(len(rules), np.nan)
    if len(seeds) > 1:
        drawn = np.random.default_rng(0).multinomial(len(seeds), every[0] / len(seeds), DRAWS).astype(float)
        # A tenth at a time: a table of a hundred attacks and rules is large.
        found = np.concatenate(
            [_ranks(_harm(errors, rates, there, part)) for part in np.array_split(drawn, 10)]
        )
        low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    costs = _costs(cells)
    made = []
    for k, rule in enumerate(rules):
        known = ~np.isnan(harm[k])
        if not known.any():
            continue
        mine = cells[(cells["aggregator"] == rule) & (cells["attack"] == NO_ATTACK)]
        made.append(
            Standing(
                rule=rule,
                rank=int(ranks[k]),
                low=float(low[k]),
                high=float(high[k]),
                worst=float(np.nanmax(harm[k])),
                attack=attacks[int(np.nanargmax(harm[k]))],
                mean=float(np.mean(harm[k][known])),
                spread=float(np.std(harm[k][known])) if np.isfinite(harm[k][known]).all() else np.nan,
                plain=float(mine["test_error"].mean()),
                milliseconds=1000 * costs.get(rule, np.nan),
                relative=costs.get(rule, np.nan) / costs.get(BASELINE, np.nan),
                complete=bool(there[k].all()) and len(seeds) >= results.seeds,
            )
        )
    return sorted(made, key=lambda standing: standing.rank)


def _harm(errors: np.ndarray, rates: np.ndarray, there: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The harm of every attack to every rule, (draws, rules, attacks), NaN where no cell is there.

    `weights` (draws, seeds) says how often a seed counts.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        known = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.where(known, values, 0) @ weights.T) / (known @ weights.T)

    error, rate = mean(errors), mean(rates)
    # A cell without an error is of a model that is lost, which is the most harm there is.
    error = np.where(np.isnan(error) & (there @ weights.T > 0), np.inf, error)
    return np.moveaxis(np.fmax(error, rate), 2, 0)


def _ranks(harm: np.ndarray) -> np.ndarray:
    """The rank of every rule, (draws, rules): by the worst harm to three digits, then by the mean harm."""
    lost = np.isnan(harm)
    worst = np.round(np.where(lost, -np.inf, harm).max(axis=2), 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(lost, 0, harm).sum(axis=2) / (~lost).sum(axis=2)
    order = np.lexsort((mean, worst), axis=1)
    return np.argsort(order, axis=1) + 1


def _costs(cells: pd.DataFrame) -> dict[str, float]:
    """Seconds of a round, by rule: the median over cells, those without attack where there are any."""
    plain = cells[cells["attack"] == NO_ATTACK]
    timed = plain if set(plain["aggregator"]) == set(cells["aggregator"]) else cells
    seconds = 1 / timed["rounds_per_second"].where(timed["rounds_per_second"] > 0)
    found = seconds.groupby(timed["aggregator"].astype(str)).median()
    return {rule: float(value) for rule, value in found.items() if np.isfinite(value)}


def leaderboards(results: Results) -> list[tuple[dict[str, str], list[Standing]]]:
    """The standings of every combination of the further axes; none where there is no order to make."""
    if not is_ranked(results):
        return []
    found = [(labels, standings(results, cells)) for labels, cells in results.combinations()]
    return [(labels, made) for labels, made in found if len(made) >= FEWEST_RULES]


def leaderboard_frame(results: Results) -> pd.DataFrame:
    """The standings as a table of numbers, a row each."""
    return pd.DataFrame(
        [{**labels, **standing._asdict()} for labels, made in leaderboards(results) for standing in made]
    )


def leaderboard_section(results: Results) -> list[Section]:
    """The standings as tables with a caption, or nothing."""
    boards = leaderboards(results)
    if not boards:
        return []
    tables = [
        Table(
            f"Leaderboard: {describe(labels)}" if labels else "Leaderboard",
            "rule",
            ["rank", "worst case", "under", "mean", "spread", "no attack", "ms a round", f"× {BASELINE}"],
            [(standing.rule, _entries(standing)) for standing in made],
        )
        for labels, made in boards
    ]
    interval = ", with the middle 95 % of the ranks over draws of the seeds" if results.seeds > 1 else ""
    text = (
        f"Rank{interval}, by the worst case over the attacks, of equals by the mean. An attack's harm is the "
        f"larger of mean error and success rate {results.when}; worst case, mean and standard deviation "
        "(spread) of it over the attacks; the test error without attack; and the time of a round in this "
        "sweep, with whatever ran at the same time."
    )
    if any("‡" in entry.text for table in tables for _, row in table.rows for entry in row):
        text += " ‡ Not all seeds of all attacks are there."
    return [Section(tables, text)]


def _entries(standing: Standing) -> list[Entry]:
    rank = f"{standing.rank}"
    if not np.isnan(standing.low):
        rank += f" ({standing.low:.0f} to {standing.high:.0f})"
    numbers = (standing.worst, standing.mean, standing.spread, standing.plain)
    worst, mean, spread, plain = (f"{value:.3f}" if np.isfinite(value) else "—" for value in numbers)
    times = (standing.milliseconds, standing.relative)
    cost, relative = (f"{value:.3g}" if np.isfinite(value) else "" for value in times)
    texts = [
        rank + " ‡" * (not standing.complete),
        worst,
        standing.attack,
        mean,
        spread,
        plain,
        cost,
        relative,
    ]
    return [Entry(text) for text in texts]


def leaderboard_pictures(results: Results) -> Iterator[Picture]:
    """The standings as figures: the harm of every attack to every rule, in order."""
    for labels, made in leaderboards(results):
        figure = _figure(results, select(results.frame, labels), labels, made)
        text = "The harm of every attack to every rule, its mean, and the worst case with its attack."
        text = f"{describe(labels)}. {text}".removeprefix(". ")
        yield Picture("leaderboard", text, figure)


def _figure(
    results: Results, cells: pd.DataFrame, labels: dict[str, str], made: Sequence[Standing]
) -> Figure:
    title = f"Leaderboard: {describe(labels)}" if labels else "Leaderboard"
    figure, body = sheet(paper_width() or 8.0, 0.27 * len(made) + 1.05, title, facts(results, cells))
    panel: Any = body.subplots()
    looks: tuple[dict[str, Any], ...] = (
        {"marker": "o", "ms": 4, "color": "#888888", "alpha": 0.5, "mew": 0, "label": "an attack"},
        {"marker": "|", "ms": 11, "mew": 2, "color": "black", "label": "mean over the attacks"},
        {"marker": "D", "ms": 5, "color": "#D55E00", "label": "worst case"},
    )
    real = cells[cells["attack"] != NO_ATTACK].astype({"attack": str, "aggregator": str})
    means = real.groupby(["aggregator", "attack"])[["test_error", "attack_success_rate"]].mean()
    for place, standing in enumerate(made):
        harms = [Outcome(*line).harm for line in means.loc[standing.rule].itertuples(index=False)]
        shown = [harm for harm in harms if np.isfinite(harm)]
        for look, values in zip(looks, (shown, [standing.mean], [standing.worst]), strict=True):
            panel.plot(values, [place] * len(values), ls="", clip_on=False, **look)
        if np.isfinite(standing.worst):
            # On the side where there is room.
            left = standing.worst > 0.6 and max([0.0, *(h for h in shown if h < standing.worst)]) < 0.5
            side: Any = {"ha": "right" if left else "left", "va": "center", "fontsize": 7.5}
            panel.annotate(
                standing.attack,
                (standing.worst, place),
                xytext=(-7 if left else 7, 0),
                textcoords="offset points",
                color="#A04000",
                **side,
            )
    panel.set_yticks(range(len(made)), [f"{each.rank}  {each.rule}" for each in made], fontsize=8)
    panel.set_ylim(len(made) - 0.5, -0.5)
    panel.set_xlim(-0.02, max([1.02, *(each.worst for each in made if np.isfinite(each.worst))]))
    panel.set_xlabel("larger of test error and attack success rate", fontsize=9)
    handles = [Line2D([], [], ls="", **look) for look in looks]
    body.legend(
        handles=handles, ncols=3, fontsize=8, frameon=False, loc="outside upper left", handletextpad=0.2
    )
    tidy([panel], "x")
    return figure


def all_sections(results: Results) -> list[Section]:
    """The sections of a report, the leaderboard after the tables of the test error."""
    found = sections(results)
    return [*found[:1], *leaderboard_section(results), *found[1:]]
