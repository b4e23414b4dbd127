import io
import random
import re

import pytest
from rich.console import Console
from rich.text import Text

from fljax.host.terminal import Bar, Table, shared


def printed(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def words_of(lines):
    return set(re.findall(r"[^\s│┃]+", " ".join(lines)))


def random_table(seed):
    """A table of random words and numbers, and all its words; a number is one word, its spaces included."""
    rng = random.Random(seed)

    def text():
        return " ".join(
            "".join(rng.choices("abcdef_", k=rng.randint(1, 14))) for _ in range(rng.randint(0, 9))
        )

    table, wanted = Table(title="title", caption="caption"), []
    kinds = [rng.choice(["text", "number", "name"]) for _ in range(rng.randint(1, 8))]
    for number, kind in enumerate(kinds):
        header = f"column {number}"
        table.add_column(header, justify="right" if kind == "number" else "left", no_wrap=kind == "name")
    for _ in range(rng.randint(1, 5)):
        row = [f"{rng.random():.3f} ± {rng.random():.3f}" if kind == "number" else text() for kind in kinds]
        table.add_row(*map(Text, row))
        wanted += row
    return table, wanted


@pytest.mark.parametrize("seed", range(20))
def test_every_word_and_number_is_whole_on_any_terminal(seed):
    table, wanted = random_table(seed)
    for width in range(40, 200, 7):
        lines = printed(table, width)
        text = " ".join(" ".join(lines).split())
        assert "…" not in text
        for cell in wanted:
            if "±" in cell:
                assert any(cell in line for line in lines), (width, cell)
            else:
                assert set(cell.split()) <= words_of(lines), (width, cell)


def test_a_table_becomes_leaner_then_a_list():
    table = Table("rule", title="results", caption="a caption")
    table.add_column("error", justify="right")
    table.add_column("n", justify="right")
    table.add_row("geometric_median", "0.123 ± 0.004", "1,000")
    assert printed(table, 60)[1].startswith("┏")
    lean = printed(table, 42)
    assert "┃" not in "".join(lean)
    assert any(line.split() == ["geometric_median", "0.123", "±", "0.004", "1,000"] for line in lean)
    assert [line.rstrip() for line in printed(table, 30)] == [
        "results",
        "geometric_median",
        "  error  0.123 ± 0.004",
        "  n      1,000",
        "a caption",
    ]


def test_numbers_behind_slashes_stand_below_each_other_before_a_table_becomes_a_list():
    table = Table("attack", caption="a caption that is longer than the table is wide")
    for rule in ("FedAvg", "Krum"):
        table.add_column(rule, justify="right")
    table.add_row("Scaling attack", "0.038 ± 0.006 / 1.00", "0.110 ± 0.037 / 0.02")
    assert any("0.006 / 1.00" in line for line in printed(table, 70))
    slashed = [line.split() for line in printed(table, 56)]
    assert ["│", "Scaling", "attack", "│", "0.038", "±", "0.006", "│", "0.110", "±", "0.037", "│"] in slashed
    assert ["│", "│", "/", "1.00", "│", "/", "0.02", "│"] in slashed
    assert printed(table, 56)[-1].rstrip() == "a caption that is longer than the table is wide"
    narrow = [line.split() for line in printed(table, 39)]
    assert ["Scaling", "0.038", "±", "0.006", "0.110", "±", "0.037"] in narrow
    assert ["attack", "/", "1.00", "/", "0.02"] in narrow
    assert "  FedAvg  0.038 ± 0.006 / 1.00" in [line.rstrip() for line in printed(table, 34)]


def test_a_list_says_what_a_number_at_the_front_is_and_leaves_out_empty_cells():
    table = Table("client", "examples", "of one class", "kind")
    table.add_row("3", "120", "", "malicious_client")
    assert [line.rstrip() for line in printed(table, 32)] == [
        "client 3",
        "  examples      120",
        "  kind          malicious_client",
    ]


def test_rows_are_not_taken_for_markup():
    table = Table("name", "value")
    table.add_row(Text("[red]"), Text("[0, 1]"))
    for width in (40, 12):
        assert {"[red]", "[0,", "1]"} <= words_of(printed(table, width))


def test_a_word_that_is_longer_than_the_terminal_goes_on_in_the_next_line():
    table = Table("file", "size")
    table.add_row("a" * 50, "b" * 70)
    text = "".join(printed(table, 30))
    assert text.count("a") == 50
    assert text.count("b") == 70


def test_shares_of_the_room():
    assert shared(20, [4, 4, 4], [4, 8, 16]) == [4, 6, 10]
    assert sum(shared(50, [5, 5, 5], [50, 50, 50])) <= 50


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_bar_shows_how_far_it_is_and_all_it_says(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, _environ={})
    bar = Bar(console, "rounds")
    said = "test error 0.039  attack success 0.009  trust benign 0.07 malicious 0.00  415 rounds/s  9 s left"
    bar.add_task(said, total=4000, completed=120)
    with console.capture() as capture:
        console.print(bar.get_renderable())
    text = re.sub(r"\x1b\[[0-9;]*m", "", capture.get())
    assert max(map(len, text.splitlines())) <= width
    assert "120/4000 rounds" in text
    assert said.split() == " ".join(text.splitlines()[1:]).split()


def test_a_bar_draws_nothing_into_a_log():
    file = io.StringIO()
    with Bar(Console(file=file), "rounds") as bar:
        bar.add_task("compiling", total=3)
    assert file.getvalue().strip() == ""
