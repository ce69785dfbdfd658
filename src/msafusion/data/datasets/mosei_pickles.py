"""CMU-MOSEI and CMU-MOSI as pickles of padded arrays, in MMSA's form or MultiBench's.

MMSA: {"train" | "valid" | "test": {"id", "text" (n, 50, 768), "audio" (n, steps, 74 | 5), "vision" (n, steps, 35 | 20),
"regression_labels" (n,), "text_bert" (n, 3, 50): ids, mask, segment ids; "audio_lengths", "vision_lengths" (n,) in
unaligned files, ...}}. MultiBench: {...: {"id", "vision", "audio", "text" (n, steps, 300), "labels" (n, 1, 1)}}, padded
with zeros on the left. Sources: github.com/thuiar/MMSA, github.com/pliang279/MultiBench.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.checks import check_apart
from msafusion.data.datasets.mosei_raw import (
    STREAMS,
    check_sentiment,
    finite,
    sample_id,
    video_and_clip,
)
from msafusion.data.datasets.mosei_text import text_encoder, token_features
from msafusion.data.datasets.unpickle import load_plain_pickle
from msafusion.data.preparation.raw import RawItem
from msafusion.data.samples import PARTS
from msafusion.failures import DataError
from msafusion.files.reading import reading

COLUMNS = {"visual": "vision", "audio": "audio", "text": "text"}
"""Stream -> its column."""
REMEDY = "get the file again from its source"


class SentimentPickle:
    """An aligned or unaligned pickle of MMSA or MultiBench; splits are the pickle's own.

    The file is read by an unpickler that admits arrays and plain containers only, once in each process, and kept: with
    W workers it lies W times in memory. Padding goes: where `<stream>_lengths` are given (MMSA, unaligned), the steps
    beyond them; text by the mask of `text_bert`, where there is one. Else steps are cut that are zero at the start and
    end: of each stream alone, or, where all streams have the same number of steps (aligned), those that are zero in all
    of them, so that steps still belong together.

    Args:
        source: the `.pkl` file.
        text_model: None: `text` as it is stored; else local folder or hub name of the model whose last hidden states of
            `text_bert`'s tokens are the text.
    """

    def __init__(self, source: Path, text_model: str | None) -> None:
        self.source, self.text_model = source, text_model

    @property
    def _content(self) -> "_Content":
        try:
            return _content(self.source, self.source.stat().st_mtime_ns, self.text_model is not None)
        except OSError as error:
            raise DataError(
                f"'{self.source}' cannot be read ({error.strerror}), expected a pickle; check it."
            ) from None

    def items(self) -> list[RawItem]:
        """Samples with text, sorted by id; the file is read when this is first called."""
        return list(self._content.items)

    def missing(self) -> list[str]:
        """Nothing: a pickle does not say what it should hold."""
        return []

    def skipped(self) -> list[str]:
        """One line for each sample whose text is all zeros, which MultiBench's loader leaves out, too."""
        return list(self._content.skipped)

    def channels(self) -> dict[str, int]:
        """Stream -> channels; a text model is loaded for its own."""
        channels = {stream: self._content.splits["train"][COLUMNS[stream]].shape[2] for stream in STREAMS}
        return channels | ({"text": text_encoder(self.text_model).out_channels} if self.text_model else {})

    def settings(self) -> dict[str, Any]:
        """Form, file, and whether the streams share their steps."""
        content = self._content
        form = "MMSA" if content.label == "regression_labels" else "MultiBench"
        return {"form": form, "found": [self.source.name], "folds": "the pickle's", "aligned": content.aligned}

    def problems(self, items: Sequence[RawItem]) -> list[str]:
        """Lengths that go beyond the data."""
        found = []
        for item in items:
            split, number = self._content.places[item.id]
            try:
                self._lengths(split, number, item.id)
            except DataError as error:
                found.append(str(error))
        return found

    def _lengths(self, split: str, number: int, name: str) -> dict[str, int]:
        """Stream -> real steps, where the file says so."""
        columns, lengths = self._content.splits[split], {}
        for stream, column in COLUMNS.items():
            if (given := columns.get(f"{column}_lengths")) is not None:
                length, steps = float(np.asarray(given[number]).reshape(-1)[0]), columns[column].shape[1]
                if not 0 <= length <= steps or length % 1:
                    raise DataError(
                        f"'{self.source}', {split}, sample '{name}': {column}_lengths is {length:g}, expected a whole "
                        f"number up to the {steps} steps of its data; {REMEDY}."
                    )
                lengths[stream] = int(length)
        return lengths

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """Arrays of one sample, (steps, channels) each, without padding, and notes about them."""
        content = self._content
        split, number = content.places[item.id]
        columns, notes, lengths = content.splits[split], list[str](), self._lengths(split, number, item.id)
        arrays = {stream: finite(columns[column][number], notes, stream) for stream, column in COLUMNS.items()}
        real: dict[str, Any] = {stream: (values != 0).any(axis=1) for stream, values in arrays.items()}
        if (tokens := columns.get("text_bert")) is not None:
            ids, mask = np.asarray(tokens[number])[:2]
            real["text"] = mask > 0
            if self.text_model:
                arrays["text"] = token_features(ids, mask, self.text_model)
        for stream, length in lengths.items():
            real[stream] = np.arange(len(arrays[stream])) < length
        if content.aligned:
            real = dict.fromkeys(STREAMS, real["visual"] | real["audio"] | real["text"])
        for stream, steps in real.items():
            kept = np.flatnonzero(steps)
            if not kept.size:
                notes.append(f"{stream}: nothing but padding, one step of zeros")
            arrays[stream] = arrays[stream][kept[0] : kept[-1] + 1] if kept.size else arrays[stream][:1] * 0
        return arrays, notes


class _Content:
    """What a pickle holds, checked: columns by split, and samples with their places in them."""

    def __init__(self, source: Path, tokens_wanted: bool) -> None:
        with reading(source, "a pickle of MMSA or MultiBench", REMEDY):
            self._take(source, tokens_wanted)

    def _take(self, source: Path, tokens_wanted: bool) -> None:
        with source.open("rb") as file:
            loaded = load_plain_pickle(file, str(source))
        if not isinstance(loaded, Mapping) or not all(isinstance(loaded.get(split), Mapping) for split in PARTS):
            held = ", ".join(map(str, loaded))[:80] if isinstance(loaded, Mapping) else type(loaded).__name__
            raise DataError(f"'{source}' holds {held}, expected a dict of {', '.join(PARTS)}; {REMEDY}.")
        self.source, self.label = source, "regression_labels" if "regression_labels" in loaded["train"] else "labels"
        needed = (*COLUMNS.values(), "id", self.label, *(("text_bert",) if tokens_wanted else ()))
        self.splits = {split: self._columns(split, loaded[split], needed) for split in PARTS}
        train = self.splits["train"]
        widths = {split: [columns[c].shape[2] for c in COLUMNS.values()] for split, columns in self.splits.items()}
        if len(set(map(tuple, widths.values()))) > 1:
            raise DataError(f"'{source}' has the widths {widths} of {', '.join(STREAMS)}, expected one; {REMEDY}.")
        steps = {train[column].shape[1] for column in COLUMNS.values()}
        self.aligned = len(steps) == 1 and not any(name.endswith("_lengths") for name in train)
        self.places: dict[str, tuple[str, int]] = {}
        self.items, self.skipped = list[RawItem](), list[str]()
        for split in PARTS:
            self._name(split)
        self.items.sort(key=lambda item: item.id)
        videos = {split: [i.group for i in self.items if i.columns["split"] == split] for split in PARTS}
        check_apart(videos, f"'{source}'", REMEDY)

    def _columns(self, split: str, columns: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Any]:
        if lacking := [name for name in needed if name not in columns]:
            here = ", ".join(map(str, columns))
            raise DataError(f"'{self.source}', {split}: no {', '.join(lacking)} among {here}, expected it; {REMEDY}.")
        kept = {name: columns[name] for name in (*needed, "text_bert") if name in columns}
        kept |= {name: columns[name] for name in map("{}_lengths".format, COLUMNS.values()) if name in columns}
        counts = {name: len(values) for name, values in kept.items()}
        if len(set(counts.values())) > 1:
            raise DataError(f"'{self.source}', {split}: {counts} samples, expected as many of each; {REMEDY}.")
        for name, rank in [(name, 3) for name in (*COLUMNS.values(), "text_bert") if name in kept]:
            kept[name] = values = _numbers(kept[name])
            if values.ndim != rank or values.dtype.kind not in "fiu":
                raise DataError(
                    f"'{self.source}', {split}: {name} is {values.dtype} {values.shape}, expected numbers of shape "
                    f"(samples, steps, channels); {REMEDY}."
                )
        if "text_bert" in kept and kept["text_bert"].shape[1:] != (3, kept["text"].shape[1]):
            raise DataError(
                f"'{self.source}', {split}: text_bert is {kept['text_bert'].shape}, expected ids, mask and segments "
                f"of the {kept['text'].shape[1]} steps of text; {REMEDY}."
            )
        return kept

    def _name(self, split: str) -> None:
        """Names, labels and videos of one split's samples."""
        columns, clips = self.splits[split], Counter[str]()
        has_text = columns["text"].any(axis=(1, 2))
        for number, given in enumerate(columns["id"]):
            video, clip = _video_and_clip(given)
            clip = str(clips[video]) if clip is None else clip
            clips[video] += 1
            name = sample_id(video, clip)
            if name in self.places:
                first = "{}, row {}".format(*self.places[name])
                raise DataError(
                    f"'{self.source}', {split}, row {number}: the id '{name}' is that of {first}, expected it once; "
                    f"{REMEDY}."
                )
            self.places[name] = split, number
            value = float(np.asarray(columns[self.label][number], dtype=np.float64).reshape(-1)[0])
            label = check_sentiment(value, f"'{self.source}', {split}, sample '{name}'")
            if has_text[number]:
                files = dict.fromkeys(STREAMS, self.source)
                self.items.append(RawItem(name, label, video, files, columns={"split": split}))
            else:
                self.skipped.append(f"{name}: its text is all zeros")


def _numbers(values: Any) -> np.ndarray:
    """A column as an array; text among lists is left as objects, for each would be as long as the longest."""
    waiting = [] if isinstance(values, np.ndarray) else [values]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str | bytes):
            return np.empty(0, object)
        waiting += part if isinstance(part, list | tuple) else ()
    return np.asarray(values)


@lru_cache(maxsize=1)
def _content(source: Path, changed: int, tokens_wanted: bool) -> _Content:
    """A file's content; `changed` (when it was) makes a new file a new content."""
    return _Content(source, tokens_wanted)


def _video_and_clip(given: Any) -> tuple[str, str | None]:
    """Of an id: `[video, start, end]` (MulT, MultiBench), or what `video_and_clip` knows."""
    parts = [
        p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in np.asarray(given).reshape(-1).tolist()
    ]
    if len(parts) > 1:
        return video_and_clip(parts[0])[0], "-".join(parts[1:])
    return video_and_clip(parts[0])
