"""What the raw forms of CMU-MOSEI and CMU-MOSI share: streams, ids, labels, folds by video, finite values."""

import ast
import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from msafusion.data.checks import check_apart
from msafusion.data.samples import PARTS
from msafusion.failures import DataError
from msafusion.files.reading import parse_json
from msafusion.text import clean, note

STREAMS: tuple[str, ...] = ("visual", "audio", "text")
YOUTUBE = 11
"""Characters of a video's name at YouTube."""
NOT_STANDARD = "not the standard folds: 70 % train, 10 % valid, 20 % test of the videos, in the order of their SHA-256"
"""What settings say where no folds were given."""


def sample_id(video: str, clip: str) -> str:
    """`video$_$clip`, as MMSA names samples; what no sample's name may hold becomes `+<hexadecimal code point>+`."""
    return re.sub(r"[^\w.$ -]", lambda found: f"+{ord(found[0]):x}+", f"{video}$_${clip}")


def video_and_clip(name: str) -> tuple[str, str | None]:
    """The video and the clip in it, of a segment's name as any form of the data sets writes it.

    `video$_$clip` (MMSA), `video[clip]` (CMU SDK), `video_clip` where the video is a YouTube name (11 characters, `_`
    among them) or a number; else the whole name is the video's, with a note where it could be `video_clip`.
    """
    name = clean(name)
    if "$_$" in name:
        video, clip = name.rsplit("$_$", 1)
        return video, clip
    if found := re.fullmatch(r"(.+)\[(\w+)\]|(.{11}|[0-9]+)_([0-9]+)", name):
        return found[1] or found[3], found[2] or found[4]
    if len(name) != YOUTUBE and re.fullmatch(r".+_[0-9]+", name):
        form = re.sub("[0-9]+", "0", name)
        note(
            f"'{name}' does not tell its video ({form}), so it is taken for a video of its own: make sure that no "
            "video is in two splits, or write ids as video$_$clip."
        )
    return name, None


def check_sentiment(value: float, where: str) -> float:
    """The label.

    Raises:
        DataError: outside [-3, 3], or not a number.
    """
    if not (math.isfinite(value) and abs(value) <= 3):
        raise DataError(f"{where}: sentiment is {value:g}, expected -3 to 3; check that these are the labels.")
    return value


def finite(values: np.ndarray, notes: list[str], stream: str) -> np.ndarray:
    """The values as float32, NaN and infinity replaced by 0 and counted in a note."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and is counted
        values = np.asarray(values, dtype=np.float32)
    if count := int(np.count_nonzero(~np.isfinite(values))):
        notes.append(f"{stream}: {count} values of {values.size} are not finite, replaced by 0")
        values = np.where(np.isfinite(values), values, np.float32(0))
    return values


def read_folds(path: Path) -> dict[str, str]:
    """Video -> train, valid or test, from a list of folds.

    Args:
        path: JSON, {"train": [videos or segments], "valid": [...], "test": [...]}; or a Python file of the CMU SDK such
            as `cmu_mosei_std_folds.py`, whose lists `standard_train_fold`, ... are read without running it.

    Raises:
        DataError: neither of them, or a video in two folds.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = _python_lists(text) if path.suffix == ".py" else parse_json(text)
        folds = {split: list[str](found[split]) for split in PARTS}
        if odd := [
            video for listed in folds.values() for video in listed if not isinstance(video, str) or len(video) < 2
        ]:
            raise TypeError(f"{odd[0]!r} is not the name of a video")
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(
            f"'{path}' holds no folds ({type(error).__name__}: {str(error)[:80]}), expected JSON "
            '{"train": [videos], "valid": [...], "test": [...]} or the SDK\'s standard folds (.py); give such a file.'
        ) from None
    videos = {split: {video_and_clip(name)[0] for name in listed} for split, listed in folds.items()}
    check_apart(videos, f"'{path}'", "correct it")
    return {video: split for split, named in videos.items() for video in named}


def _python_lists(text: str) -> dict[str, list[str]]:
    """The SDK's folds in the text of a Python file: plain lists of strings."""
    lists = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            lists[target.id.removeprefix("standard_").removesuffix("_fold")] = node.value
    return {split: ast.literal_eval(lists[split]) for split in PARTS}


def make_folds(videos: Iterable[str]) -> dict[str, str]:
    """Video -> train, valid or test: always the same for the same videos, but not the standard folds."""
    order = sorted(videos, key=lambda video: hashlib.sha256(video.encode()).hexdigest())
    valid, test = max(1, round(0.1 * len(order))), max(1, round(0.2 * len(order)))
    splits = ["valid"] * valid + ["test"] * test + ["train"] * len(order)
    return dict(zip(order, splits, strict=False))
