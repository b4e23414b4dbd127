"""The same rules in ByzFL 0.0.11; it and PyTorch are imported in functions that only `--peers` calls."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from fljax.errors import ConfigError

NAME = "ByzFL"
DTYPE = np.float32  # what it computes in, whatever it is given
# ByzFL lists all subsets before it looks at the first one; so many take it seconds.
MOST_SUBSETS = 10_000


class Pair(NamedTuple):
    """A rule of ours and the peer's that computes the same, as far as their parameters allow.

    Attributes:
        make: the peer's rule, new for every call because some carry a state.
        label: what was set to make them the same.
        override: our hyper-parameters for that.
        in_place: it writes its result into its input, and gets a copy each time outside the timed region.
        note: what could not be made the same.
    """

    make: Callable[[], Callable[[Any], Any]]
    label: str = ""
    override: Mapping[str, Any] = {}
    in_place: bool = False
    note: str = ""


NO_PAIR = Pair(lambda: print)  # our rule alone


def load(threads: int) -> dict[str, Any]:
    """Import ByzFL, give PyTorch that many threads, and return versions and threads.

    Raises:
        ConfigError: if one of them is not installed.
    """
    try:
        import byzfl  # noqa: F401
        import torch
    except ImportError as error:
        raise ConfigError(f'--peers needs ByzFL and PyTorch ({error}): pip install "fljax[bench]"') from None
    torch.set_num_threads(threads)
    return {"byzfl": version("byzfl"), "torch": version("torch"), "torch_threads": torch.get_num_threads()}


def sides(pair: Pair, updates: Array) -> tuple[Callable[[], tuple[Any, ...]], Callable[..., Any]]:
    """The work outside and inside the timed region, with the same data on the same device."""
    import torch

    (device,) = updates.devices()
    cuda = device.platform == "gpu" and torch.cuda.is_available()
    if not (cuda or device.platform == "cpu"):
        raise ValueError(f"PyTorch cannot use {device.platform}:{device.id}")
    pair.make()  # refuses before anything is copied
    # A copy, because PyTorch must never write into JAX's buffer.
    tensor = torch.from_numpy(np.array(updates, np.float32))
    if updates.dtype != np.float32:
        tensor = tensor.to(getattr(torch, updates.dtype.name))
    if cuda:
        tensor = tensor.to(f"cuda:{device.id}")

    def prepare() -> tuple[Any, ...]:
        return pair.make(), torch.clone(tensor) if pair.in_place else tensor

    def call(rule: Callable[[Any], Any], rows: Any) -> Any:
        result = rule(rows)
        if cuda:
            torch.cuda.synchronize()
        return result

    return prepare, call


def to_numpy(result: Any) -> np.ndarray:
    """A result on the host."""
    return np.asarray(result.cpu() if hasattr(result, "cpu") else result, np.float64)


def pairs(rule: str, n: int, hyper: Mapping[str, Any]) -> list[Pair]:
    """ByzFL 0.0.11's counterparts of our `rule` with these hyper-parameters, none if it has no such rule."""
    import byzfl

    f = hyper.get("num_malicious", hyper.get("trim", 0))
    radius = float(hyper.get("radius", 1.0))

    steps = [hyper["num_iterations"]] if "num_iterations" in hyper else [1, 5]
    krum = {"num_neighbors": n - f - 1}  # ByzFL's Krum scores with one neighbour more than the paper's
    three_steps = {
        "smoothing": 0.1,
        "smoothing_unit": 1.0,
        "max_iterations": 3,
        "tolerance": 0.0,
        "start": "zero",
    }
    label, noise, in_place = (
        "n−f−1 neighbours",
        "ByzFL starts one power iteration from noise",
        "ByzFL works in place",
    )

    def few_subsets(make: Callable[[], Any]) -> Any:
        if math.comb(n, f) > MOST_SUBSETS:
            raise ValueError(f"not run: ByzFL goes through all {math.comb(n, f):,} subsets")
        return make()

    def clipping(steps: int) -> Any:
        return byzfl.CenteredClipping(L=steps, tau=radius)

    table: dict[str, list[Pair]] = {
        "mean": [Pair(lambda: byzfl.Average())],
        "median": [Pair(lambda: byzfl.Median())],
        "trimmed_mean": [Pair(lambda: byzfl.TrMean(f))],
        "krum": [Pair(lambda: byzfl.Krum(f), label, krum)],
        "multi_krum": [Pair(lambda: byzfl.MultiKrum(f), label, {**krum, "num_selected": n - f})],
        "geometric_median": [
            Pair(lambda: byzfl.GeometricMedian(nu=0.1, T=3), "3 steps from 0", three_steps),
            Pair(lambda: byzfl.GeometricMedian(nu=1e-6, T=100), "converged"),
        ],
        "centered_clipping": [Pair(partial(clipping, s), f"L={s}", {"num_iterations": s}) for s in steps],
        "minimum_diameter": [Pair(lambda: few_subsets(lambda: byzfl.MDA(f)))],
        "smallest_spectrum": [Pair(lambda: few_subsets(lambda: byzfl.SMEA(f)), note=noise)],
        "nearest_to_pivot": [Pair(lambda: byzfl.MoNNA(f, idx=0))],
        "mean_around_median": [Pair(lambda: byzfl.Meamed(f))],
        "covariance_filter": [Pair(lambda: byzfl.CAF(f), note=noise)],
        "nnm": [Pair(lambda: byzfl.NNM(f))],
        "bucketing": [Pair(lambda: byzfl.Bucketing(hyper["bucket_size"]), note="each shuffles its own way")],
        "clip": [Pair(lambda: byzfl.Clipping(radius), in_place=True, note=in_place)],
        "adaptive_clip": [Pair(lambda: byzfl.ARC(f), in_place=True, note=in_place)],
    }
    return table.get(rule, [])
