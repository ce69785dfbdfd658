"""CMU-MOSEI and CMU-MOSI: sentiment of spoken opinions (Zadeh et al. 2018, P18-1208; 2016, arXiv 1606.06259)."""

import functools
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msafusion.data.dataset import Dataset
from msafusion.data.datasets.mosei_csd import CmuSdkFiles
from msafusion.data.datasets.mosei_pickles import SentimentPickle
from msafusion.data.datasets.mosei_raw import STREAMS
from msafusion.data.download import Source
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.raw import RawItem, Verification
from msafusion.data.preprocessing import Clips, Layout
from msafusion.data.samples import PARTS, Sample
from msafusion.failures import DataError, Failure, TraceLog, attempt

_CMU = "http://immortal.multicomp.cs.cmu.edu/CMU-MOSEI"
_SDK = "https://raw.githubusercontent.com/CMU-MultiComp-Lab/CMU-MultimodalSDK/3e27d3781fe38b660432c7edfa7912bd0d256ee1"


class MOSEI(Dataset):
    """Sentiment in [-3, 3]: `visual` (time, 35 or 47), `audio` (time, 74), `text` (time, 768), aligned by words.

    Streams of other widths (20 and 5 in MMSA's aligned CMU-MOSI, 300 of word vectors) and of lengths of their own
    (unaligned) are taken as they are. Utterances of fewer than 5 words get zero steps, as the fusion has 5 segments.

    Protocol: the standard folds, disjoint by video.

    Args:
        root: a folder of the CMU SDK's `.csd` files; a pickle (`.pkl`) of MMSA or MultiBench, or a folder with one; or
            a prepared folder. Groups are the videos.
        text_model: transformers' name or directory of the text model; auto: bert-base-uncased for `.csd` files, the
            stored features of a pickle; none: the stored features (GloVe for `.csd` files).
        folds: of `.csd` files: the SDK's fold file, or JSON {"train": [video, ...], "valid": ..., "test": ...}.
        files: of `.csd` files: words, vectors, audio, visual, labels -> file name, where they are not found by
            themselves.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import MOSEI
        >>> from msafusion.data.preparation.prepared import write_prepared
        >>> channels = {"visual": 35, "audio": 74, "text": 768}
        >>> arrays = {stream: np.zeros((6, count), np.float32) for stream, count in channels.items()}
        >>> rows = [{"id": part, "label": 1.5, "group": part, "split": part} for part in ("train", "valid", "test")]
        >>> layouts = dict.fromkeys(channels, "sequence")
        >>> with TemporaryDirectory() as folder:  # as `msafusion prepare MOSEI` writes it
        ...     count = write_prepared(Path(folder), "MOSEI", [], channels, [(row, arrays) for row in rows], layouts)
        ...     MOSEI(Path(folder)).splits().task
        'regression'
    """

    url = "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK"
    license = (
        "No license text is published for the features (the SDK's code is MIT). They come from YouTube videos, which "
        "the authors do not share for their creators' privacy; ask the authors about anything but research."
    )
    citation = (
        "Zadeh A, Liang PP, Poria S, Cambria E, Morency LP (2018). Multimodal language analysis in the wild: CMU-MOSEI "
        "dataset and interpretable dynamic fusion graph. ACL 2018."
    )
    remote = Source(
        parts={
            "words": f"{_CMU}/language/CMU_MOSEI_TimestampedWords.csd",
            "phones": f"{_CMU}/language/CMU_MOSEI_TimestampedPhones.csd",
            "word_vectors": f"{_CMU}/language/CMU_MOSEI_TimestampedWordVectors.csd",
            "covarep": f"{_CMU}/acoustic/CMU_MOSEI_COVAREP.csd",
            "facet": f"{_CMU}/visual/CMU_MOSEI_VisualFacet42.csd",
            "openface": f"{_CMU}/visual/CMU_MOSEI_VisualOpenFace2.csd",
            "labels": f"{_CMU}/labels/CMU_MOSEI_Labels.csd",
            "folds": f"{_SDK}/mmsdk/mmdatasdk/dataset/standard_datasets/CMU_MOSEI/cmu_mosei_std_folds.py",
        },
        usual=("words", "covarep", "facet", "labels", "folds"),
    )
    streams = STREAMS
    min_steps = 5
    sentiment = True
    reading: ClassVar = ("text_model", "folds", "files")

    def __init__(
        self, root: Path, text_model: str = "auto", folds: Path | None = None, files: dict[str, str] | None = None
    ) -> None:
        self.root, self.text_model, self.files = Path(root), text_model, files
        self.folds = None if folds is None else Path(folds)

    @cached_property
    def form(self) -> CmuSdkFiles | SentimentPickle:
        """What is there: the CMU SDK's files, or a pickle.

        Raises:
            DataError: neither of them is there.
            ValueError: an option that this form does not have.
        """
        root, found = self.root, ([*self.root.glob(end)] if self.root.is_dir() else [] for end in ("*.csd", "*.pkl"))
        sequences, pickles = found
        if root.is_file() and root.suffix == ".pkl":
            pickles = [root]
        if not sequences and len(pickles) != 1:
            here = "no such path" if not root.exists() else f"{len(pickles)} .pkl and no .csd files"
            raise DataError(
                f"'{root}': {here}, expected a folder of the CMU SDK's .csd files, one .pkl file of MMSA or MultiBench "
                "or a prepared folder; give the path of one."
            )
        usual = "bert-base-uncased" if sequences else "none"
        model = usual if self.text_model == "auto" else self.text_model
        if sequences:
            return CmuSdkFiles(root, None if model == "none" else model, self.folds, self.files)
        if odd := [name for name in ("folds", "files") if getattr(self, name) is not None]:
            raise ValueError(f"'{pickles[0]}' is a pickle, which has no option '{odd[0]}'; leave it out.")
        return SentimentPickle(pickles[0], None if model == "none" else model)

    def items(self) -> list[RawItem]:
        """Labelled segments that have all streams."""
        return self.form.items()

    def missing(self) -> list[str]:
        """One line for each video of the folds without labels."""
        return self.form.missing()

    def skipped(self) -> list[str]:
        """One line for each segment without one of the streams, or of a video in no fold."""
        return self.form.skipped()

    def channels(self) -> dict[str, int]:
        """Stream -> channels; a text model is loaded for its own."""
        return self.form.channels()

    def layouts(self) -> dict[str, Layout]:
        """Sequences all."""
        return dict.fromkeys(STREAMS, "sequence")

    def settings(self) -> dict[str, Any]:
        """With the form and its files."""
        return {**super().settings(), **self.form.settings()}

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """Arrays of one segment, (steps, channels) each, and notes about them."""
        return self.form.read(item)

    def verify_raw(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Looks at every sample; the text model is not run."""
        form = self.form
        try:
            items = form.items()
        except DataError as error:
            return Verification({"samples": 0}, broken=[str(error)])
        broken, videos, number, log = list[str](), dict[str, list[RawItem]](), 0, TraceLog()
        for item in items:
            videos.setdefault(item.group, []).append(item)
        for of_video in videos.values():
            found = attempt(functools.partial(form.problems, of_video), of_video[0].files.values())
            broken += [log.line(found)] if isinstance(found, Failure) else found
            number += len(of_video)
            if progress is not None:
                progress(number, len(items))
        present = {"samples": len(items), "videos": len(videos)}
        present |= {part: sum(item.columns["split"] == part for item in items) for part in PARTS}
        return Verification(present, form.missing(), broken, form.skipped())

    def preprocessing(self, folder: PreparedFolder, train: Sequence[Sample]) -> Clips:
        """None but the least number of steps."""
        channels = {name: folder.channels[name] for name in STREAMS}
        return Clips(channels, min_steps=dict.fromkeys(STREAMS, self.min_steps))


class MOSI(MOSEI):
    """CMU-MOSI, in the forms of `MOSEI` and with its options.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import MOSI
        >>> MOSI(Path("data/mosi.pkl"), text_model="none").name
        'MOSI'
    """

    license = ""
    citation = "Zadeh et al. (2016), arXiv 1606.06259."
    remote = None
