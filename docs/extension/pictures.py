"""What rules and attacks do, drawn: a cloud of updates in the plane, and images with a trigger.

Drawing all of them takes minutes, nearly all of it compilation. So they are kept in docs/pictures/, each with
a digest of the module that it shows, and a build draws those whose module has changed.
"""

import hashlib
import inspect
import io
import re
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS, RULES, trimmed_mean
from fljax.aggregators.surrogates import soft_trimmed_mean
from fljax.attacks import attack_from_registry
from fljax.base import Context, Knowledge, Task
from fljax.bench.grid import Cell, Work, resolve

# Raised when this module draws otherwise, so that all are drawn anew.
DRAWN = 1
CAPTIONS = {
    "rules": "Left: 16 honest updates (blue), 4 hostile ones (red) and the result (grey cross; the honest "
    "mean is the green ring). Rows that count more are larger, where the rule says so. Right: how far the "
    "result is from the honest mean as the hostile rows move away; dashed, the plain mean.",
    "attacks": "What 4 of 20 clients send (red) where honest ones train to the blue points; small red dots "
    "are what they would have sent honestly. The crosses are the mean (×) and the trimmed mean (+) of all "
    "that is sent, the green ring is the honest mean.",
}
MOVED = (
    "Honest updates (blue), hostile ones (red), and what becomes of them (rings); the green ring is the "
    "honest mean."
)
TRIGGER = "The trigger on images of the digits: above as they are, below with the mark."
HONEST, HOSTILE, RESULT, TRUTH, GREY = "#3b82d0", "#d9483b", "#7a7a7a", "#2e9e5b", "#808080"
N, F = 20, 4
# Of the left picture, then of the right one.
DISTANCES = np.float32([2.0, *np.linspace(0.0, 6.0, 25)])
# Parameters that have no default, for attacks on this cloud.
HYPER = {
    "gaussian": {"std": 1.0},
    "constant": {"value": 0.0},
    "ipm": {"epsilon": 0.5},
    "mimic": {"target": 3},
}
# FoolsGold looks for directions that are alike, and in a plane all of honest clients are.
LEFT_OUT = {"worst_case", "distance_fitted", "foolsgold"}
STYLE = {
    "font.size": 10,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "fljax",
}


def caption(kind, name):
    """What a picture shows."""
    if kind == "attacks":
        return TRIGGER if _attack(name).trigger is not None else CAPTIONS[kind]
    return MOVED if name in PRE_AGGREGATORS else CAPTIONS[kind]


def mark_of(function):
    """What stands at the end of a picture: a digest of the module that it shows."""
    source = Path(inspect.getsourcefile(inspect.unwrap(function))).read_bytes()
    return f"<!-- {DRAWN} {hashlib.sha256(source).hexdigest()[:16]} -->"


def make(kind, name, function, folder):
    """Draw what a component does, unless it is drawn already.

    Returns the picture's path, or None where there is nothing to see.
    """
    if kind not in CAPTIONS or name in LEFT_OUT:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    mark = mark_of(function)
    path = folder / f"{name}.svg"
    if path.exists() and mark in path.read_text(encoding="utf-8"):
        return path
    with mpl.rc_context(STYLE):
        figure = (rule if kind == "rules" else attack)(name)
        if figure is None:
            path.unlink(missing_ok=True)
            return None
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    # Coordinates to a tenth of a point are all that a screen shows.
    drawn = re.sub(r"(\d+\.\d)\d+", r"\1", " ".join(text.getvalue().split()))
    path.write_text(f"{drawn}\n{mark}\n", encoding="utf-8")
    return path


@cache
def _cloud():
    """Honest rows, the root update, and directions of the hostile rows."""
    rng = np.random.default_rng(4)
    honest = np.array([1.2, 0.7]) + rng.normal(size=(N - F, 2)) * (0.45, 0.3)
    aside = np.array([-0.5, 1.0]) + rng.normal(size=(F, 2)) * 0.12
    return honest.astype(np.float32), np.float32([1.1, 0.75]), aside.astype(np.float32)


def _stack(distance):
    honest, _, aside = _cloud()
    return np.concatenate([honest, honest.mean(0) + distance * aside]).astype(np.float32)


def _subplots(*, right):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.0) if right else (4.6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=(1.15, 1)) if right else figure.subplots()
    return figure, axes


def rule(name):
    """A rule or a pre-aggregator on the cloud, or None where it needs more than a plane."""
    if name not in RULES and name not in PRE_AGGREGATORS:
        return None
    try:
        function, arrays, hyper = resolve(Cell(name, Work(N, 2, F), "float32", "cpu:0"))
    except ValueError:
        return None
    if set(arrays) & {"layers", "head", "predict", "features", "root_x"}:
        return None
    honest, root, _ = _cloud()
    target = jnp.asarray(root)
    known = {
        "root_update": target,
        "center": jnp.zeros(2),
        "params": jnp.zeros(2),
        "weights": jnp.ones(N),
        "key": jax.random.key(0),
        "root_loss": jax.tree_util.Partial(lambda params: jnp.sum((params - target) ** 2)),
        "scores": jnp.zeros(N),
    }
    hyper = {key: 1.0 if key == "radius" else value for key, value in hyper.items()}
    explained = getattr(function, "explained", None) if name in RULES else None

    def result(rows):
        # Sybils whose directions have always been alike, and honest clients whose are not.
        given = {**known, "history": 5 * rows}
        call = partial(explained or function, **hyper, **{each: given[each] for each in arrays})
        return call(rows)

    # One distance after the other: under `vmap` some rules take ten times as long to compile.
    compiled = jax.jit(result)
    outs = [compiled(_stack(distance)) for distance in (DISTANCES if name in RULES else DISTANCES[:1])]
    out = jax.tree.map(lambda *each: np.stack(each), *outs)
    update, info = out if explained else (out, {})
    figure, axes = _subplots(right=name in RULES)
    left = axes[0] if name in RULES else axes
    rows = _stack(2.0)
    if name in PRE_AGGREGATORS:
        moved = np.asarray(update[0])
        if moved.shape == rows.shape:
            for start, end in zip(rows, moved, strict=True):
                left.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY, "lw": 0.7})
        left.scatter(*rows[:-F].T, s=22, color=HONEST)
        left.scatter(*rows[-F:].T, s=22, color=HOSTILE)
        left.scatter(*moved.T, s=36, facecolors="none", edgecolors=GREY)
    else:
        size = _sizes(info)
        left.scatter(*rows[:-F].T, s=size[:-F], color=HONEST, alpha=0.85)
        left.scatter(*rows[-F:].T, s=size[-F:], color=HOSTILE, alpha=0.85)
        left.plot(*np.asarray(update[0]), "x", color=RESULT, ms=11, mew=2.5)
        off = np.linalg.norm(np.asarray(update[1:]) - honest.mean(0), axis=1)
        # The plain mean moves in proportion.
        per_distance = F / N * np.linalg.norm(_cloud()[2].mean(0))
        axes[1].plot(DISTANCES[1:], per_distance * DISTANCES[1:], "--", color=GREY, lw=1.2)
        axes[1].plot(DISTANCES[1:], off, color=HONEST, lw=2)
        axes[1].set(xlabel="distance of the hostile rows", ylabel="error of the result", ylim=(0, None))
    left.plot(*honest.mean(0), "o", mfc="none", mec=TRUTH, ms=11, mew=1.8)
    left.set_aspect("equal", adjustable="datalim")
    return figure


def _sizes(info):
    """Areas of the rows' points: what they count."""
    for key in ("selected", "trust_scores", "weights"):
        if key in info:
            counts = np.nan_to_num(np.abs(np.asarray(info[key][0], np.float64)))
            return 8 + 45 * counts / max(counts.max(), 1e-9)
    return np.full(N, 26.0)


def attack(name):
    """An attack on updates on the cloud, a trigger on the digits, or None."""
    try:
        made = _attack(name)
    except (ValueError, TypeError):  # it needs a model or other attacks
        return None
    if made.trigger is not None:
        return _trigger(made.trigger, _digits())
    if made.poison_data is not None or made.train is not None:
        return None
    return _crafted(made)


@cache
def _attack(name):
    task = Task(num_classes=10, max_malicious=F, image_shape=(8, 8, 1))
    return attack_from_registry(name, task, **HYPER.get(name, {}))


def _digits():
    from fljax.data import load

    return np.asarray(load("digits").test_x[:6], np.float32).reshape(-1, 8, 8, 1)


def _trigger(trigger, images):
    from matplotlib.figure import Figure

    if "state" in inspect.signature(trigger.embed).parameters or trigger.examples is not None:
        return None
    marked = np.asarray(trigger.embed(jnp.asarray(images)))
    figure = Figure(figsize=(6.0, 2.1), layout="constrained")
    for axis, image in zip(figure.subplots(2, 6).flat, [*images, *marked], strict=True):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
    return figure


def _crafted(made):
    honest, root, _ = _cloud()
    rng = np.random.default_rng(1)
    own = np.array([1.2, 0.7]) + rng.normal(size=(F, 2)) * (0.45, 0.3)
    rows = np.concatenate([honest, own]).astype(np.float32)
    malicious = np.arange(N) >= N - F
    context = Context(
        key=jax.random.key(1),
        round=jnp.int32(1),
        client_ids=jnp.arange(N),
        weights=jnp.ones(N),
        params=jnp.float32([0.4, -0.2]),
        root_update=jnp.asarray(root),
    )
    knowledge = Knowledge(
        context,
        rule=partial(trimmed_mean, trim=F),
        surrogate=partial(soft_trimmed_mean, trim=F),
        local_rate=jnp.float32(0.1),
        batch_size=jnp.float32(32.0),
        run_key=jax.random.key(2),
    )

    def send(rows):
        state = made.init(N, 2)
        # Attacks that remember have their first round behind them.
        _, state = made.corrupt(
            rows, malicious, state, knowledge._replace(context=context._replace(round=0, params=jnp.zeros(2)))
        )
        return made.corrupt(rows, malicious, state, knowledge)[0]

    sent = np.asarray(jax.jit(send)(rows))
    figure, axis = _subplots(right=False)
    axis.scatter(*rows[:-F].T, s=26, color=HONEST, alpha=0.85)
    axis.scatter(*rows[-F:].T, s=6, color=HOSTILE)
    axis.scatter(*sent[-F:].T, s=34, color=HOSTILE, alpha=0.85)
    axis.plot(*honest.mean(0), "o", mfc="none", mec=TRUTH, ms=11, mew=1.8)
    for result, marker in ((sent.mean(0), "x"), (np.sort(sent, axis=0)[F:-F].mean(0), "+")):
        axis.plot(*result, marker, color=RESULT, ms=11, mew=2.5)
    axis.set_aspect("equal", adjustable="datalim")
    return figure
