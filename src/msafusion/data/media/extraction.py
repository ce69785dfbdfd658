"""How one stream is read from a raw file: options that are saved with prepared data and with models trained on them."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError


class StreamMissing(DataError):
    """The file is sound but holds nothing of this stream: no audio track, no face. The other streams can go on.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from scipy.io import savemat
        >>> from msafusion.data.media import StreamMissing, UtdDepth
        >>> with TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/a.mat", {"d_depth": np.zeros((240, 320, 20), np.uint16)})
        ...     try:
        ...         UtdDepth()(Path(folder, "a.mat"))
        ...     except StreamMissing:
        ...         print("no depth was measured")
        no depth was measured
    """


@dataclass(frozen=True)
class Span:
    """A part of a recording: from `start` (seconds) on, `seconds` long; None: to its end.

    Examples:
        >>> from msafusion.data.media import Span
        >>> Span(start=2.5, seconds=1.0)
        Span(start=2.5, seconds=1.0)
    """

    start: float = 0.0
    seconds: float | None = None


WHOLE = Span()


@dataclass(frozen=True)
class Extracted:
    """One stream of one recording, in its layout.

    Attributes:
        values: the array.
        notes: what a user should know about it ("sound ends after 1.20 s, zeros from there on"); not errors.

    Examples:
        >>> import numpy as np
        >>> from msafusion.data.media import Extracted
        >>> Extracted(np.zeros((100, 3)), ["a gap at 1.20 s"]).notes
        ['a gap at 1.20 s']
    """

    values: np.ndarray
    notes: list[str] = field(default_factory=list)


class Extractor(ABC):
    """Reads one stream from a file. A frozen dataclass of plain options; add one and a line to `EXTRACTORS`.

    Instances are pickled to worker processes, and import their media library when they are called.

    Attributes:
        suffixes: endings of the files that it reads, in lower case.

    Examples:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from msafusion.data.media import WHOLE, Extracted, Extractor
        >>> @dataclass(frozen=True)
        ... class TextColumns(Extractor):
        ...     suffixes = (".txt",)
        ...     layout, channels = "sequence", 3
        ...     def __call__(self, file, *, span=WHOLE, companion=None):
        ...         return Extracted(np.loadtxt(file, dtype=np.float32))
        ...     def probe(self, file):
        ...         return None
        >>> TextColumns().layout
        'sequence'
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Of the array that a call gives."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of the stream."""

    @property
    def described(self) -> str:
        """In a few words, for notes."""
        channels = f"{self.channels} channel{'s' * (self.channels != 1)}"
        return f"a {self.layout} of {channels} ({type(self).__name__})"

    @abstractmethod
    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The stream.

        Args:
            file: the raw file.
            span: the part of the recording to read.
            companion: a second file that helps to read it (the face's landmarks beside a video), if there is one.

        Raises:
            StreamMissing: the file holds nothing of this stream.
            DataError: the file is missing or broken; one line: which file, what was expected, what to do.
        """

    @abstractmethod
    def probe(self, file: Path) -> float | None:
        """The recording's duration (seconds; None: it has none), after a quick look whether it can be read.

        Raises:
            DataError: as in a call; files that break later on may pass.
        """

    def as_dict(self) -> dict[str, Any]:
        """Kind and options, from which `extractor_from` makes it again."""
        return {"kind": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]
