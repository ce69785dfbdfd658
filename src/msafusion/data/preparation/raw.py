"""Raw data sets on disk, as people download them: what is there, and how one sample becomes arrays.

`msafusion prepare` runs a `RawReader` over all its items and writes a prepared folder (see `prepared`).
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msafusion.data.media import Extractor
from msafusion.data.preprocessing import Layout
from msafusion.failures import Failure, TraceLog, attempt


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


class RawReader(ABC):
    """A raw data set. Its constructor takes `source` (the folder or file) first, then options; it must pickle.

    Attributes:
        dataset: the name that the prepared folder carries, by which its `DataSource` knows it.
        source: where the raw files are.
        classes: names of the classes; none: labels are regression targets.
        extraction: stream -> how it is read; empty where a sample's arrays come from elsewhere than one file a stream
            (then `layouts`, `channels` and `read` are overridden).

    Examples:
        >>> from pathlib import Path
        >>> from msafusion.data.media import StoredArray
        >>> from msafusion.data.preparation import RawItem, RawReader
        >>> class Gestures(RawReader):
        ...     dataset, classes = "gestures", ["rest", "wave"]
        ...     extraction = {"motion": StoredArray("sequence", num_channels=3)}
        ...     def __init__(self, source):
        ...         self.source = Path(source)
        ...     def items(self):  # named as wave_s1.npy
        ...         names = [(file, *file.stem.split("_")) for file in sorted(self.source.glob("*.npy"))]
        ...         return [RawItem(f.stem, self.classes.index(what), who, {"motion": f}) for f, what, who in names]
        ...     def missing(self):
        ...         return []
        >>> Gestures("raw").channels()
        {'motion': 3}
    """

    dataset: ClassVar[str]
    source: Path
    classes: Sequence[str]
    extraction: Mapping[str, Extractor]

    @abstractmethod
    def items(self) -> list[RawItem]:
        """The samples that can be prepared, found by identifier and sorted by it.

        Raises:
            DataError: nothing of this data set is in `source`; it says what was expected where.
        """

    @abstractmethod
    def missing(self) -> list[str]:
        """One line for each sample or file of the data set that should be there and is not."""

    def skipped(self) -> list[str]:
        """One line for each sample that is there and left out on purpose, with the reason."""
        return []

    def channels(self) -> dict[str, int]:
        """Stream -> channels."""
        return {stream: extractor.channels for stream, extractor in self.extraction.items()}

    def layouts(self) -> dict[str, Layout]:
        """Stream -> layout of its arrays."""
        return {stream: extractor.layout for stream, extractor in self.extraction.items()}

    def settings(self) -> dict[str, Any]:
        """All that decides what the prepared arrays hold, as plain values; kept beside them."""
        return {"extraction": {stream: extractor.as_dict() for stream, extractor in self.extraction.items()}}

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """The arrays of one sample, and notes about them.

        Raises:
            DataError: a file is missing or broken, or holds nothing of its stream.
        """
        arrays, notes = {}, []
        for stream, extractor in self.extraction.items():
            extracted = extractor(item.files[stream], companion=item.companions.get(stream))
            arrays[stream] = extracted.values
            notes += [f"{stream}: {note}" for note in extracted.notes]
        return arrays, notes

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Look at every file: what is there, what is missing, what is broken.

        Args:
            progress: called with (items looked at, items in all).
        """
        items, broken, log = self.items(), [], TraceLog()
        present = {"samples": len(items)} | dict.fromkeys(self.extraction, 0)
        for number, item in enumerate(items, start=1):
            for stream, extractor in self.extraction.items():
                file = item.files[stream]
                found = attempt(functools.partial(extractor.probe, file), [file])
                if isinstance(found, Failure):
                    broken.append(log.line(found))
                else:
                    present[stream] += 1
            if progress is not None:
                progress(number, len(items))
        return Verification(present, self.missing(), broken, self.skipped())
