"""CMU-MOSEI and CMU-MOSI as the CMU SDK distributes them: a folder of computational sequences (`.csd`, see `csd`)."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.checks import check_unique
from msafusion.data.datasets.csd import (
    EXPECTED,
    REMEDY,
    ROLES,
    average_features,
    open_all,
    open_csd,
    part,
    role_of,
    rows,
    texts,
    width_of,
)
from msafusion.data.datasets.mosei_raw import (
    NOT_STANDARD,
    STREAMS,
    check_sentiment,
    make_folds,
    read_folds,
    sample_id,
    video_and_clip,
)
from msafusion.data.datasets.mosei_text import text_encoder, word_features
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError
from msafusion.files.reading import reading

PAUSE = "sp"
SHORTEST = 1e-5
"""Shorter segments (seconds) are none, as in the SDK."""


class CmuSdkFiles:
    """A folder of `.csd` files; segments come from the intervals of the labels, one step of a sample is one word.

    The standard training fold holds 16,326 labelled segments, of which the reference's preparation keeps 16,322: it
    leaves out segments that lack a stream altogether, and so does this reader (their video is not in one of the files,
    or no word but pauses or no frame lies in them); `skipped` names each, with the reason.

    Args:
        source: the folder; its files are told by what they hold, never by their names.
        text_model: local folder or hub name of the model whose last hidden states are the text, the pieces of a word
            averaged; None: the word vectors of a file (GloVe, 300 wide), and no words are needed.
        folds: file that lists the videos of train, valid and test (see `read_folds`); the SDK's standard folds are not
            part of this package. None: a split by video that is always the same, and not the standard one.
        files: role (words, vectors, audio, visual, labels) -> file name in `source`, where what files hold does not
            decide, or features of other kinds are wanted.

    Raises:
        ValueError: an unknown role.
    """

    def __init__(
        self, source: Path, text_model: str | None, folds: Path | None = None, files: Mapping[str, str] | None = None
    ) -> None:
        if unknown := set(files or {}) - set(ROLES):
            raise ValueError(f"files names the role '{min(unknown)}', expected {', '.join(ROLES)}; rename it.")
        self.source, self.text_model, self.folds, self.given = source, text_model, folds, dict(files or {})
        self._found: dict[str, Path] | None = None
        self._looked: tuple[list[RawItem], list[str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what was found: workers read the samples that they are given."""
        return self.__dict__ | {"_looked": None}

    @property
    def files(self) -> dict[str, Path]:
        """Role -> file.

        Raises:
            DataError: a file is missing or broken, or two could be the same thing.
        """
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> dict[str, Path]:
        found = {role: self.source / name for role, name in self.given.items()}
        for path in sorted(self.source.glob("*.csd")):
            if path in found.values() or (role := role_of(path)) is None or role in self.given:
                continue
            if role in found:
                raise DataError(
                    f"'{found[role].name}' and '{path.name}' in '{self.source}' both look like {ROLES[role]}, expected "
                    f"one; name it: files={{'{role}': <file name>}}."
                )
            found[role] = path
        needed = ("words" if self.text_model else "vectors", "audio", "visual", "labels")
        if lacking := [ROLES[role] for role in needed if role not in found]:
            raise DataError(
                f"no .csd file of {', '.join(lacking)} in '{self.source}', expected the CMU SDK's files; download them "
                "there, or name them by files={role: file name}."
            )
        # vectors are words' too: where both are there, words tell pauses, else each vector is a word
        return {role: path for role, path in found.items() if role in needed or role == "words"}

    def items(self) -> list[RawItem]:
        """Labelled segments that have all streams; only intervals, words and labels are read, once."""
        return self._look()[0]

    def skipped(self) -> list[str]:
        """One line for each labelled segment without one of the streams, or of a video in no fold."""
        return self._look()[1]

    def missing(self) -> list[str]:
        """One line for each video of the folds without labels."""
        if self.folds is None:
            return []
        with open_csd(self.files["labels"]) as labels:
            known = {video_and_clip(key)[0] for key in labels}
            absent = [video for video in sorted(read_folds(self.folds)) if video not in known]
        return [f"video '{video}' of '{self.folds}': not in '{self.files['labels']}'" for video in absent]

    def _look(self) -> tuple[list[RawItem], list[str]]:
        if self._looked is None:
            items, skipped = [], []
            with open_all(self.files) as data, reading(self.source, EXPECTED, REMEDY):
                videos = {key: video_and_clip(key)[0] for key in sorted(data["labels"])}
                folds = make_folds(set(videos.values())) if self.folds is None else read_folds(self.folds)
                for key, video in videos.items():
                    self._segments(key, data, folds.get(video), items, skipped)
            check_unique((item.id for item in items), f"'{self.files['labels']}'", "remove the other segment")
            if not items:
                raise DataError(
                    f"no segment of '{self.source}' has all of {', '.join(self.files)}, expected files of one data set "
                    f"({len(skipped)} were left out; the first: {skipped[0] if skipped else 'none is labelled'})."
                )
            self._looked = sorted(items, key=lambda item: item.id), skipped
        return self._looked

    def _segments(
        self, key: str, data: Mapping[str, Any], split: str | None, items: list[RawItem], skipped: list[str]
    ) -> None:
        """Sort the labelled segments of a video, or of a key `video[clip]`, into those with all streams and others."""
        video, clip = video_and_clip(key)
        features, intervals = rows(data["labels"], key, self.files["labels"])
        labels = part(features)[:, 0]
        absent = [role for role in data if key not in data[role]]
        holds: dict[str, np.ndarray] = {}
        if not absent and split is not None:
            try:
                for role in data.keys() - {"labels"}:
                    middles = np.sort(self._intervals(role, key, data).mean(axis=1))
                    holds[role] = np.diff(np.searchsorted(middles, intervals), axis=1)[:, 0] > 0
            except DataError:
                holds = {}  # kept, so that reading it says what is broken
        files = {stream: self.files.get(stream, self.files[self._text_role]) for stream in STREAMS}
        helping = dict.fromkeys(STREAMS, self.files["words"]) if "words" in self.files else {}
        for number, (start, end) in enumerate(intervals.tolist()):
            name = sample_id(
                video, str(number) if clip is None else clip if len(intervals) == 1 else f"{clip}-{number}"
            )
            empty = [role for role, held in holds.items() if not held[number]]
            if split is None:
                skipped.append(f"{name}: its video is in no fold of '{self.folds}'")
            elif absent:
                skipped.append(f"{name}: its video is not in '{self.files[absent[0]]}'")
            elif end - start < SHORTEST:
                skipped.append(f"{name}: its interval {start:g} to {end:g} s is empty")
            elif empty:
                skipped.append(f"{name}: nothing of '{self.files[empty[0]].name}' between {start:g} and {end:g} s")
            else:
                label = check_sentiment(float(labels[number]), f"'{self.files['labels']}', {name}")
                columns = {"split": split, "start": repr(start), "end": repr(end)}
                columns |= {} if key == video else {"key": key}
                items.append(RawItem(name, label, video, files, helping, columns))

    @property
    def _text_role(self) -> str:
        return "words" if self.text_model else "vectors"

    def _intervals(self, role: str, key: str, data: Mapping[str, Any]) -> np.ndarray:
        """(n, 2) seconds; of words without the pauses."""
        features, intervals = rows(data[role], key, self.files[role])
        return intervals[texts(features) != PAUSE] if role == "words" else intervals

    def channels(self) -> dict[str, int]:
        """Stream -> channels; the text model is loaded for its own."""
        with open_all(self.files) as data:
            widths = {role: width_of(data[role], path) for role, path in self.files.items()}
        text = text_encoder(self.text_model).out_channels if self.text_model else widths["vectors"]
        return {"visual": widths["visual"], "audio": widths["audio"], "text": text}

    def settings(self) -> dict[str, Any]:
        """Files, and how words get their frames."""
        found = {role: path.name for role, path in self.files.items()}
        folds = {"folds": NOT_STANDARD} if self.folds is None else {}
        return {"form": "csd", "found": found, "alignment": "mean of the frames whose middle lies in the word", **folds}

    def problems(self, items: Sequence[RawItem]) -> list[str]:
        """What of a video is not there or has not the shape that it should have."""
        found = []
        with open_all(self.files) as data:
            for key, (role, group) in itertools.product(dict.fromkeys(map(_key, items)), data.items()):
                try:
                    features, _ = rows(group, key, self.files[role])
                    if features.shape[1] != (width := width_of(group, self.files[role])):
                        raise DataError(
                            f"'{self.files[role]}', video '{key}': {features.shape[1]} wide, expected {width} as its "
                            "first video; download it again."
                        )
                except DataError as error:
                    found.append(str(error))
        return found

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """Arrays of one segment, (words, channels) each, and notes about them."""
        notes: list[str] = []
        start, end = float(item.columns["start"]), float(item.columns["end"])
        with open_all(self.files) as data:
            role = "words" if "words" in data else "vectors"
            features, intervals = rows(data[role], _key(item), self.files[role])
            middles = intervals.mean(axis=1)
            inside = (start <= middles) & (middles < end)
            spoken = texts(features) if role == "words" else None
            inside &= spoken != PAUSE if spoken is not None else True
            if not inside.any():
                raise DataError(f"'{self.files[role]}', {item.id}: no word from {start:g} to {end:g} s; verify again.")
            order = np.flatnonzero(inside)[np.argsort(middles[inside], kind="stable")]
            arrays = {}
            for stream in STREAMS:
                if stream == "text" and self.text_model and spoken is not None:
                    arrays[stream], more = word_features([str(word) for word in spoken[order]], self.text_model)
                    notes += more
                else:
                    source = "vectors" if stream == "text" else stream
                    with reading(self.files[source], EXPECTED, REMEDY):
                        frames = rows(data[source], _key(item), self.files[source])
                        arrays[stream] = average_features(*frames, intervals[order], notes, stream)
        return arrays, notes


def _key(item: RawItem) -> str:
    """Where the files have a segment: under its video, or under `video[clip]`."""
    return item.columns.get("key", item.group)
