"""UTD-MHAD: 27 actions by 8 subjects, Kinect and wearable sensor (Chen et al. 2015, 10.1109/ICIP.2015.7350781)."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from msafusion.data.dataset import Dataset
from msafusion.data.download import Source
from msafusion.data.media import Extractor, Frames, UtdDepth, UtdInertial, UtdSkeleton
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preprocessing import Augmentation
from msafusion.failures import DataError
from msafusion.streams import nearest

CLASSES = (
    "right arm swipe to the left",
    "right arm swipe to the right",
    "right hand wave",
    "two hand front clap",
    "right arm throw",
    "cross arms in the chest",
    "basketball shoot",
    "right hand draw x",
    "right hand draw circle (clockwise)",
    "right hand draw circle (counter clockwise)",
    "draw triangle",
    "bowling (right hand)",
    "front boxing",
    "baseball swing from right",
    "tennis right hand forehand swing",
    "arm curl (two arms)",
    "tennis serve",
    "two hand push",
    "right hand knock on door",
    "right hand catch an object",
    "right hand pick up and throw",
    "jogging in place",
    "walking in place",
    "sit to stand",
    "stand to sit",
    "forward lunge (left foot forward)",
    "squat (two arms stretch out)",
)
"""Actions 1 to 27, by the data set's page."""
SUBJECTS, TRIALS = range(1, 9), range(1, 5)
NEVER_RECORDED = frozenset({"a8_s1_t4", "a23_s6_t4", "a27_s8_t4"})
"""The published 861 sequences are 27 x 8 x 4 without these."""
TRAIN_SUBJECTS, TEST_SUBJECTS = frozenset({1, 3, 5, 7}), frozenset({2, 4, 6, 8})
FOLDERS = {"skeleton": "Skeleton", "inertial": "Inertial", "depth": "Depth", "rgb": "RGB"}
ENDINGS = {"skeleton": "skeleton.mat", "inertial": "inertial.mat", "depth": "depth.mat", "rgb": "color.avi"}
NAME = re.compile(r"a([1-9]|1\d|2[0-7])_s([1-8])_t([1-4])")


class UTDMHAD(Dataset):
    """Actions: `skeleton` (time, 60) and `inertial` (time, 6), both with lengths; also `depth` and `rgb`.

    Raw files are those of the archives, `Skeleton/a1_s1_t1_skeleton.mat`, `Inertial/a1_s1_t1_inertial.mat`, and so on.
    A folder may also be nested in one of the same name (`Skeleton/Skeleton/`). Samples have all the streams asked for.

    Protocol: the even subjects are tested, the odd ones train, of whom `valid_subjects` choose the model.

    Args:
        root: the folder that holds Skeleton, Inertial, Depth, RGB (those of the streams asked for), or a prepared
            folder; groups are the numbers of the subjects.
        streams: those to use: some of skeleton, inertial, depth and rgb.
        valid_subjects: some, not all, of 1, 3, 5 and 7.
        num_steps: raw skeletons and inertial signals are resampled to this many steps; none: as recorded, or as a
            prepared folder has them.
        augmentation: random changes in training, such as `{noise: 0.1}`; none: no change.
        origin: of the skeleton's positions, see `UtdSkeleton`.
        num_frames, frame_size: of depth and rgb (frames, pixels).

    Raises:
        ValueError: an unknown stream, or other validation subjects.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import UTDMHAD
        >>> data = UTDMHAD(Path("data/utd_mhad"), streams=["inertial"], valid_subjects=[3, 7])
        >>> data.streams, sorted(data.valid_subjects)
        (('inertial',), [3, 7])
    """

    url = "https://personal.utdallas.edu/~kehtar/UTD-MHAD.html"
    license = (
        "No license text is published with it; its paper calls it freely available. Cite it, and ask its authors about "
        "anything but research."
    )
    citation = (
        "Chen C, Jafari R, Kehtarnavaz N (2015). UTD-MHAD: A multimodal dataset for human action recognition utilizing "
        "a depth camera and a wearable inertial sensor. IEEE International Conference on Image Processing."
    )
    remote = Source(
        parts={
            name.lower(): f"https://personal.utdallas.edu/~kehtar/UTD-MAD/{name}.zip"
            for name in ("Skeleton", "Inertial", "Depth", "RGB", "Sample_Code")
        },
        usual=("skeleton", "inertial"),
    )
    classes = CLASSES
    reading: ClassVar = ("streams", "num_steps", "origin", "num_frames", "frame_size")

    def __init__(
        self,
        root: Path,
        streams: Sequence[str] = ("skeleton", "inertial"),
        valid_subjects: Sequence[int] = (7,),
        num_steps: int | None = None,
        augmentation: Augmentation | None = None,
        origin: Literal["frame", "clip", "none"] = "clip",
        num_frames: int = 16,
        frame_size: int = 112,
    ) -> None:
        if unknown := [stream for stream in streams if stream not in FOLDERS]:
            raise ValueError(f"unknown stream {unknown[0]!r} of UTD-MHAD; {nearest(unknown[0], FOLDERS)}")
        if not streams:
            raise ValueError(f"no stream of UTD-MHAD is asked for, expected some of {', '.join(FOLDERS)}; name them.")
        if not 0 < len(set(valid_subjects) & TRAIN_SUBJECTS) == len(set(valid_subjects)) < len(TRAIN_SUBJECTS):
            raise ValueError(
                f"valid_subjects is {list(valid_subjects)}, expected some, not all, of {sorted(TRAIN_SUBJECTS)} (the "
                "others are tested); choose among them."
            )
        self.root, self.streams, self.num_steps = Path(root), tuple(streams), num_steps
        self.origin: Literal["frame", "clip", "none"] = origin
        self.valid_subjects, self.augmentation = frozenset(valid_subjects), augmentation
        self.num_frames, self.frame_size = num_frames, frame_size

    @cached_property
    def extraction(self) -> Mapping[str, Extractor]:
        """Of the streams asked for."""
        known: Mapping[str, Extractor] = {
            "skeleton": UtdSkeleton(self.origin, self.num_steps),
            "inertial": UtdInertial(self.num_steps),
            "depth": UtdDepth(self.num_frames, self.frame_size),
            "rgb": Frames(self.num_frames, size=self.frame_size, face="none", fit="squeeze"),
        }
        return {stream: known[stream] for stream in self.streams}

    def items(self) -> list[RawItem]:
        """Samples with all streams, by name."""
        files = self._files()
        names = sorted(name for name in files if len(files[name]) == len(self.streams) and NAME.fullmatch(name))
        if not names:
            folders = " and ".join(FOLDERS[stream] for stream in self.streams)
            raise DataError(
                f"no sample of UTD-MHAD with {', '.join(self.streams)} in '{self.root}', expected the folders "
                f"{folders} with files such as {_example(next(iter(self.streams)))}; give their folder."
            )
        return [
            RawItem(name, int(match[1]) - 1, match[2], files[name]) for name in names if (match := NAME.fullmatch(name))
        ]

    def missing(self) -> list[str]:
        """Of the 861 published sequences, the files that are not there."""
        files = self._files()
        published = [
            name
            for action in range(1, len(self.classes) + 1)
            for subject in SUBJECTS
            for trial in TRIALS
            if (name := f"a{action}_s{subject}_t{trial}") not in NEVER_RECORDED
        ]
        return [
            f"no {FOLDERS[stream]}/{name}_{ENDINGS[stream]}"
            for name in published
            for stream in self.streams
            if stream not in files.get(name, {})
        ]

    def skipped(self) -> list[str]:
        """Files whose names are none of the 27 actions, 8 subjects and 4 trials."""
        return [
            f"{file} is not named as one of {len(self.classes)} actions, 8 subjects and 4 trials ({_example(stream)})"
            for name, streams in sorted(self._files().items())
            if not NAME.fullmatch(name)
            for stream, file in streams.items()
        ]

    def _files(self) -> dict[str, dict[str, Path]]:
        """Name of a sample, as the file has it -> stream -> file."""
        files: dict[str, dict[str, Path]] = {}
        for stream in self.streams:
            outer, ending = self.root / FOLDERS[stream], f"_{ENDINGS[stream]}"
            for folder in (outer, outer / FOLDERS[stream]):
                for file in sorted(folder.glob(f"*{ending}")):
                    files.setdefault(file.name.removesuffix(ending), {}).setdefault(stream, file)
        return files

    def part(self, row: Mapping[str, str]) -> str:
        """By subject."""
        subject = int(row["group"]) if re.fullmatch("[0-9]{1,2}", row["group"]) else 0
        if subject not in SUBJECTS:
            raise DataError(
                f"sample '{row['id']}' is of subject '{row['group']}', expected 1 to 8; prepare the data set again."
            )
        if subject in TEST_SUBJECTS:
            return "test"
        return "valid" if subject in self.valid_subjects else "train"


def _example(stream: str) -> str:
    return f"{FOLDERS[stream]}/a1_s1_t1_{ENDINGS[stream]}"
