"""Which classes a recipe, a run or an argument may name: the registered data sets and networks, at their own places."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings

from msafusion import plugins
from msafusion.data import preprocessing
from msafusion.data.datasets import DATASETS
from msafusion.data.preprocessing import Augmentation
from msafusion.files.yaml_file import read_yaml
from msafusion.networks import NETWORKS
from msafusion.streams import nearest

CLASSES: dict[str, dict[str, Any]] = {"data": DATASETS, "network": NETWORKS}
"""Options that a class makes -> the known ones."""
OPTION_TYPES = {f"{module}.{Augmentation.__name__}" for module in (preprocessing.__name__, Augmentation.__module__)}
"""Import paths of plain dataclasses that are the type of an option, by which jsonargparse looks up their fields."""
SECTIONS = ("unimodal", "multimodal", "trainer")
OF_COMMAND = ("out", "overwrite", "resume", "ray_address")
"""Options that say where to write, what to delete or which machines get the work: a stranger's file may not."""


def allow_registered() -> None:
    """Let jsonargparse import the registered data sets and networks, those of the user's own included.

    Raises:
        ValueError: an installed plugin is broken.
    """
    plugins.load_installed()
    set_parsing_settings(import_path_allowlist=sorted(plugins.class_paths() | OPTION_TYPES))


def check_recipe(file: str | Path) -> Mapping[str, Any]:
    """The plain values of a recipe or a run's configuration, which names nothing but registered classes.

    Raises:
        ValueError: the file does not exist or is not YAML; it names another class, needs a module that the user has
            not named, or sets what is for the command line alone.
    """
    try:
        content = read_yaml(file)
    except OSError as error:
        raise ValueError(f"'{file}' cannot be read ({error.strerror}), expected a YAML file; check the path.") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"'{file}' holds {type(content).__name__}, expected options by name; add `network: ...`.")
    where = f"'{file}'"
    if own := [name for name in OF_COMMAND if content.get(name)]:  # unset ones are what --print_config writes
        raise ValueError(
            f"{where} sets {' and '.join(own)}, expected it on the command line alone, as it says where to write, what "
            f"to delete or who gets the work; take it out, and add {' '.join(f'--{name}' for name in own)} if you mean "
            "it."
        )
    plugins.check_allowed(content.get("import"), where)
    if content.get("config"):  # jsonargparse reads one there, or passes over a list of them
        raise ValueError(f"{where} names another file by config, expected options; give both by --config.")
    for name in SECTIONS:  # else jsonargparse would read the file of that name
        if isinstance(content.get(name), str):
            raise ValueError(f"{name} in {where} is a text, expected options by name; write them into this file.")
    for name in CLASSES:
        if isinstance(text := content.get(name), str):
            _check_class(text, where, name)
    check_classes(content, where)
    return content


def check_classes(values: Any, where: str, key: str = "") -> None:
    """Refuse a `class_path` that is not of a registered class, or that stands where values are plain.

    Args:
        values: options by name, nested.
        where: they come from, for messages.
        key: the option's that the values are of.

    Raises:
        ValueError: there is one.
    """
    for name, value in _items(values):
        if name == "class_path" and key not in CLASSES:
            raise ValueError(
                f"{key or 'class_path'} in {where} asks for an object ({str(value)[:80]}), expected plain values "
                "(nothing was imported); remove it."
            )
        if name == "class_path":
            _check_class(value, where, key)
        else:
            check_classes(value, where, f"{key}.{name}" if key else str(name))


def unknown_class(path: str, where: str, key: str = "") -> str:
    """What to say of a class that is not registered."""
    place = f"{key} in {where}" if key else where
    module, _, name = path.rpartition(".")
    known = CLASSES.get(key, {**DATASETS, **NETWORKS})
    if not module or module.split(".")[0] == "msafusion":
        return f"unknown {key or 'class'} '{path}' in {where}; {nearest(name, known)} (or --import its module)"
    return (
        f"{place} names '{path}', which is not one of the known classes ({', '.join(known)}), and modules are imported "
        f"at your word only; if it is your own or you trust it, add --import {module}."
    )


def options_of(name: str) -> list[str]:
    """The options of a registered data set or network, by the name of its class; none of another."""
    cls = {**DATASETS, **NETWORKS}.get(name)
    return [] if cls is None else list(inspect.signature(cls).parameters)


def _check_class(path: Any, where: str, key: str) -> None:
    if not isinstance(path, str) or (path not in CLASSES[key] and path not in plugins.class_paths()):
        raise ValueError(unknown_class(str(path)[:200], where, key))


def _items(values: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(values, Mapping):
        yield from values.items()
    elif isinstance(values, list | tuple):
        yield from enumerate(values)
