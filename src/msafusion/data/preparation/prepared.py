"""Prepared folders: what is left to read in training once media files have been decoded, cropped and resampled.

    <root>/info.json               {"dataset": "RAVDESS", "classes": [...], "streams": {"video": 3, ...}, ...}, and
                                   "layouts", and "extraction" by stream where raw files were read (see `preparing`)
    <root>/samples.csv             id,label,group, and one column for each further property (such as split)
    <root>/<stream>/<id>.npy       one array a sample and stream, (channels, ...), or (time, channels) of a sequence

Arrays are mapped into memory, so that only what a batch needs is read. Classes are named in `classes` and labels are
indices into it; without classes labels are numbers.
"""

import csv
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msafusion.data.checks import as_float32, check_finite, check_ids, check_label, check_streams
from msafusion.data.preparation.writing import INFO, TABLE, array_file, write_prepared
from msafusion.data.preprocessing import Layout, layout_problem
from msafusion.data.samples import LazySamples, Sample
from msafusion.failures import DataError, Failure, TraceLog, attempt
from msafusion.files.numpy_file import map_npy, native
from msafusion.files.reading import read_json, reading

__all__ = ["INFO", "TABLE", "PreparedFolder", "StoredSamples", "write_prepared"]

REMEDY = "prepare the data set again"
RENEW = "delete that file and " + REMEDY  # which keeps arrays whose files have the size that they had
log = logging.getLogger(__name__)


class PreparedFolder:
    """A prepared data set on disk; nothing but its table is read until samples are asked for.

    Args:
        root: the folder.
        dataset: the data set it must hold; None: any.
        min_steps: shorter sequences (time, channels) get zeros at their end, which count as real.
        classification: the data set must have classes.

    Raises:
        DataError: no prepared folder, another data set, a broken table, an unknown label, a name that occurs twice.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.preparation import PreparedFolder
        >>> from msafusion.data.preparation.prepared import write_prepared
        >>> sample = {"id": "a", "label": 0, "group": "1"}, {"motion": np.ones((9, 3), np.float32)}
        >>> with TemporaryDirectory() as root:
        ...     count = write_prepared(Path(root), "mine", ["rest"], {"motion": 3}, [sample], {"motion": "sequence"})
        ...     folder = PreparedFolder(root, "mine")
        ...     folder.classes, folder.channels, folder.array("motion", "a").shape
        (['rest'], {'motion': 3}, (9, 3))
    """

    def __init__(
        self,
        root: str | Path,
        dataset: str | None,
        *,
        min_steps: int = 1,
        classification: bool = False,
    ) -> None:
        self.root, self.min_steps = Path(root), min_steps
        wanted = f"a prepared {dataset} folder" if dataset else "a prepared folder"
        for name in (INFO, TABLE):
            if not (self.root / name).is_file():
                raise DataError(
                    f"no {name} in '{self.root}', expected {wanted} ({INFO}, {TABLE}, one folder of .npy "
                    "files a stream); give its path as root, or prepare the data set first."
                )
        with reading(self.root / INFO, "what preparing wrote", REMEDY):
            self.info: dict[str, Any] = read_json(self.root / INFO, REMEDY)
            found, self.channels = self.info["dataset"], {str(k): int(v) for k, v in self.info["streams"].items()}
            self.classes = [str(name) for name in self.info.get("classes", [])]
            self._of, self._failed = (int(self.info.get(name, 0)) for name in ("of", "failed"))
            check_streams(self.channels, f"'{self.root / INFO}'", REMEDY)
            self.layouts: dict[str, Layout] = {
                str(stream): layout for stream, layout in self.info.get("layouts", {}).items()
            }
            self.sequences = tuple(stream for stream in self.channels if self.layout(stream) == "sequence")
        if dataset is not None and found != dataset:
            raise DataError(f"'{self.root}' holds {found}, expected {dataset}; give another root or data set.")
        if classification and not self.classes:
            raise DataError(f"'{self.root / INFO}' names no classes, expected those of {found}; {REMEDY}.")
        self.exact: set[str] = set()
        """Streams that stay in float64 where they are."""
        self.rows = self._read_table()

    def _read_table(self) -> list[dict[str, str]]:
        file = self.root / TABLE
        with reading(file, "a table", REMEDY), file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
        if not rows or not {"id", "label", "group"} <= rows[0].keys():
            raise DataError(f"'{file}' has no rows with the columns id, label and group; {REMEDY}.")
        for line, row in enumerate(rows, start=2):
            if None in row or None in row.values():
                raise DataError(f"'{file}', line {line}: expected {len(rows[0])} columns as in line 1; {REMEDY}.")
            check_label(row["label"], len(self.classes), f"'{file}', line {line}", REMEDY)
        check_ids((row["id"] for row in rows), f"'{file}'", REMEDY)
        return rows

    @property
    def extraction(self) -> dict[str, Any]:
        """How the streams were read from raw files, as `Splits.extraction` wants it; empty where that is not known."""
        streams = self.info.get("extraction")
        return {"streams": streams, "seconds": self.info.get("seconds")} if streams else {}

    @property
    def incomplete(self) -> str:
        """How much of its data set it holds, such as "60 of 861 samples (3 failed)"; empty where it holds all."""
        if len(self.rows) >= self._of:
            return ""
        return f"{len(self.rows)} of {self._of} samples" + (f" ({self._failed} failed)" if self._failed else "")

    def layout(self, stream: str) -> Layout:
        """Of a stream's arrays; a map, whose channels come first, where the folder does not say."""
        return self.layouts.get(stream, "map")

    def check_streams(self, streams: Iterable[str], layouts: Mapping[str, Layout]) -> None:
        """Refuse a folder that lacks some streams, or whose streams are not those of the data set.

        Args:
            streams: those that are used.
            layouts: stream -> layout of all that the data set has; empty: it has any.

        Raises:
            DataError: a stream is missing, does not belong to the data set, or has another layout.
        """
        streams = list(streams)
        for name in streams:
            if name not in self.channels or (layouts and name not in layouts):
                wanted = " or ".join(layouts) if name in self.channels else ", ".join(streams)
                raise DataError(
                    f"'{self.root}' has the streams {', '.join(self.channels)}, expected {wanted}; {REMEDY}."
                )
            if layouts and self.layout(name) != layouts[name]:
                raise DataError(
                    f"'{self.root}' has {name} as a {self.layout(name)}, expected a {layouts[name]}; {REMEDY}."
                )

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Every file that is missing or broken, one line each; reads all of them.

        Args:
            progress: called with (samples looked at, samples in all).
        """
        return self._problems(self.array, progress)

    def check_files(self) -> None:
        """Check every file's header, which takes seconds, so that training does not hit a broken file days later.

        Logs a warning where the folder does not hold its whole data set.

        Raises:
            DataError: files are missing, broken or of another shape; it names the first and counts them.
        """
        if problems := self._problems(self._opened):
            more = f" ({len(problems)} files in all; PreparedFolder.verify() lists them)" if len(problems) > 1 else ""
            raise DataError(problems[0] + more)
        if self.incomplete:
            log.warning("'%s' holds %s; prepare the rest for results that count.", self.root, self.incomplete)

    def _problems(
        self, look: Callable[[str, str], object], progress: Callable[[int, int], None] | None = None
    ) -> list[str]:
        problems, traces = [], TraceLog()
        for number, row in enumerate(self.rows, start=1):
            for stream in self.channels:
                seen = attempt(functools.partial(look, stream, row["id"]), [self._file(stream, row["id"])])
                if isinstance(seen, Failure):
                    problems.append(traces.line(seen))
            if progress is not None:
                progress(number, len(self.rows))
        return problems

    def samples(self, rows: Sequence[Mapping[str, str]]) -> "StoredSamples":
        """The samples of some rows of the table."""
        return StoredSamples(self, rows)

    def array(self, stream: str, name: str) -> np.ndarray:
        """One stored array, copied out of its file.

        Raises:
            DataError: the file is missing or broken, has another number of channels, or holds NaN or infinity.
        """
        values = native(np.array(self._opened(stream, name)))
        if values.dtype.kind == "f":
            values = values if values.dtype == np.float64 and stream in self.exact else as_float32(values)
            check_finite(values, f"'{self._file(stream, name)}', in float32,", RENEW)
        if stream in self.sequences and len(values) < self.min_steps:
            values = np.pad(values, [(0, self.min_steps - len(values)), (0, 0)])
        return values

    def _file(self, stream: str, name: str) -> Path:
        return array_file(self.root, stream, name)

    def _opened(self, stream: str, name: str) -> np.ndarray:
        """One stored array, mapped into memory, with the shape and type that its stream must have."""
        file, count = self._file(stream, name), self.channels[stream]
        if not file.is_file():
            raise DataError(f"no file '{file}', expected the {stream} of sample '{name}'; {REMEDY}.")
        with reading(file, "a stored array", RENEW):
            values = map_npy(file)
        if values.dtype.kind not in "biuf":
            raise DataError(f"'{file}' holds {values.dtype}, expected numbers; {RENEW}.")
        if wanted := layout_problem(values, count, self.layout(stream)):
            raise DataError(f"'{file}' is {values.dtype} {values.shape}, expected {wanted}; {RENEW}.")
        return values


class StoredSamples(LazySamples):
    """Samples of a prepared folder, each read when it is asked for."""

    def __init__(
        self, folder: PreparedFolder, rows: Sequence[Mapping[str, str]], streams: Sequence[str] | None = None
    ) -> None:
        super().__init__(rows)
        self.folder = folder
        self.streams = tuple(folder.channels if streams is None else streams)

    def labels_and_groups(self) -> list[tuple[int | float, str]]:
        """Of each sample, from the table."""
        return [(self._label(row), row["group"]) for row in self.entries]

    def _label(self, row: Mapping[str, str]) -> int | float:
        return int(row["label"]) if self.folder.classes else float(row["label"])

    def only(self, streams: Iterable[str]) -> "StoredSamples":
        """The same samples, of which only some streams are read."""
        wanted = set(streams)
        return StoredSamples(self.folder, self.entries, [name for name in self.streams if name in wanted])

    def read(self, entry: Mapping[str, str]) -> Sample:
        """The arrays of one row of the table."""
        folder = self.folder
        streams = {name: torch.from_numpy(folder.array(name, entry["id"])) for name in self.streams}
        sample: Sample = {"id": entry["id"], "streams": streams, "label": self._label(entry), "group": entry["group"]}
        if folder.sequences:
            sample["lengths"] = {name: len(streams[name]) for name in folder.sequences if name in streams}
        return sample
