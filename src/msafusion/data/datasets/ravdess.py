"""RAVDESS: 24 actors speak two sentences in eight emotions (Zenodo record 1188976, CC BY-NC-SA 4.0)."""

import re
from pathlib import Path
from typing import Literal

from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import DataSource, Splits
from msafusion.failures import DataError

CONSECUTIVE = tuple(tuple(range(first, first + 4)) for first in range(1, 25, 4))
"""Test actors of the 6 folds of arXiv 2012.07175, sec. 4.1."""
LUNA_JIMENEZ = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Test actors of the 5 folds of Luna-Jimenez et al. 2021 (doi 10.3390/s21227665)."""
FOLDS = {"consecutive": CONSECUTIVE, "luna_jimenez": LUNA_JIMENEZ}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class RAVDESS(DataSource):
    """Emotion of 1440 spoken clips: `video` (3, 30, 224, 224) uint8 RGB faces, `audio` (13, 212) MFCCs, or one of both.

    Protocol: the actors of one fold are tested; two actors of the following fold choose the model; the rest trains.

    Args:
        root: the prepared folder; its groups are the numbers of the actors.
        fold: from 1.
        folds: "consecutive" (6 folds of four actors, the paper's) or "luna_jimenez" (5 folds).
        num_valid_actors: actors that choose the model, taken from the next fold.
        protocol: "held_out", or "published": the epoch is chosen on the test fold, as the published code does, and the
            results say so.
        size: height and width of the frames that the network sees (pixels).

    Raises:
        ValueError: a fold that does not exist, or too many validation actors.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import RAVDESS
        >>> data = RAVDESS(Path("prepared/ravdess"), fold=2)
        >>> sorted(data.test_actors), sorted(data.valid_actors)
        ([5, 6, 7, 8], [9, 10])
    """

    def __init__(
        self,
        root: Path,
        fold: int = 1,
        folds: Literal["consecutive", "luna_jimenez"] = "consecutive",
        num_valid_actors: int = 2,
        protocol: Literal["held_out", "published"] = "held_out",
        size: int = 224,
    ) -> None:
        known = FOLDS[folds]
        if not 1 <= fold <= len(known):
            raise ValueError(f"fold is {fold}, expected 1 to {len(known)} of the {folds} folds; choose one of them.")
        following = known[fold % len(known)]
        if not 1 <= num_valid_actors <= len(following):
            raise ValueError(
                f"num_valid_actors is {num_valid_actors}, expected 1 to {len(following)} (the size of the next fold)."
            )
        self.root, self.protocol, self.size = root, protocol, size
        self.test_actors, self.valid_actors = set(known[fold - 1]), set(following[:num_valid_actors])

    def splits(self) -> Splits:
        """Samples by actor."""
        folder = PreparedFolder(self.root, "ravdess", classification=True)
        if not set(folder.channels) & {"video", "audio"}:
            raise DataError(
                f"'{self.root}' has the streams {', '.join(folder.channels)}, expected video, audio or both; prepare "
                "it again."
            )
        videos = ("video",) if "video" in folder.channels else ()
        folder = PreparedFolder(self.root, "ravdess", videos=videos, classification=True)
        folder.check_files()
        published = self.protocol == "published"
        parts: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
        for row in folder.rows:
            if not re.fullmatch("[0-9]{1,2}", row["group"]) or not 1 <= int(row["group"]) <= 24:
                raise DataError(
                    f"sample '{row['id']}' is of actor '{row['group']}', expected 1 to 24; prepare it again."
                )
            actor = int(row["group"])
            held = "valid" if actor in self.valid_actors and not published else "train"
            parts["test" if actor in self.test_actors else held].append(row)
        if published:
            parts["valid"] = parts["test"]
        mean, std = IMAGENET
        return Splits(
            *(folder.samples(parts[name]) for name in ("train", "valid", "test")),
            classes=folder.classes,
            channels=folder.channels,
            extraction=folder.extraction,
            preprocessing=Clips(
                folder.channels,
                dict.fromkeys(videos, mean),
                dict.fromkeys(videos, std),
                size=self.size,
                crop_area=[0.8, 1.4],
                flip=True,
            ),
            chosen_on_test=published,
        )
