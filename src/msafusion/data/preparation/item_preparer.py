"""One sample of a raw data set to its files in a prepared folder, in any process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.data.checks import check_finite
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preparation.writing import write_array
from msafusion.data.preprocessing import Layout, layout_problem
from msafusion.failures import DataError, Failure, attempt

if TYPE_CHECKING:
    from msafusion.data.dataset import Dataset


@dataclass(frozen=True)
class Outcome:
    """What a worker tells of one sample: its arrays stay where it has written them.

    Attributes:
        id: the sample.
        arrays: stream -> shape and size of its file (bytes).
        notes: about the sample.
        failure: why it failed; None: it did not.
    """

    id: str
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: Failure | None = None


@dataclass(frozen=True)
class ItemPreparer:
    """Prepares one sample in whatever process it is called.

    Attributes:
        data: the data set.
        target: the prepared folder; None: samples are read and checked, and nothing is written.
        channels: stream -> channels.
        layouts: stream -> layout.
    """

    data: "Dataset"
    target: Path | None
    channels: Mapping[str, int]
    layouts: Mapping[str, Layout]

    def __call__(self, item: RawItem) -> Outcome:
        """Read, check and write the arrays of one sample.

        Raises:
            OSError: they cannot be written.
        """
        read = attempt(lambda: self._read(item), item.files.values())
        if isinstance(read, Failure):
            return Outcome(item.id, failure=read)
        arrays, notes = read
        if self.target is None:
            return Outcome(item.id, notes=notes)
        written = {}
        for stream in self.channels:
            size = write_array(self.target, stream, item.id, arrays[stream])
            written[stream] = {"shape": list(arrays[stream].shape), "bytes": size}
        return Outcome(item.id, written, notes)

    def _read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        arrays, notes = self.data.read(item)
        self._check(arrays)
        return arrays, notes

    def _check(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays.keys() != self.channels.keys():
            raise DataError(f"the sample has the streams {', '.join(arrays)}, expected {', '.join(self.channels)}.")
        for stream, values in arrays.items():
            missed = layout_problem(values, self.channels[stream], self.layouts[stream])
            if values.dtype.kind not in "biuf" or missed or not values.size:
                raise DataError(
                    f"stream '{stream}' is {values.dtype} {values.shape}, expected {missed or 'numbers'}; check its "
                    "raw file."
                )
            check_finite(values, f"stream '{stream}'", "check its raw file")
