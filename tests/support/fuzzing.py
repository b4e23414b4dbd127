"""Fuzzers, each a process of its own: `python fuzzing.py config 0 500` prints what became of 500 inputs.

Whatever goes in, it comes back as a value or as one sentence, within the minute and in bounded memory. The
same seed makes the same inputs; the one that failed is in the message.
"""

import faulthandler
import io
import json
import pickle
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

SECONDS = 60  # for one input; what takes longer hangs
LARGEST = [0, -1, 1, 2, 3, 7, 40, 100_001, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, 10**30]


class UnexpectedError(Exception):
    """An input that was neither read nor refused in one sentence."""


def tried(counts: Counter, what: object, call, *allowed: type[Exception]) -> bool:
    """Whether `call` succeeds; what it raises must be one of the allowed errors, in one sentence."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        call()
    except allowed as error:
        text = str(error)
        if "\n" in text.strip() or not text.strip() or len(text) > 3000:
            raise UnexpectedError(f"no sentence: {text!r:.2000}; the input: {what!r:.2000}") from error
        counts["refused"] += 1
        return False
    except Exception as error:
        raise UnexpectedError(f"{type(error).__name__}: {error!s:.500}; the input: {what!r:.2000}") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    counts["read"] += 1
    return True


# --- configurations ----------------------------------------------------------------------------------

BASE = """
rounds = 20
plugins = ["fractions", "/nowhere/textwrap"]
eval_every = 2
num_clients = 8
cohort_size = 6
client_chunk = "auto"
seed = 3
seeds = { data = 1 }
data = { name = "synthetic", num_train = 80, num_test = 20, num_features = 6, num_classes = 3 }
partition = { name = "dirichlet", alpha = 0.5 }
model = { name = "mlp", hidden = [8, 4] }
local = { steps = 2, batch_size = 4, learning_rate = 0.1, optimizer = { name = "sgd", nesterov = false } }
root = { size = 10, bias = 0.5, bias_class = 1, batch_size = "full", loss_reduction = "sum" }
loss = { name = "huber", delta = 0.5 }
metrics = ["test_loss", { name = "per_class_error" }]
validation = { size = 5 }
stop = { metric = "validation_error", target = 0.1, patience = 3 }

[server.learning_rate]
name = "exponential_decay"
init_value = 0.1
transition_steps = 5
decay_rate = 0.9

[aggregator]
name = "trimmed_mean"
trim = 1
pre = [{ name = "clip", radius = 1.0 }]

[attack]
name = "worst_case"
attacks = [{ name = "trim_attack" }, { name = "alie", z = 1.5 }]
fraction = 0.25
schedule = { name = "periodic", on = 1, off = 1 }
"""
SWEEP = """
[sweep]
seeds = 2
select = ["local.learning_rate"]
exclude = [{ aggregator = "median", "attack.fraction" = 0.2 }]
[sweep.axes]
aggregator = ["median", { name = "trimmed_mean", trim = 1 }]
"attack.fraction" = { linspace = [0.1, 0.2, 2] }
"local.learning_rate" = [0.1, 0.2]
"""
WORDS = [
    *LARGEST,
    *(
        0.5,
        -0.5,
        0.0,
        1e308,
        float("inf"),
        float("nan"),
        True,
        False,
        "",
        "full",
        "actual",
        "name",
        "a\nb",
        "\x00",
    ),
    *(
        [],
        {},
        [1],
        [[1]],
        [[]],
        {"name": "krum"},
        {"name": 3},
        {"": 1},
        {"range": [0, 1]},
        "x" * 2000,
        "é\u202e",
    ),
]


def places(values, path=()):
    """Every place in nested values."""
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mangle(values, draw: random.Random, names: dict[str, list[str]]):
    """One change: a value, a key, a component, or something gone, twice or elsewhere."""
    all_places = list(places(values))
    if not all_places:
        return values
    *way, key = draw.choice(all_places)
    table = values
    for part in way:
        table = table[part]
    kind = draw.randrange(6)
    if kind <= 1 or not isinstance(table, dict):
        table[key] = draw.choice(WORDS)
    elif kind == 2:
        table[draw.choice(["naem", "", "name", "extends", "sweep", "é", "a.b", key.upper()])] = table.pop(key)
    elif kind == 3:
        del table[key]
    elif kind == 4:
        table[key] = {draw.choice(["name", key, "x"]): draw.choice([table[key], *WORDS])}
    else:
        component = draw.choice(list(names))
        values[component] = {"name": draw.choice(names[component])}
    return values


def parameters_of(component: str, name: str) -> list[str]:
    """What the component can be given."""
    from fljax.config import components
    from fljax.config.signatures import keyword_parameters

    registries = {
        "aggregator": lambda: components.rule_parameters(components.RULES[name].function),
        "attack": lambda: components.attack_parameters(components.ATTACKS[name].function),
        "partition": lambda: keyword_parameters(components.PARTITIONS[name].function),
        "loss": lambda: keyword_parameters(components.LOSSES[name].function),
        "model": lambda: components.model_parameters(components.MODELS[name].function),
        "data": lambda: keyword_parameters(components.DATASETS[name].function),
    }
    return list(registries[component]())


def toml(value) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def document(values) -> str:
    return "".join(f"{json.dumps(str(key))} = {toml(value)}\n" for key, value in values.items())


def scratched(data: bytes, draw: random.Random) -> bytes:
    """Bytes after one to four accidents: bits flipped, pieces gone, doubled, moved, or large numbers."""
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        if not data:
            return data
        at, size = draw.randrange(len(data)), draw.choice([1, 1, 2, 4, 8, 64, 1000])
        kind = draw.randrange(7)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[at + size :]
        elif kind == 3:
            data = data[:at] + data[at : at + size] * 2 + data[at + size :]
        elif kind == 4:
            number = draw.choice(
                [b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", bytes(8), b"\xff" * 8]
            )
            data = data[:at] + number + data[at + len(number) :]
        elif kind == 5:
            data = data[:at] + draw.randbytes(size) + data[at:]
        else:
            there = draw.randrange(len(data))
            data = data[:at] + data[there : there + size] + data[at + size :]
    return data


def fuzz_config(draw: random.Random, count: int, counts: Counter) -> None:
    """Configurations up to where data would be read; every tenth up to where a program would be compiled."""
    import tomllib

    from fljax.config import components
    from fljax.config.loading import load_config
    from fljax.errors import ConfigError, DataError
    from fljax.simulation.assembly import check_names, compose, load_dataset, make_parts
    from fljax.sweeps import load_sweep

    names = {
        "aggregator": list(components.RULES),
        "attack": list(components.ATTACKS),
        "partition": list(components.PARTITIONS),
        "model": list(components.MODELS),
        "data": ["digits", "synthetic", "npz"],
        "loss": list(components.LOSSES),
    }
    folder = Path(tempfile.mkdtemp())
    path = folder / "fuzzed.toml"
    path.write_text(BASE + SWEEP)
    load_sweep(path)  # without a change it is read
    for number in range(count):
        deep = number % 10 == 0
        sweep = number % 3 == 2 and not deep
        text = BASE + (SWEEP if sweep else "")
        if number % 4 == 3:
            data = scratched(text.encode(), draw)
        else:
            values = tomllib.loads(text)
            for _ in range(0 if deep else draw.choice([1, 1, 2, 3])):
                values = mangle(values, draw, names)
            if deep:
                component = draw.choice(list(names))
                values[component] = {"name": draw.choice(names[component])}
            component = component if deep else draw.choice(list(names))
            table = values.get(component)
            if isinstance(table, dict) and table.get("name") in names[component]:
                for parameter in parameters_of(component, table["name"]):
                    if draw.random() < 0.6:
                        table[parameter] = draw.choice([1, 2, 3, 0.5, *(LARGEST if deep else WORDS)])
            data = document(values).encode()
        path.write_bytes(data)

        def check(deep=deep, sweep=sweep) -> None:
            if sweep:
                load_sweep(path)
                return
            config = load_config(path)
            check_names(config)
            if deep:
                counts["deep"] += 1
                compose(make_parts(config, load_dataset(config)))
                counts["built"] += 1

        tried(counts, data, check, ConfigError, DataError)
    shutil.rmtree(folder)


# --- data files --------------------------------------------------------------------------------------


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def saved(save, value, *options, **more) -> bytes:
    buffer = io.BytesIO()
    save(buffer, value, *options, **more)
    return buffer.getvalue()


def originals() -> list[tuple]:
    """A small file of every format with its reader: name, bytes, reader, and entries to damage one by one."""
    import gzip
    import lzma

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    from fljax.data import load
    from fljax.data.readers import cifar10, cifar100, colorectal, idx, leaf, uci_har

    colorectal.PER_CLASS = 1
    uci_har.CLASS_COUNTS = {}
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    idx_file = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes() + images.tobytes()
    rows = numbers.integers(0, 10, (3, 3073), dtype=np.uint8)
    batch = {"data": rows[:, 1:], "labels": rows[:, 0].tolist(), b"x": [None, 1.5, "é" * 9]}
    x, y = np.arange(24, dtype=np.float32).reshape(12, 2), np.arange(12) % 3
    arrays = {"train_x": x, "train_y": y, "client_ids": np.array(["ann", "bob"] * 6)}
    entries = {f"{name}.npy": saved(lambda file, a: np.save(file, a), a) for name, a in arrays.items()}
    picture = saved(
        lambda f, a: Image.fromarray(a).save(f, "webp", lossless=True),
        numbers.integers(0, 256, (96, 32, 3), dtype=np.uint8),
    )
    repacked = {
        "webp": np.frombuffer(picture, np.uint8),
        "offsets": np.array([0, len(picture)]),
        "labels": rows[:, 0],
        "exact": np.ones(3, bool),
    }
    repacked = {f"{name}.npy": saved(lambda file, a: np.save(file, a), a) for name, a in repacked.items()}
    tile = saved(
        lambda f, a: Image.fromarray(a).save(f, "tiff"),
        numbers.integers(0, 256, (150, 150, 3), dtype=np.uint8),
    )
    tiles = {f"0{c}_X/a.tif": tile for c in range(1, 9)}
    table = ",".join([*(f"pixel{i:04d}" for i in range(4096)), "label"]) + "\n"
    table += "".join(",".join(map(str, [*range(100), *[7] * 3996, c])) + "\n" for c in range(1, 9))
    texts = {
        "X_train.txt": "\n".join(
            " ".join(f"{v: .7e}" for v in row) for row in numbers.uniform(-1, 1, (12, 561))
        ),
        "y_train.txt": "\n".join(map(str, [1, 2, 3, 4, 5, 6] * 2)),
        "subject_train.txt": "\n".join(map(str, [1, 2] * 6)),
    }
    har = {f"UCI HAR Dataset/train/{name}": text.encode() for name, text in texts.items()}
    har_xz = {f"{name}.xz": lzma.compress(text) for name, text in har.items()}

    window = {"x": ["to be or not to be".rjust(80)], "y": [","]}
    pixels = {"x": [[1.0, 0.5] * 392], "y": [61]}
    layouts = [
        {"users": ["ann"], "num_samples": [1], "user_data": {"ann": entry}} for entry in (window, pixels)
    ]
    both = {"data": rows[:, 1:], "fine_labels": rows[:, 0].tolist(), "coarse_labels": rows[:, 0].tolist()}
    hundred = np.concatenate([rows[:, :1], rows], axis=1).tobytes()

    columns = pa.table({"ids": rows[:, :4].astype(np.int32).tolist(), "label": [0, 1, 1]})
    parquet = saved(lambda file, value: pq.write_table(value, file), columns)
    lines = "".join(json.dumps(row) + "\n" for row in columns.to_pylist()).encode()

    def read_columns(path):
        return load("huggingface", path.parent, path=path.name, input="ids")

    def read_har(path):
        return uci_har.read(uci_har.open_archive(path))

    def read_own(path):
        return load("npz", path.parent, file=path.name)

    return [
        ("idx", idx_file, lambda path: idx.read_idx(path, images.shape), None),
        ("idx.gz", gzip.compress(idx_file), lambda path: idx.read_idx(path, images.shape), None),
        ("batch.bin", rows.tobytes(), cifar10.read_binary, None),
        *((f"batch{p}", pickle.dumps(batch, p), cifar10.read_pickled, None) for p in (0, 2, 4, 5)),
        ("mine.npz", zipped(entries), read_own, entries),
        ("mine.npz", zipped(entries, zipfile.ZIP_STORED), read_own, None),
        ("batch.npz", zipped(repacked, zipfile.ZIP_STORED), cifar10.read_repacked, repacked),
        ("tiles.zip", zipped(tiles, zipfile.ZIP_STORED), colorectal.read_archive, tiles),
        ("table.csv", table.encode(), colorectal.read_table, None),
        ("roles.json", json.dumps(layouts[0]).encode(), lambda p: leaf.read_file(p, leaf.characters), None),
        ("writers.json", json.dumps(layouts[1]).encode(), lambda p: leaf.read_file(p, leaf.images), None),
        ("table.parquet", parquet, read_columns, None),
        ("table.jsonl", lines, read_columns, None),
        ("cifar100", pickle.dumps(both, 2), cifar100.read_pickled, None),
        ("cifar100.bin", hundred, cifar100.read_binary, None),
        ("har.zip", zipped(har), read_har, har),
        ("har.zip", zipped(har_xz, zipfile.ZIP_STORED), read_har, har_xz),
        ("har.zip", zipped({"UCI HAR Dataset.zip": zipped(har)}), read_har, None),
    ]


def fuzz_data(draw: random.Random, count: int, counts: Counter) -> None:
    """Files of every format, damaged from outside or in one of their entries before it is packed."""
    from fljax.errors import DataError

    folder, formats = Path(tempfile.mkdtemp()), originals()
    for name, data, read, _ in formats:
        (folder / name).write_bytes(data)
        read(folder / name)  # the undamaged ones are read
    for number in range(count):
        name, data, read, entries = formats[number % len(formats)]
        if entries and draw.random() < 0.7:
            which = draw.choice(list(entries))
            data = zipped(entries | {which: scratched(entries[which], draw)})
        else:
            data = scratched(data, draw)
        (folder / name).write_bytes(data)
        counts[name] += tried(counts, (name, number, data), partial(read, folder / name), DataError)
    shutil.rmtree(folder)


# --- folders of runs and sweeps ----------------------------------------------------------------------

RUN = """
rounds = 4
eval_every = 1
num_clients = 4
data = { name = "synthetic", num_train = 60, num_test = 20 }
model = { name = "logistic_regression" }
root = { size = 10 }
"""


def wrong_json(data: bytes, draw: random.Random) -> bytes:
    """A file of JSON values, one a line or one in all, with one of them another."""
    lines = data.splitlines() if data.count(b"\n{") else [data]
    which = draw.randrange(len(lines))
    values = json.loads(lines[which])
    values = mangle(values, draw, {"x": ["y"]}) if draw.random() < 0.8 else draw.choice(WORDS)
    lines[which] = json.dumps(values).encode()
    return b"\n".join(lines) + b"\n"


def fuzz_folders(draw: random.Random, count: int, counts: Counter) -> None:
    """A finished run that is resumed, and a sweep that is reported, with one file damaged."""
    import tomllib

    from fljax.config.schema import parse_config
    from fljax.errors import ConfigError, DataError
    from fljax.report import load_results, write_report
    from fljax.simulation.experiment import assemble, compile_experiment, run_experiment

    sys.path.insert(0, str(Path(__file__).parent))
    from tests.support.sweep_folders import cell, write_sweep

    folder = Path(tempfile.mkdtemp())
    built = assemble(parse_config(tomllib.loads(RUN)))
    program = compile_experiment(built)
    run_experiment(built, folder / "run", program=program)
    axes = {"aggregator": ["FedAvg", "Krum"], "attack": ["no attack"], "root.size": [10, 20], "seed": [0]}
    cells = [cell(rule, **{"root.size": size}) for rule in axes["aggregator"] for size in (10, 20)]
    write_sweep(folder / "sweep", axes, cells)

    def resume(out: Path) -> None:
        run_experiment(built, out, resume=True, program=program)

    def report(out: Path) -> None:
        load_results(out)
        if draw.random() < 0.1:
            write_report(out, formats=["md", "csv"])

    for number in range(count):
        original, use = ((folder / "run", resume), (folder / "sweep", report))[number % 2]
        out = folder / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(original, out)
        files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".png"]
        path = draw.choice(files)
        data = path.read_bytes()
        wrong = path.suffix in (".json", ".jsonl") and draw.random() < 0.6
        data = wrong_json(data, draw) if wrong else scratched(data, draw)
        path.write_bytes(data)
        what = (path.name, number, data)
        counts[path.suffix] += tried(counts, what, partial(use, out), ConfigError, DataError)
    shutil.rmtree(folder)


def fuzz_command(draw: random.Random, count: int, counts: Counter) -> None:
    """The same by the real command, a process each: its exit status, and one sentence where it refuses."""
    import tomllib

    folder = Path(tempfile.mkdtemp())
    for number in range(count):
        values = mangle(tomllib.loads(RUN), draw, {"aggregator": ["krum", "median"], "model": ["mlp"]})
        data = document(values).encode() if number % 2 else scratched(RUN.encode(), draw)
        (folder / "fuzzed.toml").write_bytes(data)
        words = ["run", "fuzzed.toml", "--out", f"out{number}"]
        done = subprocess.run(
            [sys.executable, "-m", "fljax", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=10 * SECONDS,
        )
        said = done.stderr
        sentence = said.startswith("fljax: ") and said.count("\n") == 1
        if done.returncode not in (0, 1, 2) or "Traceback" in said or (done.returncode and not sentence):
            raise UnexpectedError(f"status {done.returncode}, {said!r:.2000}; the input: {data!r}")
        counts["refused" if done.returncode else "read"] += 1
    shutil.rmtree(folder)


FUZZERS = {"config": fuzz_config, "data": fuzz_data, "folders": fuzz_folders, "command": fuzz_command}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says includes the process that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    kind, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    counts: Counter = Counter()
    FUZZERS[kind](random.Random(seed), count, counts)
    print(json.dumps({"inputs": count, **counts, "peak_megabytes": peak_bytes() // 1_000_000}))


if __name__ == "__main__":
    main()
