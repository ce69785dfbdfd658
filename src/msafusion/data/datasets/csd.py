"""The CMU SDK's computational sequences: one HDF5 file (`.csd`) with features over time for each video.

    <root>/data/<video>/features      (n, d); words: (n, 1) bytes
    <root>/data/<video>/intervals     (n, 2) seconds
    <root>/metadata/<key>             (1,), a JSON string

`<root>` is the only top-level key. Source: github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.checks import check_finite
from msafusion.data.datasets.mosei_raw import finite
from msafusion.failures import DataError
from msafusion.files import hdf5
from msafusion.files.hdf5 import member
from msafusion.files.reading import reading

ROLES = {
    "words": "words (text)",
    "vectors": "word vectors (300 wide)",
    "audio": "COVAREP (74 wide)",
    "visual": "Facet (35 or 47 wide)",
    "labels": "labels (1 or 7 wide)",
}
"""What a file can be -> what it is told by."""
WIDTHS = {300: "vectors", 74: "audio", 35: "visual", 47: "visual", 1: "labels", 7: "labels"}
REMEDY, EXPECTED = "download it again", "an HDF5 file of the CMU SDK"


@contextmanager
def open_csd(path: Path) -> Iterator[Any]:
    """The HDF5 group `<root>/data` of a file: video -> features and intervals.

    Raises:
        DataError: no such file, no HDF5, cut short, or without such a group or any video in it.
    """
    import h5py

    with ExitStack() as stack:
        with reading(path, EXPECTED, REMEDY):
            file = stack.enter_context(h5py.File(path, "r"))
            roots = list(file)
            data = member(file, f"{roots[0]}/data") if len(roots) == 1 else None
            if not isinstance(data, h5py.Group) or not len(data):
                raise DataError(
                    f"'{path}' has the top-level keys {', '.join(roots[:4]) or '(none)'}, expected one with a group "
                    f"'data' of videos; {REMEDY}."
                )
        yield data


@contextmanager
def open_all(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Role -> the videos of its file; see `open_csd`."""
    with ExitStack() as stack:
        yield {role: stack.enter_context(open_csd(path)) for role, path in files.items()}


def rows(data: Any, video: str, path: Path) -> tuple[Any, np.ndarray]:
    """Features of a video, (n, d), not read yet, and their intervals, (n, 2) seconds.

    Raises:
        DataError: the video or a part of it is missing, or they are not as long as each other.
    """
    import h5py

    with reading(path, EXPECTED, REMEDY):
        features, given = (member(data, f"{video}/{name}") for name in ("features", "intervals"))
    if not isinstance(features, h5py.Dataset) or not isinstance(given, h5py.Dataset):
        raise DataError(f"'{path}' has no features and intervals of video '{video}', expected both; {REMEDY}.")
    if features.ndim != 2 or given.shape != (len(features), 2):
        raise DataError(
            f"'{path}', video '{video}': features {features.shape} with intervals {given.shape}, expected (n, d) "
            f"with (n, 2); {REMEDY}."
        )
    with reading(path, EXPECTED, REMEDY):
        intervals = part(given).astype(np.float64)
    check_finite(intervals, f"'{path}': the intervals of video '{video}'", REMEDY)
    return features, intervals


def part(features: Any, first: int = 0, last: int | None = None) -> np.ndarray:
    """Some rows of an HDF5 data set, or of an array.

    Raises:
        DataError: the file is damaged there.
    """
    if isinstance(features, np.ndarray):
        return features[first:last]
    with reading(features.file.filename, f"{features.name} of {EXPECTED}", REMEDY):
        return hdf5.part(features, first, last)


def texts(features: Any) -> np.ndarray:
    """Words, (n, 1) bytes, as an array of n strings."""
    words = part(features)[:, 0]
    return np.array([w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in words], dtype=object)


def width_of(data: Any, path: Path) -> int:
    """Channels of a file's first video."""
    with reading(path, EXPECTED, REMEDY):
        return rows(data, next(iter(data)), path)[0].shape[1]


def role_of(path: Path) -> str | None:
    """What a file holds, one of `ROLES`; None: something else (phonemes, other features)."""
    with open_csd(path) as data, reading(path, EXPECTED, REMEDY):
        features, _ = rows(data, next(iter(data)), path)
        if features.dtype.kind in "SO":
            return None if "phon" in features.name.split("/")[1].lower() else "words"
        return WIDTHS.get(features.shape[1]) if features.dtype.kind in "fiu" else None


def average_features(features: Any, frames: np.ndarray, words: np.ndarray, notes: list[str], stream: str) -> np.ndarray:
    """The mean of the frames of each word.

    A frame belongs to the word in whose interval [start, end) the frame's middle lies; a word that holds no frame's
    middle (it is shorter than a frame) takes the frame in which its own middle lies.

    Args:
        features: (frames, channels), an HDF5 data set of which only the frames needed are read, or an array.
        frames: (frames, 2), seconds, at least one.
        words: (words, 2), seconds, at least one.
        notes: gets counts of values that are not finite, and of words without a frame, which become zeros.
        stream: name in the notes.

    Returns:
        float32 (words, channels).
    """
    order = np.argsort(frames.mean(axis=1), kind="stable")
    in_order = bool((np.diff(order) == 1).all())
    frames = frames[order]
    first, last = (np.searchsorted(frames.mean(axis=1), words[:, side]) for side in (0, 1))
    short, middles = first >= last, words.mean(axis=1)
    around = np.clip(np.searchsorted(frames[:, 0], middles, side="right") - 1, 0, None)
    covered = (frames[around, 0] <= middles) & (middles < frames[around, 1])
    first, last = np.where(short, around, first), np.where(short, around + 1, last)
    low, high = int(first.min()), int(last.max())
    values = part(features, low, high) if in_order else part(features)[order[low:high]]
    values = finite(values, notes, stream).astype(np.float64)
    # pairs of bounds: every second sum is a word's; a row of zeros, as the last bound lies behind the last frame
    bounds = np.stack([first - low, last - low], axis=1).reshape(-1)
    sums = np.add.reduceat(np.pad(values, [(0, 1), (0, 0)]), bounds, axis=0)[::2]
    means = sums / (last - first)[:, None]
    if nothing := int(np.count_nonzero(short & ~covered)):
        notes.append(f"{stream}: {nothing} words of {len(words)} have no frame, zeros for them")
        means[short & ~covered] = 0
    return means.astype(np.float32)
