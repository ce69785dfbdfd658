"""All readers of one stream from a raw file. To add one: a frozen dataclass `Extractor` and a line in `EXTRACTORS`."""

from collections.abc import Mapping
from typing import Any

from msafusion.data.media import (
    Extractor,
    Frames,
    ImageFile,
    Mfcc,
    NtuSkeleton,
    StoredArray,
    UtdDepth,
    UtdInertial,
    UtdSkeleton,
)
from msafusion.reproduce.frames import NtuReferenceFrames
from msafusion.streams import nearest

EXTRACTORS: dict[str, type[Extractor]] = {
    "Frames": Frames,
    "ImageFile": ImageFile,
    "Mfcc": Mfcc,
    "NtuReferenceFrames": NtuReferenceFrames,
    "NtuSkeleton": NtuSkeleton,
    "StoredArray": StoredArray,
    "UtdDepth": UtdDepth,
    "UtdInertial": UtdInertial,
    "UtdSkeleton": UtdSkeleton,
}
"""Name -> how a stream is read from a file."""


def extractor_from(saved: Mapping[str, Any]) -> Extractor:
    """The extractor that `Extractor.as_dict` describes.

    Raises:
        ValueError: its kind is unknown to this version.
    """
    options = {name: value for name, value in saved.items() if name != "kind"}
    kind = saved.get("kind", "")
    if kind not in EXTRACTORS:
        raise ValueError(f"unknown extractor {kind!r}; {nearest(kind, EXTRACTORS)}")
    return EXTRACTORS[kind](**options)
