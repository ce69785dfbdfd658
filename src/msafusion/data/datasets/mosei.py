"""CMU-MOSEI and CMU-MOSI: sentiment of spoken opinions (Zadeh et al. 2018, P18-1208; 2016, arXiv 1606.06259)."""

import inspect
from pathlib import Path
from typing import Any

from msafusion.data.datasets.mosei_csd import CmuSdkFiles
from msafusion.data.datasets.mosei_pickles import SentimentPickle
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import DataSource, Splits
from msafusion.failures import DataError

MIN_STEPS = 5
"""Utterances of fewer words get zero steps, as the fusion has 5 segments."""


class MOSEI(DataSource):
    """Sentiment in [-3, 3]: `visual` (time, 35 or 47), `audio` (time, 74), `text` (time, 768), aligned by words.

    Streams of other widths (20 and 5 in MMSA's aligned CMU-MOSI, 300 of word vectors) and of lengths of their own
    (unaligned) are taken as they are prepared.

    Protocol: the standard folds, in the table's column `split` (train, valid, test), disjoint by video.

    Args:
        root: the prepared folder of CMU-MOSEI or CMU-MOSI; its groups are the videos.
        dataset: "mosei" or "mosi".

    Raises:
        ValueError: another data set.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import MOSEI
        >>> from msafusion.data.preparation.prepared import write_prepared
        >>> channels = {"visual": 35, "audio": 74, "text": 768}
        >>> arrays = {stream: np.zeros((6, count), np.float32) for stream, count in channels.items()}
        >>> rows = [{"id": part, "label": 1.5, "group": part, "split": part} for part in ("train", "valid", "test")]
        >>> with TemporaryDirectory() as folder:  # as `msafusion prepare mosei` writes it
        ...     count = write_prepared(Path(folder), "mosei", [], channels, [(row, arrays) for row in rows])
        ...     MOSEI(Path(folder)).splits().task
        'regression'
    """

    def __init__(self, root: Path, dataset: str = "mosei") -> None:
        if dataset not in ("mosei", "mosi"):
            raise ValueError(f"dataset is {dataset!r}, expected 'mosei' or 'mosi'; set it to one of them.")
        self.root, self.dataset = root, dataset

    def splits(self) -> Splits:
        """Samples by the standard folds."""
        streams = ("visual", "audio", "text")
        folder = PreparedFolder(self.root, self.dataset, sequences=streams, min_steps=MIN_STEPS)
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
            extraction=folder.extraction,
            sentiment=not folder.classes,
            preprocessing=Clips(channels, min_steps=dict.fromkeys(streams, MIN_STEPS)),
        )


def sentiment_reader(source: str | Path, dataset: str = "mosei", **options: Any) -> CmuSdkFiles | SentimentPickle:
    """The reader for what is there: a folder of `.csd` files, or a pickle (`.pkl`) of MMSA or MultiBench.

    Args:
        source: the folder, or the file; a folder without `.csd` files may hold one pickle.
        dataset: "mosei" or "mosi".
        options: of `CmuSdkFiles` or `SentimentPickle`.

    Raises:
        DataError: neither of them is there.
        ValueError: another data set, or an option that the form of the source does not have.
    """
    source = Path(source)
    sequences, pickles = ([*source.glob(pattern)] if source.is_dir() else [] for pattern in ("*.csd", "*.pkl"))
    if source.is_file() and source.suffix == ".pkl":
        pickles = [source]
    if not sequences and len(pickles) != 1:
        found = "no such path" if not source.exists() else f"{len(pickles)} .pkl and no .csd files"
        raise DataError(
            f"'{source}': {found}, expected a folder of the CMU SDK's .csd files or one .pkl file of MMSA or "
            "MultiBench; give the path of one."
        )
    reader = CmuSdkFiles if sequences else SentimentPickle
    known = inspect.signature(reader).parameters
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"'{source}' is read by {reader.__name__}, which has no option '{unknown[0]}'; leave it out.")
    return reader(source if sequences else pickles[0], dataset, **options)


def mosei_reader(
    source: Path, text_model: str = "auto", folds: Path | None = None, files: dict[str, str] | None = None
) -> CmuSdkFiles | SentimentPickle:
    """Raw CMU-MOSEI: a folder of the CMU SDK's `.csd` files, or a pickle of MMSA or MultiBench.

    Args:
        source: the folder or the file.
        text_model: transformers' name or directory of the text model; auto: bert-base-uncased for `.csd` files, the
            stored features of a pickle; none: the stored features (GloVe for `.csd` files).
        folds: of `.csd` files: the SDK's fold file, or JSON {"train": [video, ...], "valid": ..., "test": ...}.
        files: of `.csd` files: words, audio, visual, labels -> file name, where they are not found by themselves.
    """
    return _reader(source, "mosei", text_model, folds, files)


def mosi_reader(
    source: Path, text_model: str = "auto", folds: Path | None = None, files: dict[str, str] | None = None
) -> CmuSdkFiles | SentimentPickle:
    """Raw CMU-MOSI, in the forms of `mosei_reader` and with its arguments."""
    return _reader(source, "mosi", text_model, folds, files)


def _reader(
    source: Path, dataset: str, text_model: str, folds: Path | None, files: dict[str, str] | None
) -> CmuSdkFiles | SentimentPickle:
    options: dict[str, Any] = {"folds": folds, "files": files}
    options = {name: value for name, value in options.items() if value is not None}
    if text_model != "auto":
        options["text_model"] = None if text_model == "none" else text_model
    return sentiment_reader(source, dataset, **options)
