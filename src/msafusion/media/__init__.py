"""Raw files to arrays: video, sound, faces. Add a frozen dataclass `Extractor` in a file and a line to `EXTRACTORS`."""

from collections.abc import Mapping
from typing import Any

from msafusion.media.audio import Mfcc
from msafusion.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.media.frames import Frames
from msafusion.media.matlab import UtdDepth, UtdInertial, UtdSkeleton
from msafusion.media.reference_frames import NtuReferenceFrames
from msafusion.media.skeleton import NtuSkeleton
from msafusion.media.stored import ImageFile, StoredArray
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

__all__ = [
    "EXTRACTORS",
    "WHOLE",
    "Extracted",
    "Extractor",
    "Frames",
    "Mfcc",
    "NtuReferenceFrames",
    "NtuSkeleton",
    "Span",
    "StreamMissing",
    "UtdDepth",
    "UtdInertial",
    "UtdSkeleton",
    "extractor_from",
]


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
