"""CMU-MOSEI and CMU-MOSI: sentiment of spoken opinions (Zadeh et al. 2018, P18-1208; 2016, arXiv 1606.06259)."""

from pathlib import Path

from msafusion.data.prepared import PreparedFolder
from msafusion.preprocessing import Clips, DataError
from msafusion.samples import DataSource, Splits

LEAST_STEPS = 5
"""Utterances of fewer words get zero steps, as the fusion has 5 segments."""


class MOSEI(DataSource):
    """Sentiment in [-3, 3]: `visual` (time, 35 or 47), `audio` (time, 74), `text` (time, 768), aligned by words.

    Protocol: the standard folds, in the table's column `split` (train, valid, test), disjoint by video.

    Args:
        root: the prepared folder of CMU-MOSEI or CMU-MOSI; its groups are the videos.
        dataset: "mosei" or "mosi".

    Raises:
        ValueError: another data set.
    """

    def __init__(self, root: Path, dataset: str = "mosei") -> None:
        if dataset not in ("mosei", "mosi"):
            raise ValueError(f"dataset is {dataset!r}, expected 'mosei' or 'mosi'; set it to one of them.")
        self.root, self.dataset = root, dataset

    def splits(self) -> Splits:
        """Samples by the standard folds."""
        streams = ("visual", "audio", "text")
        folder = PreparedFolder(self.root, self.dataset, sequences=streams, least_steps=LEAST_STEPS)
        folder.check_files()
        parts: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
        for row in folder.rows:
            if row.get("split") not in parts:
                raise DataError(
                    f"sample '{row['id']}' has split '{row.get('split')}', expected train, valid or test; "
                    "prepare the data set again."
                )
            parts[row["split"]].append(row)
        channels = {name: folder.channels[name] for name in streams}
        return Splits(
            *(folder.samples(parts[name]) for name in ("train", "valid", "test")),
            classes=folder.classes,
            channels=channels,
            preprocessing=Clips(channels, least_steps=dict.fromkeys(streams, LEAST_STEPS)),
        )
