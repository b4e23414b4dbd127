"""What trackers have written, read back from their files: (round, test error) of every run."""

import json
import re


def read_tensorboard(folder):
    from tensorboardX.proto.event_pb2 import Event

    points = []
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        raw, at = file.read_bytes(), 0
        while at < len(raw):  # records: length, its checksum, the event, its checksum
            length = int.from_bytes(raw[at : at + 8], "little")
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            points += [(event.step, v.simple_value) for v in event.summary.value if v.tag == "test_error"]
            at += length + 16
    return points


def wandb_records(path):
    """The records of a `.wandb` file: LevelDB's log format, 32 KiB a block, after a head of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw, at, pieces = path.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        pieces += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(pieces)
            pieces = b""


def read_wandb(folder):
    """By name; a run that was resumed has several files under one id, and none of its steps twice."""
    import wandb

    wandb.teardown()  # its process writes behind our back; at the end of ours it does the same
    runs, ids = {}, {}
    for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = "run" if record.run.display_name == "demo" else record.run.display_name
                assert ids.setdefault(name, record.run.run_id) == record.run.run_id
                points = runs.setdefault(name, [])
            elif kind == "history":
                items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                points.append((int(items["_step"]), json.loads(items["test_error"])))
    return runs


def read_mlflow(folder):
    """By name, from the file store: a file a metric, a line a value."""
    runs = {}
    for meta in (folder / "mlruns").glob("*/*/meta.yaml"):
        name = re.search(r"^run_name: (.*)$", meta.read_text(), re.MULTILINE)[1]
        lines = (meta.parent / "metrics" / "test_error").read_text().splitlines()
        points = [(int(line.split()[2]), float(line.split()[1])) for line in lines]
        runs["run" if name == "demo" else name] = points
        assert list((meta.parent / "params").iterdir())
    return runs
