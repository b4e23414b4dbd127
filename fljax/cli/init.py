"""The command `fljax init`: a commented configuration from flags, or from a few questions."""

import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console

from fljax.cli.details import EXAMPLES
from fljax.cli.listing import Listed, find_entry
from fljax.config.bounds import LONGEST_CHUNK
from fljax.config.components import ACTUAL, COUNTS, bind_attack, bind_rule
from fljax.config.schema import parse_config
from fljax.errors import ConfigError
from fljax.files import write_atomically
from fljax.host.toml import parse_toml
from fljax.registry import load_installed
from fljax.simulation.attackers import without_actual
from fljax.sweeps.axes import make_sweep

EVALUATIONS = 50  # of a run
CLIENTS = 20
# Of the data sets below that are divided by labels, at most.
CLASSES = 10


class Start(NamedTuple):
    """Where to start with a data set, as this project's own configurations do."""

    model: str = "mlp"
    partition: str = "iid"
    learning_rate: float = 0.1
    # The share of the favoured class in a root dataset that has all classes alike.
    bias: str = '"uniform"'


STARTS: Mapping[str, Start] = {
    "digits": Start("mlp", "label_bias", bias="0.1"),
    "mnist": Start("cnn", "label_bias", 0.02, "0.1"),
    "fashion_mnist": Start("cnn", "label_bias", 0.192, "0.1"),
    "cifar10": Start("resnet20", "label_bias", 0.0128, "0.1"),
    "colorectal_histology": Start("resnet20", "label_bias", 0.0096),
    "uci_har": Start("logistic_regression", "by_client", 0.096),
}


class Wishes(NamedTuple):
    """What the flags say; None and empty for what they do not."""

    data: str | None = None
    model: str | None = None
    partition: str | None = None
    rules: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    clients: int | None = None
    fraction: float | None = None
    rounds: int | None = None
    seeds: int | None = None


def write_configuration(console: Console, path: Path, wishes: Wishes) -> None:
    """Write a configuration, with several rules, attacks or seeds that of a sweep.

    Args:
        console: where to say what was written.
        path: the file, which must not be there.
        wishes: of the flags. On a terminal the first few are asked for where no flag is given at all.

    Raises:
        ConfigError: if the file is there or cannot be one, a name is unknown, or what comes out is not valid.
    """
    if path.suffix != ".toml":
        raise ConfigError(f"{str(path)!r} must end in .toml")
    if path.exists():
        raise ConfigError(f"{path} is there already; choose another name, or remove it first")
    load_installed()
    if wishes == Wishes() and console.is_terminal and sys.stdin.isatty():
        wishes = asked()
    text = configuration(path.name, wishes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder of {path}: {error.strerror}") from None
    write_atomically(path, text.encode())
    command = "sweep" if "[sweep]" in text else "run"
    console.print(
        f"written: {path}; look through it, then: fljax {command} {path}",
        markup=False,
        soft_wrap=True,
        highlight=False,
    )


def asked() -> Wishes:
    """The answers of a person on a terminal."""
    data = _ask("data set", "digits", lambda text: find_entry("datasets", text).name)
    rule = _ask("rule", "fltrust", lambda text: find_entry("rules", text).name)
    attack = _ask("attack", "trim_attack", lambda text: find_entry("attacks", text).name)
    clients = None
    if STARTS.get(data, Start()).partition != "by_client":
        clients = _ask("clients", str(CLIENTS), _whole)
    fraction = _ask("share of malicious clients", "0.2", share) if attack != "none" else None
    rounds = _ask("rounds", "500", _whole)
    return Wishes(data, None, None, (rule,), (attack,), clients, fraction, rounds)


def _ask(what: str, default: str, read: Callable[[str], Any]) -> Any:
    """Ask until the answer is one."""
    while True:
        try:
            return read(str(typer.prompt(what, default=default)))
        except ConfigError as error:
            typer.echo(str(error))


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{text!r} must be a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """The number in an answer.

    Raises:
        ConfigError: if it is no share.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{text!r} must be a share from 0 to 1")
    return value


def configuration(name: str, wishes: Wishes) -> str:
    """The text of a configuration, checked.

    Raises:
        ConfigError: if a name is unknown, or the configuration is not valid.

    Example:
        >>> text = configuration("demo.toml", Wishes(rules=("krum",), clients=10))
        >>> parse_toml(text)["aggregator"]
        {'name': 'krum', 'num_malicious': 'actual'}
    """
    data = find_entry("datasets", wishes.data or "digits")
    start = STARTS.get(data.name, Start())
    model = find_entry("models", wishes.model or start.model)
    groups = start.partition
    if groups == "label_bias" and (wishes.clients or CLIENTS) < CLASSES:
        groups = "iid"  # every class has a group of its own
    partition = find_entry("partitions", wishes.partition or groups)
    rules = [find_entry("rules", rule) for rule in wishes.rules or ("fltrust",)]
    attacks = [find_entry("attacks", attack) for attack in wishes.attacks or ("trim_attack",)]
    seeds = 1 if wishes.seeds is None else wishes.seeds
    is_sweep = len(rules) > 1 or len(attacks) > 1 or seeds != 1
    rounds = 500 if wishes.rounds is None else wishes.rounds
    fraction = 0.2 if wishes.fraction is None else wishes.fraction
    under = "without attack" if attacks[0].name == "none" else f"under {_title(attacks[0])}"
    several = f"{_counted(rules, 'rule')} under {_counted(attacks, 'attack')}"
    what = several if is_sweep else f"{_title(rules[0])} {under}"
    command = "sweep" if is_sweep else "run"
    lines = [
        f"# {what} on {data.name}.",
        "# All keys:         the page Configuration of fljax's documentation",
        f"# Run it:           fljax {command} {name}",
        f"# Change a value:   fljax {command} {name} --set rounds=100",
        "# Other names:      fljax list rules, attacks, datasets, partitions, models",
        "",
        "# Global rounds, and how many of them lie between two evaluations; the one divides the other.",
        f"rounds = {rounds}",
        f"eval_every = {_every(rounds)}",
    ]
    if partition.name != "by_client":
        lines += [
            "# Clients; all take part in every round unless cohort_size says how many.",
            f"num_clients = {CLIENTS if wishes.clients is None else wishes.clients}",
        ]
    elif wishes.clients is not None:
        raise ConfigError(
            "--clients does not go with the partition by_client: the data have their own clients"
        )
    lines += [
        "",
        *_part(data, "datasets"),
        *_part(partition, "partitions"),
        *_part(model, "models"),
        "# What a client does in a round: steps of SGD on batches of its own examples.",
        f"local = {{ steps = 1, batch_size = 32, learning_rate = {start.learning_rate} }}",
        "# The clean examples that the server holds, for rules that need them. As in the authors' demo of",
        "# FLTrust all of them are in every step; without the last two keys it is the paper's Algorithm 2.",
        f'root = {{ size = 100, bias = {start.bias}, batch_size = "full", loss_reduction = "sum" }}',
    ]
    if not is_sweep:
        lines += [*_part(rules[0], "rules"), *_part(attacks[0], "attacks", fraction=fraction)]
    else:
        lines += [
            "# Who is malicious; the axes below say what they do.",
            f'attack = {{ name = "none", fraction = {fraction} }}',
            "",
            "# One run for every combination of the axes and every seed.",
            "[sweep]",
            f"seeds = {seeds}",
            "",
            "[sweep.axes]",
            *_axis("aggregator", rules),
            *_axis("attack", attacks),
        ]
    text = "\n".join(lines) + "\n"
    _check(text)
    return text


def _counted(entries: list[Listed], word: str) -> str:
    return f"{len(entries)} {word}{'s' * (len(entries) != 1)}"


def _title(entry: Listed) -> str:
    return entry.title or entry.name


def _every(rounds: int) -> int:
    """The largest divisor that leaves `EVALUATIONS` evaluations, or all there can be."""
    largest = min(max(rounds // EVALUATIONS, 1), LONGEST_CHUNK)
    return max(each for each in range(1, largest + 1) if rounds % each == 0)


def _part(entry: Listed, kind: str, **more: Any) -> list[str]:
    """A line of the file, and before it what it is."""
    line = entry.table.replace("{}", _table(entry, **more))
    return [*_wrapped(f"# {entry.summary}"), f"# In full: fljax list {kind} {entry.name}", line]


def _axis(name: str, entries: list[Listed]) -> list[str]:
    whole = [entry.table.replace("{}", _table(entry)).partition(" = ")[2] for entry in entries]
    return [f"{name} = [", *(f"    {table}," for table in whole), "]"]


def _table(entry: Listed, **more: Any) -> str:
    """A component's table, with a value for every parameter that needs one."""
    pairs = {"name": json.dumps(entry.name)}
    for name, (hint, default) in entry.parameters.items():
        if default is ...:
            told = name in COUNTS and hint is int and entry.table.startswith("aggregator")
            pairs[name] = json.dumps(ACTUAL) if told else EXAMPLES[hint]
    pairs |= {name: str(value) for name, value in more.items() if entry.name != "none"}
    return "{ " + ", ".join(f"{name} = {value}" for name, value in pairs.items()) + " }"


def _wrapped(comment: str) -> list[str]:
    return textwrap.wrap(comment, 100, subsequent_indent="# ", break_long_words=False)


def _check(text: str) -> None:
    """Raise unless the file is a valid configuration, or all cells of its sweep are."""
    try:
        values = parse_toml(text)
    except ValueError as error:  # of a number
        raise ConfigError(str(error)) from None
    table = values.pop("sweep", None)
    configs = [parse_config(values)]
    if table is not None:
        # What the seeds change needs no check.
        configs = [cell.config for cell in make_sweep(values, table).cells if cell.config.seed == 0]
    for config in configs:
        bind_rule(without_actual(config.aggregator))
        bind_attack(config.attack)
