"""Classes of the user's own: they come in by the user's word alone, never because a file names them.

The word is `--import my_package.module` on the command line, `imports=["my_package.module"]` in Python, or an
installed package's entry point of the group `msafusion.plugins`. Every concrete `NetworkPlan`, `Dataset`,
`Preprocessing`, `Extractor` and fusion `Head` that such a module holds is then known by its class name,
like msafusion's own. A fusion method between layers needs a line in the module: `FUSIONS["mine"] = Mine`.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

from msafusion.data.dataset import Dataset
from msafusion.data.datasets import DATASETS
from msafusion.data.extractors import EXTRACTORS
from msafusion.data.media import Extractor
from msafusion.data.preprocessing import KINDS, Preprocessing
from msafusion.fusion import FUSIONS, HEADS, Head
from msafusion.networks import NETWORKS, NetworkPlan

GROUP = "msafusion.plugins"
REGISTRIES: dict[type, dict[str, Any]] = {
    NetworkPlan: NETWORKS,
    Dataset: DATASETS,
    Preprocessing: KINDS,
    Extractor: EXTRACTORS,
    Head: HEADS,
}
"""Base class -> where its classes are known by name."""
_origin: dict[str, str] = {}
"""Name in a registry -> the module by which it came in."""
_asked: list[str] = []
_installed: list[str] = []


def use(modules: Iterable[str]) -> None:
    """Import modules that the user has named, and make the classes in them known by their names.

    Args:
        modules: full names, such as "my_package.networks"; each must be installed or on PYTHONPATH.

    Raises:
        ValueError: a module does not exist or cannot be imported, or a class has the name of one of msafusion's own.
    """
    load_installed()
    for name in modules:
        if name in _asked:
            continue
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"'{name}' is not a module's name, expected one such as my_package.networks; correct it.")
        before = _entries()
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise ValueError(f"module '{name}' cannot be imported ({error}); install what it needs.") from error
            raise ValueError(
                f"no module named '{error.name}' (to import '{name}'), expected one that is installed or in a "
                "folder on PYTHONPATH; `PYTHONPATH=. msafusion ...` finds those of the current folder."
            ) from None
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ValueError(f"module '{name}' cannot be imported ({why}); correct it.") from error
        _register(module, before)
        _asked.append(name)


@functools.cache
def load_installed() -> None:
    """Import what installed packages announce by entry points of the group `msafusion.plugins`, once.

    Raises:
        ValueError: one cannot be imported, or a class has the name of one of msafusion's own.
    """
    for point in metadata.entry_points(group=GROUP):
        before = _entries()
        try:
            point.load()
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ValueError(
                f"the installed plugin '{point.name}' ({point.value}) cannot be imported ({why}); mend or uninstall it."
            ) from error
        _register(sys.modules[point.module], before)
        _installed.append(point.module)


def requested_modules() -> tuple[str, ...]:
    """Modules that the user has named in this process, in their order."""
    return tuple(_asked)


def required_modules(saved: Any) -> list[str]:
    """The modules without which something that is to be saved, as plain values, could not be loaded again."""
    return sorted({_origin[text] for text in _texts(saved) if text in _origin})


def check_allowed(recorded: Any, where: str) -> None:
    """Refuse what needs modules that the user has not named; they are never imported because a file records them.

    Args:
        recorded: names of modules, as a run or a model records them.
        where: the file, for the message.

    Raises:
        ValueError: some are needed; or it is not a list of names.
    """
    load_installed()
    names = [recorded] if isinstance(recorded, str) else recorded or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the imports in {where} are {str(recorded)[:80]!r}, expected names of modules; correct it.")
    if missing := [name for name in names if name not in _asked and name not in _installed]:
        options = " ".join(f"--import {name}" for name in missing)
        raise ValueError(
            f"{where} needs {', '.join(missing)}, and modules are imported at your word only; if you trust "
            f"{'it' if len(missing) == 1 else 'them'}, add {options} (in Python imports={missing})."
        )


def class_paths(bases: Iterable[type] = (NetworkPlan, Dataset)) -> set[str]:
    """The full import paths of the known classes of some bases: of their modules, and of packages that show them."""
    paths: set[str] = set()
    for base in bases:
        for cls in REGISTRIES[base].values():
            paths.add(f"{cls.__module__}.{cls.__qualname__}")
            places = [cls.__module__.rsplit(".", count)[0] for count in range(cls.__module__.count(".") + 1)]
            places += [_origin[cls.__name__]] if cls.__name__ in _origin else []
            for place in places:
                if getattr(sys.modules.get(place), cls.__name__, None) is cls:
                    paths.add(f"{place}.{cls.__name__}")
    return paths


def _register(module: ModuleType, before: Mapping[str, Any]) -> None:
    """Make known what a module holds; `before` are the registries' entries from before it was imported."""
    for cls in _classes(module):
        for base, registry in REGISTRIES.items():
            if not issubclass(cls, base) or inspect.isabstract(cls):
                continue
            other = registry.get(cls.__name__, cls)
            if other is not cls and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(
                    f"{cls.__module__} has a {base.__name__} called {cls.__name__}, the name of {other.__module__}'s; "
                    "rename yours."
                )
            registry[cls.__name__] = cls
            _origin[cls.__name__] = module.__name__
    for name, value in _entries().items():
        theirs = str(getattr(value, "__module__", None))
        if name not in before or f"{theirs}.".startswith(f"{module.__name__}."):
            _origin.setdefault(name, module.__name__)


def _classes(module: ModuleType) -> Iterator[type]:
    """Those that a module, or one of a package that it has imported, shows and that are not msafusion's own."""
    inside = [one for name, one in list(sys.modules.items()) if f"{name}.".startswith(f"{module.__name__}.")]
    for value in (value for one in inside for value in list(vars(one).values())):
        if inspect.isclass(value) and not f"{value.__module__}.".startswith("msafusion."):
            yield value


def _entries() -> dict[str, Any]:
    return {name: value for registry in (*REGISTRIES.values(), FUSIONS) for name, value in registry.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
