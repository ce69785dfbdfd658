"""What happens to stored streams before a network sees them, in training and in use alike.

Add a file with a dataclass `Preprocessing` and a line to `KINDS`.
"""

from collections.abc import Mapping
from typing import Any

from msafusion.preprocessing.base import DataError, Layout, Preprocessing, layout_missed
from msafusion.preprocessing.clips import Clips
from msafusion.preprocessing.recordings import Changes, Recordings
from msafusion.preprocessing.windows import Windows
from msafusion.streams import nearest

KINDS: dict[str, type[Preprocessing]] = {"Windows": Windows, "Clips": Clips, "Recordings": Recordings}
"""Name -> preprocessing."""

__all__ = [
    "KINDS",
    "Changes",
    "Clips",
    "DataError",
    "Layout",
    "Preprocessing",
    "Recordings",
    "Windows",
    "layout_missed",
    "preprocessing_from",
]


def preprocessing_from(saved: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that `Preprocessing.as_dict` describes.

    Raises:
        ValueError: its kind is unknown to this version.
    """
    options = {name: value for name, value in saved.items() if name != "kind"}
    kind = saved.get("kind", "Windows")
    if kind not in KINDS:
        raise ValueError(f"unknown preprocessing {kind!r}; {nearest(kind, KINDS)}")
    return KINDS[kind](**options)
