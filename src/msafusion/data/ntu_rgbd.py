"""NTU RGB+D 60: 60 actions by 40 performers, seen by three cameras (Shahroudy et al. 2016, arXiv 1604.02808)."""

import re
from pathlib import Path
from typing import Literal

from msafusion.data.prepared import PreparedFolder
from msafusion.preprocessing import Clips, DataError
from msafusion.samples import DataSource, Splits

TRAIN_PERFORMERS = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
"""Cross-subject protocol: these train, the others test."""
VALID_PERFORMERS = frozenset({2, 5, 9, 14})
"""Of the training performers; the published code validates on 3, 6, 7 and 10, which are test performers."""
TEST_CAMERA = 1
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
NAME = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})")


class NTURGBD(DataSource):
    """Actions: `rgb` (3, frames, 256, 256) uint8 and `skeleton` (3, 32, 25, 2), metres from the first body's middle.

    Samples are named as their files, SsssCcccPpppRrrrAaaa. Frames are cut to 224 x 224, at random in training.

    Args:
        root: the prepared folder.
        protocol: "cross_subject" (performers held out) or "cross_view" (camera 1 tests; the validation performers'
            clips of the other cameras choose the model).
        size: height and width of the crop that the network sees (pixels).
    """

    def __init__(
        self, root: Path, protocol: Literal["cross_subject", "cross_view"] = "cross_subject", size: int = 224
    ) -> None:
        self.root, self.protocol, self.size = root, protocol, size

    def splits(self) -> Splits:
        """Samples by performer or camera."""
        folder = PreparedFolder(self.root, "ntu_rgbd", videos=("rgb",), classification=True)
        folder.check_files()
        parts: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
        for row in folder.rows:
            match = NAME.fullmatch(row["id"])
            if match is None:
                raise DataError(f"sample '{row['id']}' is not named SsssCcccPpppRrrrAaaa; prepare the data set again.")
            performer, camera = int(match["performer"]), int(match["camera"])
            # cameras are held out in one protocol, performers in the other: that is what no two splits may share
            group = f"performer {performer}" + (f", camera {camera}" if self.protocol == "cross_view" else "")
            parts[self._part(performer, camera)].append({**row, "group": group})
        mean, std = IMAGENET
        return Splits(
            *(folder.samples(parts[name]) for name in ("train", "valid", "test")),
            classes=folder.classes,
            channels=folder.channels,
            preprocessing=Clips(folder.channels, {"rgb": mean}, {"rgb": std}, size=self.size),
        )

    def _part(self, performer: int, camera: int) -> str:
        if self.protocol == "cross_view" and camera == TEST_CAMERA:
            return "test"
        if self.protocol == "cross_subject" and performer not in TRAIN_PERFORMERS:
            return "test"
        return "valid" if performer in VALID_PERFORMERS else "train"
