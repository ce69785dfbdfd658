"""RAVDESS as it is downloaded: clips and landmark tables of 24 actors (Zenodo records 1188976 and 3255102)."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msafusion.data.media import Extractor, Frames, Mfcc
from msafusion.data.preparation.raw import RawItem, RawReader, Verification
from msafusion.failures import DataError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The third field of a name, from 01."""
MODALITIES = {("audio", "video"): ("01",), ("audio",): ("03", "01"), ("video",): ("02", "01")}
"""Streams -> the first field of the names that hold them, the fitting distribution first."""
SUFFIXES = {"01": ".mp4", "02": ".mp4", "03": ".wav"}
NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d-\d\d-\d\d-\d\d-\d\d)")
CLIPS = frozenset(
    f"{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}-{actor:02}"
    for actor, emotion, intensity, statement, repetition in product(range(1, 25), range(1, 9), *[(1, 2)] * 3)
    if (emotion, intensity) != (1, 2)  # nobody is strongly neutral
)
"""The last five fields (emotion, intensity, statement, repetition, actor) of all 1440 spoken clips."""


class RavdessFiles(RawReader):
    """The clips as Zenodo has them: `Actor_01/01-01-01-01-01-01-01.mp4`, in any folders beneath the source.

    Names are seven fields: modality (01 pictures and sound, 02 pictures, 03 sound), channel (01 speech, 02 song),
    emotion, intensity, statement, repetition, actor. Only speech is read; its identifier is the name.

    Args:
        source: the folder.
        streams: "video" and "audio" are read from the `01-` clips; a single one from its own distribution (`02-*.mp4`,
            `03-*.wav`) where there is one, else from `01-`. No clip is taken twice.
        landmarks: folder of FacialTracking tables named like the clips (Zenodo record 3255102); None: the tables
            beneath the source or in a folder FacialTracking* beside it. Clips without one are searched by a detector.
        num_frames, size: of the video (frames, pixels).
        reference: what the published weights expect: frames squeezed before the face is cropped, BGR.

    Raises:
        ValueError: streams that RAVDESS does not have.
        DataError: the folder does not exist.
    """

    dataset = "ravdess"

    def __init__(
        self,
        source: Path,
        streams: Sequence[Literal["video", "audio"]] = ("video", "audio"),
        landmarks: Path | None = None,
        num_frames: int = 30,
        size: int = 224,
        reference: bool = False,
    ) -> None:
        self.source, self.classes = Path(source), EMOTIONS
        if (wanted := tuple(sorted(streams))) not in MODALITIES:
            raise ValueError(f"streams are {list(streams)}, expected video, audio or both; choose among these.")
        for folder in (self.source, *([] if landmarks is None else [Path(landmarks)])):
            if not folder.is_dir():
                raise DataError(f"no folder '{folder}', expected one with Actor_01 to Actor_24; check the path.")
        order = "bgr" if reference else "rgb"
        extraction: dict[str, Extractor] = {
            "video": Frames(num_frames=num_frames, size=size, order=order, squeeze_first=reference),
            "audio": Mfcc(),
        }
        self.extraction = {name: extractor for name, extractor in extraction.items() if name in wanted}
        self.modalities = MODALITIES[wanted]
        self.landmarks = None if landmarks is None else Path(landmarks)

    def items(self) -> list[RawItem]:
        """The spoken clips; see `RawReader.items`."""
        files = self._clips()
        if not files:
            first = self.modalities[0]
            raise DataError(
                f"no clip of RAVDESS in '{self.source}', expected Actor_01/{first}-01-01-01-01-01-01{SUFFIXES[first]} "
                "and so on; give the folder of Actor_01 to Actor_24."
            )
        tables = self._landmark_tables() if "video" in self.extraction else {}
        return [
            RawItem(
                id=file.stem,
                label=int(clip[:2]) - 1,
                group=str(int(clip[-2:])),
                files=dict.fromkeys(self.extraction, file),
                companions={"video": tables[clip]} if clip in tables else {},
            )
            for clip, file in sorted(files.items(), key=lambda found: found[1].stem)
        ]

    def missing(self) -> list[str]:
        """The spoken clips of 1440 that are not there, by the names that most of the others have."""
        files = self._clips()
        counts = Counter(file.stem[:2] for file in files.values())
        modality = counts.most_common(1)[0][0] if counts else self.modalities[0]
        return [
            f"no Actor_{clip[-2:]}/{modality}-01-{clip}{SUFFIXES[modality]}"
            for clip in sorted(CLIPS - files.keys(), key=lambda clip: (clip[-2:], clip))
        ]

    def skipped(self) -> list[str]:
        """Songs."""
        return [f"'{file}' is a song, only speech is read" for file in self._media() if _fields(file)[1] == "02"]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """As `RawReader.verify`; files whose name is none of RAVDESS's count as broken."""
        strange = [
            f"'{file}' is not named as the clips of RAVDESS are (01-01-01-01-01-01-01.mp4); rename or remove it"
            for file in self._media()
            if not _is_clip(file)
        ]
        found = super().verify(progress)
        return replace(found, broken=[*strange, *found.broken])

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """As `RawReader.read`; notes also that the face was found by the detector."""
        arrays, notes = super().read(item)
        if "video" in self.extraction and "video" not in item.companions:
            notes.append("video: no landmarks, the face was found by the detector")
        return arrays, notes

    def _media(self) -> list[Path]:
        """Files that may be clips; hidden ones (macOS writes `._` twins into archives) are none."""
        files = (file for suffix in (".mp4", ".wav") for file in self.source.rglob(f"*{suffix}"))
        return sorted(file for file in files if not file.name.startswith("."))

    def _clips(self) -> dict[str, Path]:
        """Last five fields -> file, of the best modality that is there."""
        found: dict[str, Path] = {}
        for modality in self.modalities:
            names: dict[str, Path] = {}
            for file in self._media():
                kind, channel, clip = _fields(file)
                if (kind, channel) != (modality, "01") or not _is_clip(file):
                    continue
                if clip in names:
                    raise DataError(f"'{file}' is also '{names[clip]}', expected each clip once; remove one of them.")
                names[clip] = file
            found = names | found
        return found

    def _landmark_tables(self) -> dict[str, Path]:
        """Last five fields -> table."""
        beside = sorted(self.source.absolute().parent.glob("FacialTracking*"))
        folders = [self.source, *beside] if self.landmarks is None else [self.landmarks]
        tables = (table for folder in folders for table in sorted(folder.rglob("[0-9]*.csv")))
        return {clip: table for table in tables if (clip := _fields(table)[2]) in CLIPS and _fields(table)[1] == "01"}


def _fields(file: Path) -> tuple[Any, ...]:
    """Modality, channel, and the last five fields of a name; empty ones where it is none of RAVDESS's."""
    match = NAME.fullmatch(file.stem)
    return match.groups() if match else ("", "", "")


def _is_clip(file: Path) -> bool:
    modality, channel, clip = _fields(file)
    return SUFFIXES.get(modality) == file.suffix and (clip in CLIPS if channel == "01" else channel == "02")
