"""What happens to stored streams before a network sees them, in training and at inference alike.

Add a file with a dataclass `Preprocessing` and a line to `KINDS`.
"""

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from msafusion.data.preprocessing.augmentation import Augmentation
from msafusion.data.preprocessing.base import Layout, Preprocessing, layout_problem
from msafusion.data.preprocessing.clips import Clips
from msafusion.data.preprocessing.standardize import Standardize
from msafusion.data.preprocessing.windows import Windows
from msafusion.streams import nearest

KINDS: dict[str, type[Preprocessing]] = {"Windows": Windows, "Clips": Clips, "Standardize": Standardize}
"""Name -> preprocessing."""

__all__ = [
    "KINDS",
    "Augmentation",
    "Clips",
    "Layout",
    "Preprocessing",
    "Standardize",
    "Windows",
    "layout_problem",
    "preprocessing_from",
]


def preprocessing_from(saved: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that `Preprocessing.as_dict` describes.

    Raises:
        ValueError: its kind is unknown to this version.

    Examples:
        >>> from msafusion.data.preprocessing import Clips, preprocessing_from
        >>> preprocessing_from(Clips({"audio": 13}).as_dict()).num_channels()
        {'audio': 13}
    """
    options = {name: value for name, value in saved.items() if name != "kind"}
    kind = saved.get("kind", "Windows")
    if kind not in KINDS:
        raise ValueError(f"unknown preprocessing {kind!r}; {nearest(kind, KINDS)}")
    hints = get_type_hints(KINDS[kind])
    if odd := [name for name, value in options.items() if name in hints and not _fits(value, hints[name])]:
        raise ValueError(f"its preprocessing has {odd[0]} = {str(options[odd[0]])[:60]}, expected {hints[odd[0]]}")
    return KINDS[kind](**options)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON has a type; numbers must be finite."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(part, parts[0]) for part in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)
