"""NTU RGB+D 60: 60 actions by 40 performers, seen by three cameras (Shahroudy et al. 2016, arXiv 1604.02808)."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from msafusion.data.dataset import Dataset, Rows
from msafusion.data.media import Extractor, Frames, NtuSkeleton
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preprocessing.clips import IMAGENET, Clips
from msafusion.data.samples import Sample
from msafusion.failures import DataError
from msafusion.reproduce.frames import NtuReferenceFrames

TRAIN_PERFORMERS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
"""Cross-subject protocol: these train, the others test."""
VALID_PERFORMERS = frozenset({2, 5, 9, 14})
"""Of the training performers; the published code validates on 3, 6, 7 and 10, which are test performers."""
TEST_CAMERA = 1
CLASSES = (
    "drink water",
    "eat meal",
    "brush teeth",
    "brush hair",
    "drop",
    "pick up",
    "throw",
    "sit down",
    "stand up",
    "clapping",
    "reading",
    "writing",
    "tear up paper",
    "put on jacket",
    "take off jacket",
    "put on a shoe",
    "take off a shoe",
    "put on glasses",
    "take off glasses",
    "put on a hat",
    "take off a hat",
    "cheer up",
    "hand waving",
    "kicking something",
    "reach into pocket",
    "hopping",
    "jump up",
    "phone call",
    "play with phone",
    "type on a keyboard",
    "point to something",
    "taking a selfie",
    "check time",
    "rub two hands",
    "nod head",
    "shake head",
    "wipe face",
    "salute",
    "put palms together",
    "cross hands in front",
    "sneeze or cough",
    "staggering",
    "falling down",
    "headache",
    "chest pain",
    "back pain",
    "neck pain",
    "nausea",
    "fan self",
    "punch or slap",
    "kicking another person",
    "pushing another person",
    "pat on back",
    "point finger at another person",
    "hugging",
    "giving object",
    "touch pocket of another person",
    "shaking hands",
    "walking towards each other",
    "walking apart from each other",
)
"""Actions A001 to A060, by the data set's page; from A050 on between two persons."""
FOLDERS = {"rgb": ("nturgbd_rgb", "nturgb+d_rgb"), "skeleton": ("nturgbd_skeletons", "nturgb+d_skeletons")}
"""As the official archives or the reference's instructions name them."""
ENDINGS = {"rgb": "_rgb.avi", "skeleton": ".skeleton"}
NAME = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})")


class NTURGBD(Dataset):
    """Actions: `rgb` (3, frames, 256, 256) uint8 and `skeleton` (3, 32, 25, 2), metres from the first body's middle.

    Raw files are those of the archives, `nturgbd_rgb/*_rgb.avi` and `nturgbd_skeletons/*.skeleton` (the folders may
    also be called nturgb+d_rgb and nturgb+d_skeletons), named SsssCcccPpppRrrrAaaa, as samples are. Frames are cut to
    224 x 224, at random in training.

    Args:
        root: the folder that holds both folders, or a prepared folder.
        protocol: "cross_subject" (performers held out) or "cross_view" (camera 1 tests; the validation performers'
            clips of the other cameras choose the model).
        size: height and width of the crop that the network sees (pixels).
        num_frames: evenly spaced over the clip.
        frame_size: height and width of the frames, to which they are squeezed (pixels).
        bad_skeletons: the official list of the 302 samples without usable skeletons, which are then left out; without
            it those whose skeleton has no body are reported when they are read.
        reference: frames and skeletons as the published weights expect them (`NtuReferenceFrames`, `NtuSkeleton`).

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import NTURGBD
        >>> data = NTURGBD(Path("data/ntu_rgbd"), protocol="cross_view", num_frames=8)
        >>> data.protocol, data.channels()
        ('cross_view', {'rgb': 3, 'skeleton': 3})
    """

    url = "https://arxiv.org/abs/1604.02808"
    license = "Its publisher gives it to those who register."
    citation = "Shahroudy et al. (2016), arXiv 1604.02808."
    classes = CLASSES
    streams = ("rgb", "skeleton")
    reading: ClassVar = ("num_frames", "frame_size", "bad_skeletons", "reference")

    def __init__(
        self,
        root: Path,
        protocol: Literal["cross_subject", "cross_view"] = "cross_subject",
        size: int = 224,
        num_frames: int = 32,
        frame_size: int = 256,
        bad_skeletons: Path | None = None,
        reference: bool = False,
    ) -> None:
        self.root, self.protocol, self.size = Path(root), protocol, size
        self.num_frames, self.frame_size, self.reference = num_frames, frame_size, reference
        self.bad_skeletons = None if bad_skeletons is None else Path(bad_skeletons)

    @cached_property
    def extraction(self) -> Mapping[str, Extractor]:
        """Frames and skeletons."""
        frames = Frames(self.num_frames, size=self.frame_size, face="none", fit="squeeze")
        return {
            "rgb": NtuReferenceFrames(self.num_frames, self.frame_size) if self.reference else frames,
            "skeleton": NtuSkeleton(reference=self.reference),
        }

    def items(self) -> list[RawItem]:
        """Samples that have both files, by name, without the bad ones."""
        files = self._files()
        items = [
            RawItem(name, int(match["action"]) - 1, str(int(match["performer"])), files[name])
            for name in sorted(files)
            if (match := NAME.fullmatch(name)) and len(files[name]) == len(ENDINGS) and not self._reason(name)
        ]
        if not items:
            raise DataError(
                f"no sample of NTU RGB+D with video and skeleton in '{self.root}', expected nturgbd_rgb/*_rgb.avi "
                "and nturgbd_skeletons/*.skeleton with names such as S001C001P001R001A001; give their folder."
            )
        return items

    def missing(self) -> list[str]:
        """Files without their partner; whole samples are not missed, as people download parts of the set."""
        return [
            f"no {FOLDERS[stream][0]}/{name}{ENDINGS[stream]}, expected beside '{next(iter(found.values()))}'"
            for name, found in sorted(self._files().items())
            for stream in ENDINGS
            if stream not in found and not self._reason(name)
        ]

    def skipped(self) -> list[str]:
        """Bad skeletons, actions beyond 60 and files of other names."""
        return [f"{name}: {reason}" for name in sorted(self._files()) if (reason := self._reason(name))]

    def parts(self, folder: PreparedFolder) -> Mapping[str, Rows]:
        """By performer or camera."""
        parts: dict[str, list[Mapping[str, str]]] = {"train": [], "valid": [], "test": []}
        for row in folder.rows:
            match = NAME.fullmatch(row["id"])
            if match is None:
                raise DataError(f"sample '{row['id']}' is not named SsssCcccPpppRrrrAaaa; prepare the data set again.")
            performer, camera = int(match["performer"]), int(match["camera"])
            # cameras are held out in one protocol, performers in the other: that is what no two splits may share
            by_view = self.protocol == "cross_view"
            tested = camera == TEST_CAMERA if by_view else performer not in TRAIN_PERFORMERS
            group = f"performer {performer}" + (f", camera {camera}" if by_view else "")
            held = "valid" if performer in VALID_PERFORMERS else "train"
            parts["test" if tested else held].append({**row, "group": group})
        return parts

    def preprocessing(self, folder: PreparedFolder, train: Sequence[Sample]) -> Clips:
        """Frames by ImageNet's statistics, cropped."""
        mean, std = IMAGENET
        return Clips(folder.channels, {"rgb": mean}, {"rgb": std}, size=self.size)

    @cached_property
    def _bad(self) -> frozenset[str]:
        return frozenset() if self.bad_skeletons is None else _read_list(self.bad_skeletons)

    def _reason(self, name: str) -> str:
        """Why a sample is left out; empty: it is not."""
        match = NAME.fullmatch(name)
        if match is None:
            return "not named SsssCcccPpppRrrrAaaa"
        if not 1 <= int(match["action"]) <= len(self.classes):
            return f"action {int(match['action'])} is none of the {len(self.classes)} of NTU RGB+D 60"
        return "on the list of bad skeletons" if name in self._bad else ""

    def _files(self) -> dict[str, dict[str, Path]]:
        """Name of a sample -> stream -> file."""
        files: dict[str, dict[str, Path]] = {}
        for stream, folders in FOLDERS.items():
            for folder in folders:
                for file in sorted((self.root / folder).glob(f"*{ENDINGS[stream]}")):
                    files.setdefault(file.name.removesuffix(ENDINGS[stream]), {}).setdefault(stream, file)
        return files


def _read_list(file: Path) -> frozenset[str]:
    """The names of samples in a text."""
    try:
        names = frozenset(match[0] for match in NAME.finditer(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{file}' cannot be read ({error}), expected a list of bad skeletons; give its path."
        ) from None
    if not names:
        raise DataError(
            f"'{file}' names no sample SsssCcccPpppRrrrAaaa, expected a list of bad skeletons; give another."
        )
    return names
