"""Your own data as arrays, without writing code: one `.npz`, `.safetensors` or `.h5` file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from msafusion.data.checks import check_streams, check_unique
from msafusion.data.dataset import Dataset
from msafusion.data.datasets.array_axes import find_time_axis
from msafusion.data.datasets.array_file import ArrayFile
from msafusion.data.datasets.array_samples import ArraySamples, ArrayTable
from msafusion.data.datasets.labelled import Labels, TaskOption, check_groups, note_ungrouped, parse_splits, split_rows
from msafusion.data.fitting import standardize
from msafusion.data.preprocessing import Augmentation
from msafusion.data.samples import Splits, collate
from msafusion.failures import DataError
from msafusion.streams import nearest
from msafusion.text import clean_all, note

MAX_LOOKED_AT, MAX_VALUES = 256, 2**22
"""Rows by which time is told from channels, and the most values in all of them."""
CODES = {"0": "train", "1": "valid", "2": "test"}


class Arrays(Dataset):
    """One array per stream, (n, ...), with labels and splits beside them.

    Format: `<stream>` (n, channels) vectors, (n, time, channels) or (n, channels, time) signals (which of the two is
    found from the data where possible), (n, channels, height, width) images, uint8
    (n, channels, time, height, width) videos (uint8 with 1 or 3 channels last is refused); `<stream>_lengths` (n,) real
    steps of right-padded sequences; `label` (n,) numbers or names; `split` (n,) train, valid or test (or 0, 1, 2:
    `.safetensors` hold no text); `id` (n,), optional. `.h5` and `.safetensors` are read row by row when a batch asks
    for them, after a check for NaN in streams of up to 2 GiB.

    Args:
        root: the file.
        streams: names of the streams; none: every numeric array of two axes or more, which must have n rows.
        label: array of the labels.
        split: array of the splits.
        group: array of subjects, speakers or videos, none of which two splits may share; none: rows are independent.
        task: classification, regression, or auto (by the labels, see `Labels.read`).
        valid_fraction: of the training rows, for validation, where no row is marked valid.
        test_fraction: of all rows, drawn for the test (whole groups, classes in equal parts) where no array says which.
        time_axis: stream -> 1 for (n, time, channels), 2 for (n, channels, time); of other streams it is found (see
            `find_time_axis`), and 1 where the data do not tell, or where there are lengths.
        augmentation: random changes in training, such as `{noise: 0.1}`; none: no change.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import Arrays
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", text=np.ones((3, 9)), label=[1.5] * 3, split=["train", "valid", "test"])
        ...     Arrays(Path(folder, "a.npz")).splits().channels
        {'text': 9}
    """

    def __init__(
        self,
        root: Path,
        streams: Sequence[str] = (),
        label: str = "label",
        split: str = "split",
        group: str | None = None,
        task: TaskOption = "auto",
        valid_fraction: float = 0.15,
        test_fraction: float = 0.2,
        time_axis: dict[str, int] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.root, self.streams, self.label, self.split, self.group = Path(root), tuple(streams), label, split, group
        self.task: TaskOption = task
        self.valid_fraction, self.test_fraction = valid_fraction, test_fraction
        self.time_axis, self.augmentation = dict(time_axis or {}), augmentation

    def splits(self) -> Splits:
        """Samples by the array of splits."""
        file = ArrayFile(self.root)
        texts = self._texts(file, self.label)
        number = len(texts)
        split = self._splits(file, number)
        groups = self._texts(file, self.group, number) if self.group else [str(row) for row in range(number)]
        ids = self._texts(file, "id", number) if "id" in file.names else [f"{row:06d}" for row in range(number)]
        if self.group:
            check_groups(groups, f"'{self.root}', {self.group}")
        else:
            used = {self.label, self.split, "id"}
            one_each = [name for name in file.names if name not in used and file.shape(name) == (number,)]
            note_ungrouped(one_each, f"'{self.root}'")
        check_unique(ids, f"'{self.root}'", "correct it")
        streams = self._streams(file, number)
        labels = Labels.read(texts, self.task, f"'{self.root}', {self.label}", file.numeric(self.label))
        rows = [
            {"id": name, "split": part, "group": group, "label": label}
            for name, part, group, label in zip(ids, split, groups, labels.values, strict=True)
        ]
        parts = split_rows(rows, labels.classes, self.valid_fraction, f"'{self.root}'", self.test_fraction)
        axes = self._time_axes(file, streams)
        lengths = {name: self._lengths(file, name, number, axes.get(name, 1)) for name in streams}
        table = ArrayTable(file, rows, streams, lengths, axes)
        table.check_finite()
        samples = {name: ArraySamples(table, indices) for name, indices in parts.items()}
        refit = partial(standardize, store=table, layouts=table.layouts(), augmentation=self.augmentation)
        preprocessing = refit(samples["train"])
        splits = Splits(
            *(samples[name] for name in ("train", "valid", "test")),
            classes=labels.classes,
            channels=preprocessing.num_channels(),
            preprocessing=preprocessing,
            refit=refit,
        )
        collate([samples["train"][0]])
        return splits

    def _splits(self, file: ArrayFile, number: int) -> list[str]:
        if self.split == "split" and self.split not in file.names:  # drawn, with a note
            return [""] * number
        marks = [CODES.get(text, text) for text in self._texts(file, self.split, number)]
        if not any(marks):
            raise DataError(f"'{self.root}': '{self.split}' is empty, expected train, valid or test; fill it.")
        return parse_splits(marks, f"'{self.root}', {self.split}")

    def _texts(self, file: ArrayFile, name: str, number: int | None = None) -> list[str]:
        if name not in file.names:
            raise DataError(f"'{self.root}' has no array '{name}'; {nearest(name, file.names)}")
        texts = file.texts(name)
        if not texts:
            raise DataError(f"'{self.root}': '{name}' is empty, expected one entry a sample; fill it.")
        if number is not None and len(texts) != number:
            raise DataError(f"'{self.root}': '{name}' has {len(texts)} rows, expected {number} as in '{self.label}'.")
        return clean_all(texts, f"'{self.root}', {name}")

    def _streams(self, file: ArrayFile, number: int) -> list[str]:
        names = self._named(file, number)
        check_streams(names, f"'{self.root}'", "rename the array, or name others by streams")
        for name in names:
            shape = file.shape(name)
            if 0 in shape:
                raise DataError(f"'{self.root}': stream '{name}' is {shape}, expected at least one value; correct it.")
            channels_last = len(shape) in (4, 5) and shape[-1] in (1, 3) and shape[1] not in (1, 3)
            if channels_last and file.row(name, 0).dtype == np.uint8:
                raise DataError(
                    f"'{self.root}': stream '{name}' is uint8 {shape}, expected (n, channels, ...); store its last "
                    f"axis second: np.moveaxis({name}, -1, 1)."
                )
        return names

    def _time_axes(self, file: ArrayFile, streams: Sequence[str]) -> dict[str, int]:
        """Of the signals; says what was taken for what.

        Raises:
            DataError: a time axis is given for a stream that is not a signal, or is neither 1 nor 2.
        """
        signals = [name for name in streams if len(file.shape(name)) == 3]
        for name, axis in self.time_axis.items():
            if name not in streams:
                raise DataError(f"time_axis names the stream '{name}', which there is not; {nearest(name, streams)}")
            if name not in signals or axis not in (1, 2):
                raise DataError(
                    f"time_axis is {axis} for stream '{name}' {file.shape(name)}, expected 1 or 2 for a stream of "
                    "three axes; correct it."
                )
        told = {name for name in signals if name in self.time_axis or f"{name}_lengths" in file.names}
        some = {name: file.spread(name, MAX_LOOKED_AT, MAX_VALUES) for name in signals if name not in told}
        found = {name: find_time_axis(rows) for name, rows in some.items()}
        axes = {name: self.time_axis.get(name, 1 + (found.get(name) or 0)) for name in signals}
        taken = ", ".join(f"{name} ({_described(file.shape(name), axes.get(name, 1))})" for name in streams)
        note(f"'{self.root}': each sample's streams are {taken}.")
        option = "set time_axis where this is wrong"
        if moved := [name for name, axis in found.items() if axis == 1]:
            note(f"'{self.root}': by its values, time is the last axis of {', '.join(moved)}; {option}.")
        if unclear := [name for name, axis in found.items() if axis is None]:
            note(
                f"'{self.root}': the values of {', '.join(unclear)} do not tell time from channels, taken for "
                f"(n, time, channels); {option}."
            )
        return axes

    def _named(self, file: ArrayFile, number: int) -> list[str]:
        if not self.streams:
            return self._found(file, number)
        for name in self.streams:
            if name not in file.names:
                raise DataError(f"'{self.root}' has no stream '{name}'; {nearest(name, file.names)}")
            shape = file.shape(name)
            if len(shape) < 2 or shape[0] != number or not file.numeric(name):
                raise DataError(
                    f"'{self.root}': stream '{name}' is {shape}, expected numbers ({number}, channels) or ({number}, "
                    "time, channels); correct it."
                )
        return list(self.streams)

    def _found(self, file: ArrayFile, number: int) -> list[str]:
        """The streams where none are named; what could be one and is not is refused, the rest is noted."""
        known = {self.label, self.split, self.group, "id", *(f"{name}_lengths" for name in file.names)}
        found, unused = [], []
        for name in (name for name in file.names if name not in known):
            shape = file.shape(name)
            if len(shape) < 2 or not (file.numeric(name) or file.complex(name)):
                unused.append(f"{name} {shape}")
            elif file.complex(name):
                raise DataError(
                    f"'{self.root}': '{name}' is complex {shape}, expected real numbers; store its real and imaginary "
                    "parts or its magnitude, or name the streams to use by streams."
                )
            elif shape[0] != number:
                raise DataError(
                    f"'{self.root}': '{name}' is {shape}, expected {number} rows as in '{self.label}'; correct it, or "
                    "name the streams to use by streams."
                )
            else:
                found.append(name)
        if not found:
            raise DataError(f"'{self.root}' has no array of {number} rows and two axes or more; add the streams.")
        if unused:
            note(f"'{self.root}': not used, as streams are numbers with two axes or more: {', '.join(unused)}.")
        return found

    def _lengths(self, file: ArrayFile, stream: str, number: int, axis: int) -> np.ndarray | None:
        name = f"{stream}_lengths"
        if name not in file.names:
            return None
        shape = file.shape(stream)
        if len(shape) != 3:
            raise DataError(
                f"'{self.root}': stream '{stream}' is {shape} and has '{name}', expected ({number}, time, channels); "
                f"correct it, or leave '{name}' out."
            )
        lengths, steps = file.whole(name), shape[axis]
        if lengths.shape != (number,) or lengths.dtype.kind not in "iu":
            raise DataError(
                f"'{self.root}': '{name}' is {lengths.dtype} {lengths.shape}, expected integers ({number},)."
            )
        if lengths.min() < 1 or lengths.max() > steps:
            row = int(np.flatnonzero((lengths < 1) | (lengths > steps))[0])
            raise DataError(
                f"'{self.root}': '{name}' is {lengths[row]} in row {row}, expected 1 to the {steps} steps of "
                f"'{stream}'; correct it."
            )
        return lengths


def _described(shape: Sequence[int], time_axis: int) -> str:
    """What a stream's array (n, ...) is taken for."""
    if len(shape) == 3:
        return f"{shape[time_axis]} steps of {shape[3 - time_axis]} channels"
    if len(shape) == 2:
        return f"{shape[1]} values"
    return f"{shape[1]} channels of {' x '.join(map(str, shape[2:]))}"
