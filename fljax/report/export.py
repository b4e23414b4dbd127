"""A run's model as a safetensors file, which any library reads without running a pickle."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from fljax.errors import ConfigError
from fljax.files import write_atomically
from fljax.host.installed import own_version
from fljax.report.run_folder import RUN_FILES
from fljax.report.saved_run import load_run

SUFFIX = ".safetensors"
# In front of the names of running batch statistics, which are no parameters.
STATE = "model_state."


def export_run(folder: str | Path, out: str | Path | None = None, **components: Any) -> Path:
    """Write the model of a run, finished or under way, as one safetensors file.

    A parameter's name is its path in the model's parameters with dots in between, `Dense_0.kernel`; running
    batch statistics are there as `model_state.` and their path. The metadata are texts: `round`, the rounds
    that the parameters have seen; `config_sha256`, of the run's config.json; `fljax`, the version that has
    written the file. Arrays come back bit for bit.

    Args:
        folder: that `fljax.run` or `fljax run` has written.
        out: the file, which is replaced if it is there; None for model.safetensors in the folder.
        **components: as for `fljax.load_run`.

    Returns:
        The file's path.

    Raises:
        ConfigError: if `out` does not end in .safetensors or cannot be a file, or as `fljax.load_run`.
        DataError: as `fljax.load_run`.
        OSError: if the file cannot be written; then there is none, or the old one.

    Example:
        >>> path = export_run("runs/demo")  # doctest: +SKIP
        >>> from safetensors.numpy import load_file
        >>> load_file(path)["Dense_0.kernel"].shape  # doctest: +SKIP
        (64, 64)
    """
    folder = Path(folder)
    path = folder / f"model{SUFFIX}" if out is None else Path(out)
    if path.suffix != SUFFIX:
        raise ConfigError(f"--out {str(path)!r} must end in {SUFFIX}")
    if path.is_dir():
        raise ConfigError(f"--out {str(path)!r} is a folder")
    run = load_run(folder, **components)
    arrays = named_arrays(run.params, "") | named_arrays(run.model_state, STATE)
    about = {
        "round": str(run.round),
        "config_sha256": hashlib.sha256((folder / RUN_FILES[0]).read_bytes()).hexdigest(),
        "fljax": own_version(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {str(path)!r}: cannot make the folder ({error.strerror})") from None
    write_atomically(path, save(arrays, about))
    return path


def named_arrays(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths.

    Example:
        >>> list(named_arrays({"Dense_0": {"bias": np.zeros(2)}}, ""))
        ['Dense_0.bias']
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    paths = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    names = [prefix + (path or "params") for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"two parameters would have the name {twice[0]} in the file")
    # In the order of C: safetensors writes the bytes of an array as they lie.
    return {name: np.array(leaf, order="C") for name, (_, leaf) in zip(names, leaves, strict=True)}
