"""Plugins: modules of a user that register rules, attacks, data sets and the like when they are imported.

The key `plugins` of a configuration names them. A module beside the configuration's file is recorded with its
folder, `/home/ann/study/my_rules`, so that the configuration means the same wherever it is read.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from fljax.errors import ConfigError
from fljax.registry import plugin_errors

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def module_name(plugin: str) -> str:
    """The name of a plugin's module, without the folder.

    Example:
        >>> module_name("/home/ann/study/my_rules"), module_name("package.rules")
        ('my_rules', 'package.rules')
    """
    return plugin.rpartition("/")[2]


def is_plugin(plugin: str) -> bool:
    """True for the name of a module, with or without a folder."""
    return _MODULE.fullmatch(module_name(plugin)) is not None and not plugin.endswith(".py")


def beside(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Values of a configuration whose plugins in a folder are named with it; other plugins stay as they are.

    Args:
        values: as a file or overrides give them, well-formed or not.
        folder: of the configuration's file.
    """
    plugins = values.get("plugins")
    if not isinstance(plugins, (list, tuple)):
        return dict(values)
    return {**values, "plugins": [_located(plugin, folder) for plugin in plugins]}


def _located(plugin: Any, folder: Path) -> Any:
    if not isinstance(plugin, str) or not is_plugin(plugin):
        return plugin  # the schema has a sentence for it
    place, slash, module = plugin.rpartition("/")
    home = folder.absolute() / (place or slash)
    return f"{home.resolve().as_posix()}/{module}" if slash or _file(home, module) else plugin


def _file(folder: Path, module: str) -> Path | None:
    """The file of a module or package in a folder, or None."""
    stem = folder.joinpath(*module.split("."))
    with suppress(OSError, ValueError):
        return next(
            (path for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if path.is_file()),
            None,
        )
    return None


def without_folders(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a configuration with the mere names of its plugins' modules, which decide what it means."""
    plugins = values.get("plugins")
    if not isinstance(plugins, (list, tuple)):
        return dict(values)
    return {**values, "plugins": [module_name(each) if isinstance(each, str) else each for each in plugins]}


def load_recorded(config: Mapping[str, Any]) -> None:
    """Import those plugins of a configuration that are there, for the titles of results that are read.

    Args:
        config: from a folder that a run or a sweep has written; what no such folder holds is left out.
    """
    plugins = config.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        absolute = isinstance(plugin, str) and ("/" not in plugin or Path(plugin).is_absolute())
        if absolute and is_plugin(plugin):
            with suppress(ConfigError):
                load_plugins([plugin])


def load_named(plugins: Iterable[str]) -> None:
    """Import plugins that a command was given, from the current folder or Python's path.

    Raises:
        ConfigError: as `load_plugins`, and for what is no name of a module.
    """
    for plugin in plugins:
        if not is_plugin(plugin):
            raise ConfigError(f"--plugin {plugin!r} must be the name of a module, for example my_rules")
        load_plugins([_located(plugin, Path())])


def load_plugins(plugins: Iterable[str]) -> None:
    """Import plugins that are not imported yet; afterwards what they register has a name.

    Args:
        plugins: names of modules: `my_rules` on Python's path, or with a folder, `/home/ann/study/my_rules`.
            If the folder has no such module here, as on another machine, Python's path is searched.

    Raises:
        ConfigError: for a module that is not there or cannot be imported, naming it.
    """
    for plugin in plugins:
        folder, slash, module = plugin.rpartition("/")
        home = Path(folder or slash) if slash else None
        file = _file(home, module) if home else None
        if file is None:
            _import(module, home)
        else:
            _import_from(file, module, str(home))


def _import_from(file: Path, module: str, folder: str) -> None:
    """Import a module from its folder, which stays on Python's path, last, for what is imported later."""
    known = sys.modules.get(module)
    if known is None:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()  # the file may be newer than the last look at its folder
        try:
            known = _import(module)
        finally:
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    found = getattr(known, "__file__", None)
    if found is None or not file.samefile(found):
        raise ConfigError(
            f"plugin {module}: {file} cannot be imported beside another module of this name, {found or known}"
        )


def _import(module: str, folder: Path | None = None) -> ModuleType:
    with plugin_errors(module):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # something that the plugin imports
            places = f"in {folder}" if folder else "beside the configuration"
            raise ConfigError(f"plugin {module}: no such module {places} or on Python's path") from None
