"""Multimodal fusion of networks you already have, by split attention (MSAF, arXiv 2012.07175) and its rivals."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msafusion.attach import FusedNetwork, FusionPoint, fuse
    from msafusion.fusion import MSAF
    from msafusion.predict import Prediction, TrainedModel, load
    from msafusion.streams import FusionError
    from msafusion.version import __version__

_PLACES = {
    "FusedNetwork": "attach",
    "FusionError": "streams",
    "FusionPoint": "attach",
    "MSAF": "fusion",
    "Prediction": "predict",
    "TrainedModel": "predict",
    "__version__": "version",
    "fuse": "attach",
    "load": "predict",
}
"""Public name -> its module, imported when the name is first used: `msafusion --help` need not wait for torch."""

__all__ = [
    "MSAF",
    "FusedNetwork",
    "FusionError",
    "FusionPoint",
    "Prediction",
    "TrainedModel",
    "__version__",
    "fuse",
    "load",
]


_PARTS = ("backbones", "checkpoints", "data", "fusion", "inference", "networks", "reproduce", "summary")
"""Subpackages that `msafusion.<name>` reaches without an import of their own."""


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"msafusion.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'msafusion' has no attribute {name!r}")
    return getattr(importlib.import_module(f"msafusion.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *_PARTS]
