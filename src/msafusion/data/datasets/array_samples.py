"""The samples of an array file, each read when it is asked for."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from msafusion.data.checks import as_float32, check_finite
from msafusion.data.datasets.array_file import ArrayFile
from msafusion.data.preprocessing import Layout
from msafusion.data.samples import LazySamples, Sample

MAX_SCANNED, BLOCK = 2**31, 2**25
"""Streams of up to 2 GiB are looked through for NaN before training, in blocks of 32 MiB."""


class ArrayTable:
    """What the samples of all splits share."""

    def __init__(
        self,
        file: ArrayFile,
        rows: Sequence[dict[str, Any]],
        streams: Sequence[str],
        lengths: dict[str, np.ndarray | None],
        time_axes: dict[str, int],
    ) -> None:
        self.file, self.rows, self.streams, self.lengths, self.time_axes = file, rows, streams, lengths, time_axes
        self.exact: set[str] = set()
        """Streams that stay in float64 where they are."""

    def layouts(self) -> dict[str, Layout]:
        """Stream -> layout of a sample's array."""
        axes = {name: len(self.file.shape(name)) for name in self.streams}
        return {name: "sequence" if n == 3 else "video" if n == 5 else "map" for name, n in axes.items()}

    def _time_first(self, name: str, values: np.ndarray, axis: int) -> np.ndarray:
        """Signals with their time at an axis, and their channels after it."""
        return values.swapaxes(axis, axis + 1) if self.time_axes.get(name) == 2 else values

    def check_finite(self) -> None:
        """Refuse NaN and infinity in rows of any split, so that no run stops at them after training."""
        for name in self.streams:
            first, number, lengths = self.file.row(name, 0), len(self.rows), self.lengths[name]
            if first.dtype.kind != "f" or first.nbytes * number > MAX_SCANNED:
                continue
            rows = max(1, BLOCK // first.nbytes)
            for start in range(0, number, rows):
                values = as_float32(self._time_first(name, self.file.rows(name, start, min(start + rows, number)), 1))
                finite = np.isfinite(values)
                if lengths is not None:  # padding does not count
                    finite |= (np.arange(values.shape[1]) >= lengths[start : start + rows, None])[..., None]
                for row in np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))[:1]:
                    check_finite(values[row], self._what(name, start + int(row)), "clean the data")

    def _what(self, stream: str, index: int) -> str:
        return f"'{self.file.path}': stream '{stream}' of sample '{self.rows[index]['id']}', in float32,"

    def sample(self, index: int, streams: Iterable[str]) -> Sample:
        """One row, of which some streams are read."""
        row, arrays, lengths = self.rows[index], {}, {}
        for name in streams:
            values, real = self._time_first(name, self.file.row(name, index), 0), self.lengths[name]
            if real is not None:
                values = values[: real[index]]
                lengths[name] = len(values)
            if values.dtype.kind == "f":
                single = as_float32(values)
                check_finite(single, self._what(name, index), "clean the data")
                values = values if values.dtype == np.float64 and name in self.exact else single
            arrays[name] = torch.from_numpy(np.ascontiguousarray(values))
        sample: Sample = {"id": row["id"], "streams": arrays, "label": row["label"], "group": row["group"]}
        if lengths:
            sample["lengths"] = lengths
        return sample


class ArraySamples(LazySamples):
    """Some rows of an array file, each read when it is asked for."""

    def __init__(self, table: ArrayTable, indices: Sequence[int], streams: Sequence[str] | None = None) -> None:
        super().__init__(indices)
        self.table = table
        self.streams = tuple(table.streams if streams is None else streams)

    def labels_and_groups(self) -> list[tuple[int | float, str]]:
        """Of each sample, from the table."""
        return [(self.table.rows[index]["label"], self.table.rows[index]["group"]) for index in self.entries]

    def only(self, streams: Iterable[str]) -> "ArraySamples":
        """The same samples, of which only some streams are read."""
        return ArraySamples(self.table, self.entries, [name for name in self.streams if name in set(streams)])

    def read(self, entry: int) -> Sample:
        """One row of the file."""
        return self.table.sample(entry, self.streams)
