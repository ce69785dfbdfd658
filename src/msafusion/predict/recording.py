"""Raw recordings to predict from, and their windows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msafusion.media import Extractor, Span, StreamMissing
from msafusion.media.stored import read_array, split_key
from msafusion.preprocessing import DataError

LONGER = 1.5
"""Recordings longer than so many usual ones are cut into windows of the usual duration, half overlapping."""


@dataclass(frozen=True)
class Recording:
    """The raw files of one recording.

    Attributes:
        name: as results show it.
        files: stream -> its file; streams that are not named are absent.
        companions: stream -> a file that helps to read it.
        warnings: what is known to be missing already.
    """

    name: str
    files: Mapping[str, Path]
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, file: Path, extraction: Mapping[str, Extractor], streams: list[str]) -> "Recording":
        """A single file: every stream that can be read from a file with its ending.

        An `.npz` holds an array for each stream under its name, as prepared data do.

        Raises:
            DataError: no such file, or an ending that no stream is read from.
        """
        if not file.is_file():
            raise DataError(f"no file '{file}'; check the path.")
        suffix = file.suffix.lower()
        if suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                keys = [key for key in archive.files if key in streams]
            if keys:
                lacking = tuple(f"no {name} in '{file.name}'" for name in streams if name not in keys)
                return cls(str(file), {key: Path(f"{file}#{key}") for key in keys}, warnings=lacking)
            raise DataError(f"'{file}' has none of the arrays {', '.join(streams)}; store one under a stream's name.")
        able = [name for name, extractor in extraction.items() if suffix in extractor.suffixes]
        if not able:
            known = sorted({suffix for extractor in extraction.values() for suffix in extractor.suffixes} | {".npz"})
            raise DataError(f"'{file}' ends in '{suffix}', expected {' '.join(known)}; convert it.")
        lacking = tuple(f"no {name}: it is not read from {suffix} files" for name in streams if name not in able)
        return cls(str(file), dict.fromkeys(able, file), warnings=lacking)


@dataclass(frozen=True)
class Window:
    """A part of a recording as arrays in the layout of prepared data; `span` None: the whole of it."""

    span: Span | None
    arrays: Mapping[str, np.ndarray]


def read_windows(
    recording: Recording, extraction: Mapping[str, Extractor], seconds: float | None
) -> tuple[list[Window], list[str]]:
    """The windows of a recording, and warnings.

    Args:
        recording: its files; runs in a worker process.
        extraction: stream -> how it is read; streams without are read as arrays.
        seconds: usual duration of a recording; None: it is never cut.

    Raises:
        DataError: a file is broken, or nothing of any stream is there.
    """
    warnings = list(recording.warnings)
    arrays = {name: name not in extraction or bool(split_key(file)[1]) for name, file in recording.files.items()}
    durations = [extraction[name].probe(file) for name, file in recording.files.items() if not arrays[name] and seconds]
    known = [duration for duration in durations if duration]
    spans: list[Span | None] = [None]
    if seconds and known and max(known) > LONGER * seconds and not any(arrays.values()):
        count = round((max(known) - seconds) / (seconds / 2)) + 1
        spans = [Span(start, seconds) for start in np.linspace(0, max(known) - seconds, count).tolist()]
    windows = []
    for span in spans:
        found = {}
        for name, file in recording.files.items():
            try:
                if arrays[name]:
                    found[name] = read_array(file)
                    continue
                extracted = extraction[name](
                    file, **({} if span is None else {"span": span}), companion=recording.companions.get(name)
                )
            except StreamMissing as missing:
                warnings.append(_at(span, f"no {name}: {missing}"))
                continue
            found[name] = extracted.values
            warnings += [_at(span, f"{name}: {note}") for note in extracted.notes]
        if found:
            windows.append(Window(span, found))
    if not windows:
        raise DataError(f"'{recording.name}' holds none of the model's streams ({'; '.join(warnings)}).")
    return windows, list(dict.fromkeys(warnings))


def _at(span: Span | None, note: str) -> str:
    return note if span is None else f"{span.start:.1f} s: {note}"
