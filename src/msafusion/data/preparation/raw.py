"""What is found of a raw data set on disk: its samples, and what of it is missing or broken."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msafusion.failures import Failure, TraceLog, attempt

if TYPE_CHECKING:
    from msafusion.data.dataset import Dataset


@dataclass(frozen=True)
class RawItem:
    """One sample in its raw files.

    Attributes:
        id: unique, made of letters, digits and `_.$ +-`; it names the prepared arrays.
        label: index of a class, or a value.
        group: subject, speaker or video: what splits must not share.
        files: stream -> raw file; several streams may name the same one.
        companions: stream -> a second file that helps to read it, where there is one.
        columns: further columns of the prepared table, such as split.

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.preparation import RawItem
        >>> files = {"video": Path("raw/s1_wave.avi"), "motion": Path("raw/s1_wave.npy")}
        >>> item = RawItem("s1_wave", label=1, group="s1", files=files, columns={"split": "train"})
        >>> item.files["motion"].name
        's1_wave.npy'
    """

    id: str
    label: int | float
    group: str
    files: Mapping[str, Path]
    companions: Mapping[str, Path] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """What a look at a raw data set found, by file.

    Attributes:
        present: what is there: its name -> how many ("samples": 1440).
        missing: one line for each thing that should be there and is not.
        broken: one line for each file that cannot be read or is not what it should be.
        skipped: one line for each thing that is left out on purpose, and why (the official bad skeletons).

    Examples:
        >>> from msafusion.data.preparation import Verification
        >>> found = Verification({"samples": 2}, missing=["no 'raw/s1_wave.npy'"])
        >>> found.ok, found.missing
        (False, ["no 'raw/s1_wave.npy'"])
    """

    present: Mapping[str, int]
    missing: Sequence[str] = ()
    broken: Sequence[str] = ()
    skipped: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Nothing is missing or broken."""
        return not self.missing and not self.broken


def verify_raw(data: "Dataset", progress: Callable[[int, int], None] | None = None) -> Verification:
    """What a quick look at every raw file finds, see `Dataset.verify`."""
    items, broken, log = data.items(), [], TraceLog()
    present = {"samples": len(items)} | dict.fromkeys(data.extraction, 0)
    for number, item in enumerate(items, start=1):
        for stream, extractor in data.extraction.items():
            file = item.files[stream]
            found = attempt(functools.partial(extractor.probe, file), [file])
            if isinstance(found, Failure):
                broken.append(log.line(found))
            else:
                present[stream] += 1
        if progress is not None:
            progress(number, len(items))
    return Verification(present, data.missing(), broken, data.skipped())
