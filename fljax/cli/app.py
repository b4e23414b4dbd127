"""The command line: what each command takes; what it does is imported when it is called."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from fljax.cli.completion import LISTS, listed_names, names_of, one_of, published_tables
from fljax.cli.places import free_path, name_of, written
from fljax.errors import ConfigError, DataError, JobError, OutOfMemoryError, SweepError, under_way, unforeseen
from fljax.host.installed import own_version
from fljax.host.signals import WAITS_FOR, saving, status_of, watching
from fljax.host.terminal import Table
from fljax.host.toml import parse_toml

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A high-throughput simulator of Byzantine-robust federated learning on JAX.",
)

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A TOML file, or the config.json of a run.")
]
SweepPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file with a [sweep] table.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="A module that registers names, in this folder or on Python's path."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. local.steps=2.")
]
Value = Annotated[
    str,
    typer.Option(
        help="last: numbers after the last round; best: of each run's round with the lowest test error.",
        autocompletion=one_of("last", "best"),
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Who is told of it: csv, jsonl, tensorboard, wandb, mlflow, or a plugin's; may be repeated.",
        autocompletion=one_of("csv", "jsonl", "tensorboard", "wandb", "mlflow"),
    ),
]


def _examples(*lines: str) -> str:
    """The end of a command's help: what one would type."""
    # The first character keeps the lines as they are.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _console() -> Console:
    # A log file has no width of its own; tables should not be broken at 80 columns there.
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Console(width=None if known else 140)


def _overrides(settings: list[str] | None, option: str = "--set") -> dict[str, Any]:
    values = {}
    for setting in settings or []:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {setting!r} must be KEY=VALUE, for example local.steps=2")
        try:
            found = parse_toml(f"value = {text}")
            alone = len(found) == 1
        except ValueError as error:  # a bare word; or what no key takes, which is said later
            if text.strip().startswith(("{", "[")):
                # The shell takes the quotes away that are not within others.
                hint = """quote it as a whole, as in --set 'attack = { name = "alie" }'"""
                raise ConfigError(f"{option} {setting!r} is not valid TOML ({error}); {hint}") from None
            found = {"value": text.strip()}
            alone = len(text.strip().splitlines()) <= 1
        if not alone:
            raise ConfigError(f"{option} {setting!r} must be one KEY=VALUE; give {option} again for another")
        values[key.strip()] = found["value"]
    return values


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"fljax {own_version()}")
        raise typer.Exit


@app.command(
    "run",
    epilog=_examples(
        "fljax run configs/quickstart.toml",
        "fljax run configs/quickstart.toml --set aggregator.name=median",
        "fljax run configs/quickstart.toml --out runs/demo --resume",
        "fljax run configs/mnist_quick.toml --dry-run",
    ),
)
def run(
    config: ConfigPath,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    memory: Annotated[
        float | None, typer.Option(help="Gigabytes the run may use; default what is free.")
    ] = None,
    track: Track = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the memory it needs; run nothing.")
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Run with other processes, of which the first is reached here; auto finds it under Slurm, "
            "Open MPI, Kubernetes and on TPU pods.",
        ),
    ] = None,
    processes: Annotated[int | None, typer.Option(help="How many processes run together.")] = None,
    process: Annotated[int | None, typer.Option(help="The number of this one, from 0.")] = None,
) -> None:
    """Run one experiment."""
    from fljax.config.loading import load_config
    from fljax.config.plugins import load_plugins
    from fljax.config.titles import run_titles
    from fljax.engine.processes import is_first
    from fljax.host.processes import join
    from fljax.host.programs import keep_programs
    from fljax.simulation.devices import settle
    from fljax.simulation.experiment import assemble, compile_experiment, foresee, run_experiment
    from fljax.simulation.progress import RunDisplay
    from fljax.simulation.run_folder import check_run_folder
    from fljax.tracking import make_trackers

    console = _console()
    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    loaded = load_config(config, _overrides(settings))
    if coordinator is None and (processes is not None or process is not None):
        raise ConfigError("--processes and --process need --coordinator")
    if dry_run:
        foresee(loaded, memory, lambda need: console.print(_memory_table(need, memory)))
        return
    settle(loaded)
    if coordinator is not None:
        join(coordinator, processes, process)
    keep_programs()
    # The others of a job compute in silence.
    first = coordinator is None or is_first()
    console.quiet = not first
    folder = out or free_path(name_of(config))
    load_plugins(loaded.plugins)
    trackers = make_trackers(track, folder)
    if first:
        check_run_folder(folder, loaded.resolved(), resume)
    if resume and not (folder / "config.json").exists():
        _note(console, f"{folder} holds no run yet: this one starts from the beginning")
    experiment = assemble(loaded, memory=memory)
    facts = experiment.facts
    for note in facts["data"]["notes"]:
        _note(console, note)
    title = f"{facts['data']['name']}, {loaded.aggregator.name}, attack {loaded.attack.name}"
    clients = facts["clients"]
    console.print(
        f"{title}: {clients['num_clients']} clients ({clients['num_malicious']} malicious), "
        f"{facts['num_params']:,} parameters, {loaded.rounds} rounds on {facts['device']}",
        markup=False,
    )
    options = {"memory": memory, "track": track}
    given = {name: value for name, value in options.items() if value}
    hint = _how_to_go_on("run", config, folder, settings, given)
    try:
        with under_way(), RunDisplay(console, loaded.rounds) as display:
            program = compile_experiment(experiment)
            with saving(WAITS_FOR, hint) as stop:
                result = run_experiment(
                    experiment,
                    folder,
                    resume=resume,
                    progress=display,
                    program=program,
                    stop=stop,
                    note=lambda text: _note(console, text),
                    track=trackers,
                )
    except KeyboardInterrupt as error:
        _say_interrupted(error, hint)
    if not first:
        return
    # Plotting is imported when there is something to plot.
    from fljax.report.run import plot_run
    from fljax.simulation.outcomes import attack_end

    resolved = loaded.resolved()
    titles = run_titles(resolved, clients)
    plot_run(result.metrics, *titles, folder / "curves.png", attack_end(resolved))
    _print_summary(console, result.summary)
    files = [folder / name for name in ("summary.json", "metrics.jsonl", "curves.png")]
    console.print(written(folder, files), markup=False, soft_wrap=True)


def _memory_table(need: Any, memory: float | None) -> Table:
    """The parts of what a run needs, and what there is."""
    from fljax.host.limits import gigabytes, room

    table = Table(title="estimated memory", title_justify="left")
    for name in ("part", "what", "bytes"):
        table.add_column(name, justify="right" if name == "bytes" else "left")
    for part in need.parts:
        if part.bytes:
            table.add_row(part.short, part.what, gigabytes(part.bytes))
    limit = room(memory)
    table.add_row("total", "", gigabytes(need.total))
    table.add_row("limit", limit.whose, gigabytes(limit.bytes))
    return table


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    from fljax.simulation.lines import metric_of
    from fljax.simulation.outcomes import spoken
    from fljax.simulation.progress import duration

    table = Table(show_header=False)
    wall = summary["rounds_per_second_wall"]
    rows = {
        **{
            metric_of(name).title: _last_and_best(metric_of(name).absent, summary[name], best)
            for name, best in summary["best"].items()
        },
        **spoken(summary["outcomes"]),
        "rounds": str(summary["rounds"]),
        "diverged": "yes" if summary["diverged"] else "no",
        **({"stopped": summary["stopped"]} if summary["stopped"] else {}),
        "compile": duration(summary["seconds_compile"]),
        "run": f"{duration(summary['seconds_run'])}, {summary['rounds_per_second']:.3g} rounds/s",
        "with files": f"{duration(summary['seconds_wall'])}, {wall:.3g} rounds/s",
    }
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def _last_and_best(absent: str, last: float | None, best: Mapping[str, Any]) -> str:
    """The value after the last round, and the best one where that is another."""
    if best["value"] is None:
        return absent
    text = "none" if last is None else f"{last:.4f}"
    if best["value"] == last:
        return text
    return f"{text} (last), best {best['value']:.4f} in round {best['round']}"


@app.command(
    "sweep",
    short_help="Run all cells of a [sweep] table.",
    epilog=_examples(
        "fljax sweep configs/rules_by_attacks.toml",
        "fljax sweep configs/digits_seeds.toml --set sweep.seeds=5 --out runs/five",
        "fljax sweep configs/digits_seeds.toml --out runs/seeds --resume",
        "fljax sweep configs/rules_by_attacks.toml --dry-run",
    ),
)
def sweep_command(
    config: SweepPath,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Do what is missing in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show programs, memory and time; run nothing.")
    ] = False,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Ray needs the extra fljax[ray].")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster to use; default one on this machine.")
    ] = None,
    ray_cpus: Annotated[float, typer.Option(help="Cores a program asks Ray for.")] = 1.0,
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            help="GPUs a program asks Ray for, or a part of one; default one if this machine has any."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Programs at the same time; default one a core, or one an accelerator.")
    ] = None,
    memory: Annotated[float | None, typer.Option(help="Gigabytes a program may use.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="The same as --track csv.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="The same as --track tensorboard.")
    ] = False,
    track: Track = None,
) -> None:
    """Run all cells of a [sweep] table, those that share a program at the same time."""
    from fljax.cli.sweep import Options, sweep_and_report

    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the sweep to continue")
    folder = out or free_path(name_of(config))
    options = Options(
        resume=resume,
        dry_run=dry_run,
        executor=executor,
        address=address,
        ray_cpus=ray_cpus,
        ray_gpus=ray_gpus,
        workers=workers,
        memory=memory,
        csv=csv,
        tensorboard=tensorboard,
        track=tuple(track or ()),
    )
    # With all of them: which cells run at the same time, and so which checkpoints fit, depends on some.
    given = {
        name: value for name, value in options._asdict().items() if value != Options._field_defaults[name]
    }
    hint = _how_to_go_on("sweep", config, folder, settings, given)
    try:
        sweep_and_report(_console(), config, _overrides(settings), folder, options, hint)
    except KeyboardInterrupt as error:
        _say_interrupted(error, hint)


def _how_to_go_on(
    command: str, config: Path, folder: Path, settings: list[str] | None, options: Mapping[str, Any]
) -> str:
    words = ["fljax", command, str(config), "--out", str(folder), "--resume"]
    for name, value in options.items():
        if name != "resume":
            for each in value if isinstance(value, (list, tuple)) else [value]:
                words += [f"--{name.replace('_', '-')}", *([] if each is True else [str(each)])]
    words += [word for setting in settings or [] for word in ("--set", setting)]
    return f"continue with: {shlex.join(words)}"


def _say_interrupted(error: KeyboardInterrupt, hint: str) -> None:
    """Print how to go on, and end with the exit status of the signal."""
    with suppress(OSError):  # a terminal that is gone
        _console().print(f"interrupted; {hint}", markup=False, soft_wrap=True, highlight=False)
    raise typer.Exit(status_of(error))


def _note(console: Console, text: str) -> None:
    console.print(f"note: {text}", markup=False, soft_wrap=True, highlight=False)


@app.command(
    "report",
    short_help="Write a sweep's tables, figures and HTML page.",
    epilog=_examples(
        "fljax report runs/table3",
        "fljax report runs/table3 --format tex --format pdf --interval student",
        "fljax report runs/table3 --value best --published table3_uci_har",
    ),
)
def report_command(
    sweep: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder, or a run's.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default DIR/report.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="md, csv, png or html, default all of these; for a paper tex (booktabs tables) and pdf "
            "(vector figures); may be repeated.",
            autocompletion=one_of("md", "csv", "png", "html", "tex", "pdf"),
        ),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(
            help="A published table to compare with; default what the sweep's file names.",
            autocompletion=published_tables,
        ),
    ] = None,
    value: Value = "last",
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="An axis to choose along, for every rule the value with the smallest worst validation error "
            "over the attacks; default what the sweep's file names."
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            help="95 % confidence intervals of the means beside standard deviations: student (Student's t, "
            "from 2 seeds on) or bootstrap (percentiles; too narrow with fewer than 10 seeds).",
            autocompletion=one_of("student", "bootstrap"),
        ),
    ] = None,
    width: Annotated[
        str,
        typer.Option(
            help="Width of pdf figures: column (3.33 inches), page (7 inches), or a number of inches.",
            autocompletion=one_of("column", "page"),
        ),
    ] = "column",
) -> None:
    """Write tables, figures and an HTML page of a sweep."""
    from fljax.report import FORMATS, load_chosen, places, rich_tables, write_report

    console = _console()
    files = write_report(sweep, out, formats or FORMATS, published, value, select, interval or "", width)
    results, choices = load_chosen(sweep, value, select, interval or "")
    for table in rich_tables(results, places(results, published), choices):
        console.print(table)
    console.print(written(files[0].parent, files), markup=False, soft_wrap=True)


@app.command(
    "export",
    epilog=_examples(
        "fljax export runs/demo",
        "fljax export runs/demo --out fltrust.safetensors",
    ),
)
def export_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, finished or under way.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file; default RUN/model.safetensors.")
    ] = None,
) -> None:
    """Write the model of a run as a safetensors file."""
    from fljax.report.export import export_run

    path = export_run(folder, out)
    _console().print(f"written: {path}", markup=False, soft_wrap=True, highlight=False)


@app.command(
    "compare",
    short_help="Show two runs or two sweeps side by side.",
    epilog=_examples(
        "fljax compare runs/before runs/after",
        "fljax compare runs/before runs/after --json",
    ),
)
def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or a sweep's.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    value: Value = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, of sweeps every metric.")] = False,
) -> None:
    """Show two runs or two sweeps side by side: configurations, final metrics, differences."""
    from fljax.cli.compare import show_comparison

    show_comparison(_console(), first, second, value, as_json)


@app.command(
    "watch",
    short_help="Follow a sweep or a run of another process.",
    epilog=_examples(
        "fljax watch runs/table3",
        "fljax watch runs/table3 --once",
    ),
)
def watch_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder, or a run's.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once and leave.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
) -> None:
    """Follow a sweep or a run that another process writes, until it is finished."""
    from fljax.cli.watch import watch

    try:
        watch(_console(), folder, once, every)
    except KeyboardInterrupt as error:  # the way to leave
        raise typer.Exit(status_of(error)) from None


@app.command(
    "init",
    short_help="Write a commented configuration.",
    epilog=_examples(
        "fljax init mine.toml",
        "fljax init mine.toml --data mnist --rule fltrust --attack trim_attack",
        "fljax init mine.toml --rule median --rule fltrust --attack alie --seeds 5",
    ),
)
def init_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The TOML file to write; never overwritten.")],
    data: Annotated[
        str | None,
        typer.Option(help="The data set; default digits.", autocompletion=names_of("datasets")),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Default one that suits the data.", autocompletion=names_of("models")),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(help="Default one that suits the data.", autocompletion=names_of("partitions")),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="The aggregation rule, default fltrust; several make a sweep.",
            autocompletion=names_of("rules"),
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="The attack, or none; default trim_attack; several make a sweep.",
            autocompletion=names_of("attacks"),
        ),
    ] = None,
    clients: Annotated[int | None, typer.Option(help="Default 20.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of malicious clients; default 0.2.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Default 500.")] = None,
    seeds: Annotated[int | None, typer.Option(help="More than one makes a sweep.")] = None,
) -> None:
    """Write a commented configuration, from flags or, without any, from a few questions."""
    from fljax.cli.init import Wishes, write_configuration

    wishes = Wishes(
        data, model, partition, tuple(rule or ()), tuple(attack or ()), clients, fraction, rounds, seeds
    )
    write_configuration(_console(), file, wishes)


@app.command(
    "doctor",
    short_help="Say what this machine has and what is missing.",
    epilog=_examples(
        "fljax doctor",
    ),
)
def doctor_command() -> None:
    """Say what this machine has: versions, devices, data sets, compiled programs, extras."""
    from fljax.cli.doctor import show_doctor

    show_doctor(_console())


@app.command(
    "data",
    short_help="Show who holds which examples.",
    epilog=_examples(
        "fljax data configs/quickstart.toml",
        "fljax data configs/quickstart.toml --set partition.bias=0.9",
    ),
)
def data_command(
    config: ConfigPath,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="The PNG to write; default runs/NAME-data.png.")] = None,
) -> None:
    """Show who holds which examples: a table, and a picture of clients and classes."""
    from fljax.cli.data import show_partition

    path = out or free_path(f"{name_of(config)}-data", ".png")
    show_partition(_console(), config, _overrides(settings), path)


bench = typer.Typer(no_args_is_help=True, help="Measure speed and memory.")
app.add_typer(bench, name="bench")


@bench.command(
    "aggregators",
    epilog=_examples(
        "fljax bench aggregators --rule krum --rule fltrust --n 100 --n 1000",
        "fljax bench aggregators --preset paper --peers",
    ),
)
def bench_aggregators(
    rule: Annotated[
        list[str] | None,
        typer.Option(help="A rule or pre-aggregator; default all.", autocompletion=names_of("rules")),
    ] = None,
    n: Annotated[list[int] | None, typer.Option("--n", help="Rows (clients); default 100.")] = None,
    d: Annotated[list[int] | None, typer.Option("--d", help="Columns (parameters); default 139960.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16 or float64.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="For example cpu:0, gpu, or all; default jax's default device.")
    ] = None,
    fraction_malicious: Annotated[
        float, typer.Option(help="Share of the rows that a rule is told are malicious, rounded down.")
    ] = 0.2,
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper, large, scaling or byzpy.",
            autocompletion=one_of("paper", "large", "scaling", "byzpy"),
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Calls after the warm-up.")] = 20,
    seconds: Annotated[float, typer.Option(help="Time budget of a cell, for each library.")] = 5.0,
    peers: Annotated[bool, typer.Option("--peers", help="Measure ByzFL in the same run.")] = False,
    plugin: Plugins = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default runs/bench-aggregators.")] = None,
) -> None:
    """Time aggregation rules over sizes, types and devices."""
    from fljax.bench import grid, measure, report
    from fljax.bench.peers import load
    from fljax.cli import bench as command
    from fljax.config.plugins import load_named
    from fljax.host.cores import count_cores
    from fljax.simulation.run_folder import check_folder

    load_named(plugin or ())
    cells = grid.plan(
        rules=rule or [],
        n=n or [],
        d=d or [],
        dtypes=dtype or [],
        devices=device or [],
        fraction=fraction_malicious,
        preset=preset,
    )
    limits = command.make_limits(repeats, seconds)
    folder = out or free_path("bench-aggregators")
    check_folder(folder)
    peer = load(count_cores()) if peers else None  # before anything is measured or written
    measured = measure.measure(cells, grid.find_devices(device or []), fraction_malicious, limits, peers)
    shown = command.Shown(
        "cells", report.title, report.line, report.tables, report.remarks, report.write_results
    )
    command.run(_console(), len(cells), measured, folder, limits, peer, shown)


@bench.command(
    "rounds",
    short_help="Time whole rounds, part by part.",
    epilog=_examples(
        "fljax bench rounds --preset paper",
        "fljax bench rounds configs/quickstart.toml --vary 'num_clients=[20, 40, 80]'",
    ),
)
def bench_rounds(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="A TOML file; default the preset's made-up data."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper (default), blazefl, pfl or scaling.",
            autocompletion=one_of("paper", "blazefl", "pfl", "scaling"),
        ),
    ] = None,
    settings: Settings = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=[VALUES]", help="Measure each value, and fit the time's exponent."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Calls after the warm-up.")] = 10,
    seconds: Annotated[float, typer.Option(help="Time budget of each side of a job.")] = 10.0,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Do the same work in PyTorch and other simulators in the same run."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default runs/bench-rounds.")] = None,
) -> None:
    """Time whole rounds: shares of their parts, memory, the arithmetic's floor, peers."""
    from fljax.bench import jobs, round_peers, rounds, rounds_report
    from fljax.cli import bench as command
    from fljax.simulation.run_folder import check_folder

    planned = jobs.plan(config, preset, _overrides(settings), _overrides(vary, "--vary"))
    limits = command.make_limits(repeats, seconds)
    folder = out or free_path("bench-rounds")
    check_folder(folder)
    measured = rounds.measure_jobs(planned, limits, peers)
    of = rounds_report
    shown = command.Shown("jobs", of.title, of.line, of.tables, of.remarks, of.write_results)
    peer = round_peers.versions() if peers else None
    command.run(_console(), len(planned), measured, folder, limits, peer, shown)


@app.command(
    "list",
    short_help="List what a configuration can name.",
    epilog=_examples(
        "fljax list rules",
        "fljax list rules krum",
        "fljax list attacks --plugin my_attacks",
    ),
)
def list_command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(LISTS[:-1])} or {LISTS[-1]}.",
            autocompletion=one_of(*LISTS),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            help="One of them, to show what it does and takes, in full.", autocompletion=listed_names
        ),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List what a configuration can name, or show one name in full."""
    from fljax.cli.details import show_list
    from fljax.config.plugins import load_named

    load_named(plugin or ())
    show_list(_console(), kind, name)


@app.command(
    "cache",
    short_help="Show or drop the compiled programs that are kept.",
    epilog=_examples(
        "fljax cache",
        "fljax cache --clear",
    ),
)
def cache_command(
    clear: Annotated[bool, typer.Option("--clear", help="Drop them.")] = False,
) -> None:
    """Show where compiled programs are kept for the next command, and how many."""
    from fljax.cli.cache import show_cache

    show_cache(_console(), clear)


def main() -> None:
    """Entry point; exits with 0 if done, 1 if the run failed, 2 for wrong input, 128 + n after signal n."""
    _settle_streams()
    with watching():
        try:
            _traced(lambda: app(prog_name="fljax"))
        except (ConfigError, DataError) as error:
            _fail(error, 2)
        except JobError as error:
            with suppress(OSError):
                print(f"fljax: {error}", file=sys.stderr, flush=True)
            # The end of a job in order waits for its processes, and one is gone.
            os._exit(1)
        except (SweepError, OutOfMemoryError, OSError) as error:
            _fail(error, 1)
        except KeyboardInterrupt as error:
            _fail("interrupted", status_of(error))
        except Exception as error:
            _fail(*unforeseen(error))


def _settle_streams() -> None:
    """Whatever a shell has made of them, nothing that is printed ends a command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file that is opened would have its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    # A locale may have no ±, and a path bytes that are no text.
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def _fail(message: object, status: int) -> None:
    with suppress(OSError):
        print(f"fljax: {message}", file=sys.stderr)
    sys.exit(status)


def _traced(call: Callable[[], Any]) -> None:
    """Call; print the traceback of an error if the environment variable FLJAX_TRACEBACK asks for it."""
    try:
        call()
    except Exception:
        if os.environ.get("FLJAX_TRACEBACK"):
            traceback.print_exc()
        raise
