"""Your own files, without writing code: a table with one row per sample and one column of paths per stream."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from msafusion.data.dataset import Dataset, Rows
from msafusion.data.datasets.labelled import TaskOption, split_rows
from msafusion.data.datasets.manifest_table import ManifestTable
from msafusion.data.media import Extractor
from msafusion.data.media.stored import split_key
from msafusion.data.preparation.journal import check_made_with
from msafusion.data.preparation.prepared import PreparedFolder
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preprocessing import Augmentation


class Manifest(Dataset):
    """Media and arrays that a table names.

    Format: `manifest.csv` or `.parquet`; columns `id`, `label`, `split` (train, valid, test), one column for each
    stream with a path relative to the table, and any others, such as speaker.

    Args:
        root: the folder that holds the manifest, the manifest, or a prepared folder.
        streams: stream -> how it is read, as `{"kind": "Frames", "num_frames": 25, "size": 64}` (kinds: `EXTRACTORS`);
            without a kind the one that fits the files (of arrays, the first). None: every column that names files.
        label: column of the labels.
        split: column of the splits.
        group: column of subjects or speakers, none of whom two splits may share; none: rows are independent.
        held_out: valid, test -> its groups; all others train, whatever the split column says. None: the column decides.
        task: classification, regression, or auto (by the labels, see `Labels.read`).
        valid_fraction: of the training rows, for validation, where no row is marked valid.
        test_fraction: of all rows, drawn for the test (whole groups, equal parts of classes) where no column says it.
        augmentation: random changes in training, such as `{noise: 0.1}`; none: no change.
        workers: processes that prepare; none: one per core, but no more than there is work for.
        allow_shared_files: a file (or a key of it) may be named in several splits. Otherwise this is refused, and rows
            without a group that share a file are one group.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.datasets import Manifest
        >>> arrays = dict.fromkeys(("train", "valid", "test"), np.random.randn(9, 3))
        >>> rows = [("id", "label", "split", "motion"), *((name, 1.5, name, f"m.npz#{name}") for name in arrays)]
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/m.npz", **arrays)
        ...     np.savetxt(f"{folder}/manifest.csv", rows, fmt="%s", delimiter=",")
        ...     Manifest(Path(folder)).splits().channels
        {'motion': 3}
    """

    reading: ClassVar = ("streams", "label", "split", "group", "held_out", "task", "allow_shared_files")

    def __init__(
        self,
        root: Path,
        streams: dict[str, dict[str, Any]] | None = None,
        label: str = "label",
        split: str = "split",
        group: str | None = None,
        held_out: dict[str, list[str]] | None = None,
        task: TaskOption = "auto",
        valid_fraction: float = 0.15,
        test_fraction: float = 0.2,
        augmentation: Augmentation | None = None,
        workers: int | None = None,
        allow_shared_files: bool = False,
    ) -> None:
        self.root, self.workers = Path(root), workers
        self.valid_fraction, self.test_fraction = valid_fraction, test_fraction
        self.streams, self.stream_options = tuple(streams or ()), streams or {}
        self.label, self.split, self.group, self.held_out = label, split, group, held_out
        self.task: TaskOption = task
        self.allow_shared_files, self.augmentation = allow_shared_files, augmentation

    @cached_property
    def table(self) -> ManifestTable:
        """The manifest; see `ManifestTable` for what is refused."""
        options = {name: getattr(self, name) for name in self.reading if name != "streams"}
        return ManifestTable(self.root, self.stream_options, **options)

    @cached_property
    def classes(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]  # the table tells
        """By the labels; none where a prepared folder tells."""
        return [] if self.is_prepared else self.table.classes

    @cached_property
    def extraction(self) -> Mapping[str, Extractor]:
        """By the options and the files; none where a prepared folder tells."""
        return {} if self.is_prepared else self.table.extraction

    def items(self) -> list[RawItem]:
        """One for each row, in the order of ids."""
        return self.table.items()

    def missing(self) -> list[str]:
        """Files that the table names and that are not there."""
        return [
            f"no file '{file}', expected the {stream} of sample '{item.id}'"
            for item in self.items()
            for stream, file in item.files.items()
            if not split_key(file)[0].is_file()
        ]

    def check_options(self, folder: PreparedFolder) -> None:
        """Check the options of every data set, and those of each stream."""
        super().check_options(folder)
        for stream, options in self.stream_options.items():
            made_with = folder.info.get("extraction", {}).get(stream, {})
            for name, asked in options.items():
                check_made_with(folder.root, name, asked, made_with.get(name))

    def parts(self, folder: PreparedFolder) -> Mapping[str, Rows]:
        """By the table's column of splits."""
        rows: list[dict[str, Any]] = [
            {**row, "label": int(row["label"]) if folder.classes else float(row["label"])} for row in folder.rows
        ]
        indices = split_rows(rows, folder.classes, self.valid_fraction, f"'{self.root}'", self.test_fraction)
        return {part: [folder.rows[index] for index in of_part] for part, of_part in indices.items()}
