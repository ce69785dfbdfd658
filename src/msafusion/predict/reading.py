"""Recordings to windows of arrays, one after the other, in this process or in others; never more than a few at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from msafusion.data.media import Extractor, Span, StreamMissing
from msafusion.data.media.stored import read_array, split_key
from msafusion.data.preparation.engines import in_processes
from msafusion.failures import Failure, attempt
from msafusion.predict.prediction import Failed
from msafusion.predict.recording import Recording, suffixes

LONGER = 1.5
"""Recordings longer than so many usual ones are cut into windows of the usual duration, half overlapping."""


@dataclass(frozen=True)
class Window:
    """A part of a recording as arrays in the layout of prepared data, by stream; `span` None: the whole of it."""

    span: Span | None
    arrays: Mapping[str, np.ndarray]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class WindowTask:
    """A window to read.

    Attributes:
        number: of the recording.
        recording: or why there is none.
        span: None: the whole.
        ends: stream -> where it ends (seconds), if known.
        count: windows of the recording.
    """

    number: int
    recording: Recording | Failed
    span: Span | None
    ends: Mapping[str, float]
    count: int = 1

    @property
    def name(self) -> str:
        """Of the recording."""
        return self.recording.file if isinstance(self.recording, Failed) else self.recording.name


ReadRecording = tuple[Recording | Failed, int, Iterator[Window | Failure]]
"""A recording, its number of windows, and these, read when asked for, or why one cannot be read."""


def read_all(
    wanted: Iterable[Recording | Failed],
    extraction: Mapping[str, Extractor],
    seconds: float | None,
    workers: int = 1,
) -> Iterator[ReadRecording]:
    """Each recording with its windows, in order.

    Args:
        wanted: the recordings.
        extraction: stream -> how it is read; streams without are read as arrays.
        seconds: usual duration of a recording; None: none is ever cut.
        workers: processes; 1: this one.

    Raises:
        ValueError: a worker died.
    """
    behind = -1
    tasks = (task for task in _tasks(wanted, extraction, seconds) if task.number > behind)
    work = partial(_done, extraction=dict(extraction))
    reading = map(work, tasks) if workers == 1 else in_processes(work, tasks, workers, ordered=True)
    for _, group in groupby(reading, key=lambda done: done[0].number):
        rest = iter(group)
        task, window = next(rest)
        yield task.recording, task.count, _windows(chain([(task, window)], rest))
        behind = task.number  # what has not been asked for of its windows is not wanted


def _windows(done: Iterable[tuple[WindowTask, Window | Failure]]) -> Iterator[Window | Failure]:
    return (window for _, window in done)


def _tasks(
    wanted: Iterable[Recording | Failed], extraction: Mapping[str, Extractor], seconds: float | None
) -> Iterator[WindowTask]:
    for number, recording in enumerate(wanted):
        spans, ends = [None], {}
        if isinstance(recording, Recording):
            found = attempt(partial(spans_of, recording, extraction, seconds), recording.files.values())
            if isinstance(found, Failure):
                recording = Failed.of(recording.name, found)
            else:
                spans, ends = found
        for span in spans:
            yield WindowTask(number, recording, span, ends, len(spans))


def _done(task: WindowTask, extraction: Mapping[str, Extractor]) -> tuple[WindowTask, Window | Failure]:
    """The window, or why it cannot be read; runs in a worker process."""
    recording = task.recording
    if isinstance(recording, Failed):
        return task, recording.failure
    files = recording.files.values()
    return task, attempt(lambda: read_window(recording, extraction, task.span, task.ends), files)


def spans_of(
    recording: Recording, extraction: Mapping[str, Extractor], seconds: float | None
) -> tuple[list[Span | None], dict[str, float]]:
    """The windows of a recording, the last of which ends with it, and where its streams end (seconds).

    A recording of which a stream comes as prepared data is not cut.

    Raises:
        DataError: a file is missing or broken.
    """
    ends = {}
    for name, file in recording.files.items() if seconds else ():
        if _as_array(name, file, extraction):
            return [None], {}
        try:
            end = extraction[name].probe(file)
        except StreamMissing:  # noted when it is read
            continue
        if end is not None:
            ends[name] = end
    longest = max(ends.values(), default=0.0)
    if not seconds or longest <= LONGER * seconds:
        return [None], {}
    count = round((longest - seconds) / (seconds / 2)) + 1
    return [Span(start, seconds) for start in np.linspace(0, longest - seconds, count).tolist()], ends


def read_window(
    recording: Recording, extraction: Mapping[str, Extractor], span: Span | None, ends: Mapping[str, float]
) -> Window:
    """The streams that a part of a recording has, with a warning for each that it lacks.

    Raises:
        DataError: a file is missing or broken.
    """
    arrays, warnings = {}, []
    for name, file in recording.files.items():
        if _as_array(name, file, extraction):
            arrays[name] = read_array(file)
            continue
        if span is not None and span.start >= ends.get(name, np.inf):
            warnings.append(f"no {name}: it ends after {ends[name]:.2f} s")
            continue
        try:
            part = {} if span is None else {"span": span}
            extracted = extraction[name](file, companion=recording.companions.get(name), **part)
        except StreamMissing as missing:
            warnings.append(f"no {name}: {missing}")
            continue
        arrays[name] = extracted.values
        warnings += [f"{name}: {note}" for note in extracted.notes]
    return Window(span, arrays, warnings)


def _as_array(stream: str, file: Path, extraction: Mapping[str, Extractor]) -> bool:
    """Whether the file holds what preparing would make of the raw file."""
    if stream not in extraction:
        return True
    path, key = split_key(file)
    return bool(key) and path.suffix.lower() not in suffixes(stream, extraction)
