"""Raw files to arrays: video, sound, faces, skeletons."""

from msafusion.data.media.audio import Mfcc
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.data.media.frames import Frames
from msafusion.data.media.matlab import UtdDepth, UtdInertial, UtdSkeleton
from msafusion.data.media.skeleton import NtuSkeleton
from msafusion.data.media.stored import ImageFile, StoredArray

__all__ = [
    "WHOLE",
    "Extracted",
    "Extractor",
    "Frames",
    "ImageFile",
    "Mfcc",
    "NtuSkeleton",
    "Span",
    "StoredArray",
    "StreamMissing",
    "UtdDepth",
    "UtdInertial",
    "UtdSkeleton",
]
