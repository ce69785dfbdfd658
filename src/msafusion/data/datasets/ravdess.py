"""RAVDESS: 24 actors speak two sentences in eight emotions (Zenodo records 1188976 and 3255102)."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from msafusion.data.dataset import Dataset, Rows
from msafusion.data.download import ZenodoSource
from msafusion.data.media import Extractor, Frames, Mfcc
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.raw import RawItem, Verification
from msafusion.data.preprocessing.clips import IMAGENET, Clips
from msafusion.data.samples import Sample
from msafusion.failures import DataError

CONSECUTIVE = tuple(tuple(range(first, first + 4)) for first in range(1, 25, 4))
"""Test actors of the 6 folds of arXiv 2012.07175, sec. 4.1."""
LUNA_JIMENEZ = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Test actors of the 5 folds of Luna-Jimenez et al. 2021 (doi 10.3390/s21227665)."""
FOLDS = {"consecutive": CONSECUTIVE, "luna_jimenez": LUNA_JIMENEZ}
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


class RAVDESS(Dataset):
    """Emotion of 1440 spoken clips: `video` (3, 30, 224, 224) uint8 RGB faces, `audio` (13, 212) MFCCs, or one of both.

    Raw files are the clips as Zenodo has them, `Actor_01/01-01-01-01-01-01-01.mp4`, in any folders beneath the root.
    Names are seven fields: modality (01 pictures and sound, 02 pictures, 03 sound), channel (01 speech, 02 song),
    emotion, intensity, statement, repetition, actor. Only speech is read; its identifier is the name.

    Protocol: the actors of one fold are tested; two actors of the following fold choose the model; the rest trains.

    Args:
        root: the folder of the clips, or a prepared folder; groups are the numbers of the actors.
        fold: from 1.
        folds: "consecutive" (6 folds of four actors, the paper's) or "luna_jimenez" (5 folds).
        num_valid_actors: actors that choose the model, taken from the next fold.
        protocol: "held_out", or "published": the epoch is chosen on the test fold, as the published code does, and the
            results say so.
        size: height and width of the frames that the network sees (pixels).
        streams: none: both, or those of the prepared folder. Video and audio are read from the `01-` clips; a
            stream used alone from its own distribution (`02-*.mp4`, `03-*.wav`) where there is one, else from `01-`. No
            clip is taken twice.
        landmarks: folder of FacialTracking tables named like the clips (Zenodo record 3255102); none: the tables
            beneath the root or in a folder FacialTracking* beside it. Clips without one are searched by a detector.
        num_frames, frame_size: of the video as it is prepared (frames, pixels).
        reference: what the published weights expect: frames squeezed before the face is cropped, BGR.

    Raises:
        ValueError: a fold that does not exist, too many validation actors, or streams that RAVDESS does not have.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import RAVDESS
        >>> data = RAVDESS(Path("data/ravdess"), fold=2)
        >>> sorted(data.test_actors), sorted(data.valid_actors)
        ([5, 6, 7, 8], [9, 10])
    """

    url = "https://zenodo.org/records/1188976 and https://zenodo.org/records/3255102"
    license = (
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (CC BY-NC-SA 4.0), "
        "https://creativecommons.org/licenses/by-nc-sa/4.0/; for commercial use its authors sell licences."
    )
    citation = (
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS). "
        "PLoS ONE 13(5): e0196391, doi 10.1371/journal.pone.0196391; landmarks: Swanson, Livingstone, Russo (2019), "
        "doi 10.5281/zenodo.3255102."
    )
    remote = ZenodoSource(
        parts={f"video_{actor:02d}": f"1188976/Video_Speech_Actor_{actor:02d}.zip" for actor in range(1, 25)}
        | {"audio": "1188976/Audio_Speech_Actors_01-24.zip", "landmarks": "3255102/FacialTracking_Actors_01-24.zip"},
        usual=("video_*", "landmarks"),
        folders={"landmarks": "landmarks"},
    )
    classes = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    reading: ClassVar = ("streams", "landmarks", "num_frames", "frame_size", "reference")

    def __init__(
        self,
        root: Path,
        fold: int = 1,
        folds: Literal["consecutive", "luna_jimenez"] = "consecutive",
        num_valid_actors: int = 2,
        protocol: Literal["held_out", "published"] = "held_out",
        size: int = 224,
        streams: Sequence[Literal["video", "audio"]] = (),
        landmarks: Path | None = None,
        num_frames: int = 30,
        frame_size: int = 224,
        reference: bool = False,
    ) -> None:
        known = FOLDS[folds]
        if not 1 <= fold <= len(known):
            raise ValueError(f"fold is {fold}, expected 1 to {len(known)} of the {folds} folds; choose one of them.")
        following = known[fold % len(known)]
        if not 1 <= num_valid_actors <= len(following):
            raise ValueError(
                f"num_valid_actors is {num_valid_actors}, expected 1 to {len(following)} (the size of the next fold)."
            )
        if streams and tuple(sorted(streams)) not in MODALITIES:
            raise ValueError(f"streams are {list(streams)}, expected video, audio or both; choose among these.")
        self.root, self.size, self.streams = Path(root), size, tuple(streams)
        self.test_actors, self.valid_actors = set(known[fold - 1]), set(following[:num_valid_actors])
        self.chosen_on_test = protocol == "published"
        self.landmarks = None if landmarks is None else Path(landmarks)
        self.num_frames, self.frame_size, self.reference = num_frames, frame_size, reference

    @cached_property
    def extraction(self) -> Mapping[str, Extractor]:
        """Faces and MFCCs."""
        order = "bgr" if self.reference else "rgb"
        known: dict[str, Extractor] = {
            "video": Frames(self.num_frames, self.frame_size, order=order, squeeze_first=self.reference),
            "audio": Mfcc(),
        }
        return {stream: extractor for stream, extractor in known.items() if stream in (self.streams or known)}

    @property
    def _modalities(self) -> tuple[str, ...]:
        return MODALITIES[tuple(sorted(self.extraction))]

    def items(self) -> list[RawItem]:
        """The spoken clips, by name."""
        self._check_folders()
        files = self._clips()
        if not files:
            first = self._modalities[0]
            raise DataError(
                f"no clip of RAVDESS in '{self.root}', expected Actor_01/{first}-01-01-01-01-01-01{SUFFIXES[first]} "
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
        modality = counts.most_common(1)[0][0] if counts else self._modalities[0]
        return [
            f"no Actor_{clip[-2:]}/{modality}-01-{clip}{SUFFIXES[modality]}"
            for clip in sorted(CLIPS - files.keys(), key=lambda clip: (clip[-2:], clip))
        ]

    def skipped(self) -> list[str]:
        """Songs."""
        return [f"'{file}' is a song, only speech is read" for file in self._media() if _fields(file)[1] == "02"]

    def verify_raw(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """As of every data set; files whose name is none of RAVDESS's count as broken."""
        self._check_folders()
        strange = [
            f"'{file}' is not named as the clips of RAVDESS are (01-01-01-01-01-01-01.mp4); rename or remove it"
            for file in self._media()
            if not _is_clip(file)
        ]
        found = super().verify_raw(progress)
        return replace(found, broken=[*strange, *found.broken])

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """The arrays of one clip, and notes about them, as where the face was found by the detector."""
        arrays, notes = super().read(item)
        if "video" in self.extraction and "video" not in item.companions:
            notes.append("video: no landmarks, the face was found by the detector")
        return arrays, notes

    def part(self, row: Mapping[str, str]) -> str:
        """By actor."""
        if not re.fullmatch("[0-9]{1,2}", row["group"]) or not 1 <= (actor := int(row["group"])) <= 24:
            raise DataError(f"sample '{row['id']}' is of actor '{row['group']}', expected 1 to 24; prepare it again.")
        held = "valid" if actor in self.valid_actors and not self.chosen_on_test else "train"
        return "test" if actor in self.test_actors else held

    def parts(self, folder: PreparedFolder) -> Mapping[str, Rows]:
        """The fold; the published protocol chooses on its test actors."""
        parts = super().parts(folder)
        return {**parts, "valid": parts["test"]} if self.chosen_on_test else parts

    def preprocessing(self, folder: PreparedFolder, train: Sequence[Sample]) -> Clips:
        """Frames by ImageNet's statistics; cropped and flipped at random in training."""
        channels = {name: folder.channels[name] for name in self.streams or folder.channels}
        mean, std = (dict.fromkeys({"video"} & set(channels), values) for values in IMAGENET)
        return Clips(channels, mean, std, size=self.size, crop_area=[0.8, 1.4], flip=True)

    def _check_folders(self) -> None:
        for folder in (self.root, *([] if self.landmarks is None else [self.landmarks])):
            if not folder.is_dir():
                raise DataError(f"no folder '{folder}', expected one with Actor_01 to Actor_24; check the path.")

    def _media(self) -> list[Path]:
        """Files that may be clips; hidden ones (macOS writes `._` twins into archives) are none."""
        files = (file for suffix in (".mp4", ".wav") for file in self.root.rglob(f"*{suffix}"))
        return sorted(file for file in files if not file.name.startswith("."))

    def _clips(self) -> dict[str, Path]:
        """Last five fields -> file, of the best modality that is there."""
        found: dict[str, Path] = {}
        for modality in self._modalities:
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
        beside = sorted(self.root.absolute().parent.glob("FacialTracking*"))
        folders = [self.root, *beside] if self.landmarks is None else [self.landmarks]
        tables = (table for folder in folders for table in sorted(folder.rglob("[0-9]*.csv")))
        return {clip: table for table in tables if (clip := _fields(table)[2]) in CLIPS and _fields(table)[1] == "01"}


def _fields(file: Path) -> tuple[Any, ...]:
    """Modality, channel, and the last five fields of a name; empty ones where it is none of RAVDESS's."""
    match = NAME.fullmatch(file.stem)
    return match.groups() if match else ("", "", "")


def _is_clip(file: Path) -> bool:
    modality, channel, clip = _fields(file)
    return SUFFIXES.get(modality) == file.suffix and (clip in CLIPS if channel == "01" else channel == "02")
