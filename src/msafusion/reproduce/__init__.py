"""What exists only for the published code (anita-hu/MSAF): its weights (`load_reference`) and its video frames."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msafusion.reproduce.weights import load_reference

__all__ = ["load_reference"]


def __getattr__(name: str) -> Any:
    # imported when asked for: `data.extractors` needs the frames only, the weights need the networks
    if name != "load_reference":
        raise AttributeError(f"module 'msafusion.reproduce' has no attribute {name!r}")
    from msafusion.reproduce.weights import load_reference

    return load_reference
