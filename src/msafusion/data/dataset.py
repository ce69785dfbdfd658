"""What a data set is: raw files, samples, streams and splits. Preparing, checking and fitting are the same for all."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from msafusion.data.download import DownloadError, Source, download_parts
from msafusion.data.fitting import standardize
from msafusion.data.media import Extractor
from msafusion.data.plots import plot_sample
from msafusion.data.preparation.journal import check_made_with, plain, read_settings
from msafusion.data.preparation.prepared import INFO, PreparedFolder
from msafusion.data.preparation.preparing import prepare_cached
from msafusion.data.preparation.raw import RawItem, Verification, verify_raw
from msafusion.data.preprocessing import Augmentation, Layout, Preprocessing
from msafusion.data.samples import PARTS, Sample, Splits
from msafusion.failures import DataError
from msafusion.streams import nearest
from msafusion.text import note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]


class Dataset:
    """A data set. Its options are the arguments of its constructor, which stores them without reading any file.

    Raw files at `root` are prepared into the user's cache when they are first needed (`msafusion prepare` does the same
    ahead of time). A data set of raw files defines `items`, `extraction` and, unless its table has a column `split`,
    `part`; one that is read without preparation defines only `splits`. Instances are pickled for worker processes.

    Attributes:
        url: where the data set is described.
        license: what its publisher says about its use; empty where that is not known.
        citation: the paper to cite.
        remote: the published files, for `download`; None: there are none.
        reading: options that decide what the arrays of a sample hold, kept as attributes; those of `msafusion prepare`,
            `verify` and `plot`.
        root: the raw files, or a prepared folder.
        classes: names of the classes; none: labels are regression targets.
        streams: those that are used, in the order of the networks; none: all.
        min_steps: shorter sequences get zeros at their end.
        chosen_on_test, sentiment: see `Splits`.
        augmentation: random changes in training.
        workers: processes that prepare into the cache; None: one per core, but no more than there is work for.

    Examples:
        >>> from functools import cached_property
        >>> from pathlib import Path
        >>> from msafusion.data.datasets import Dataset
        >>> from msafusion.data.media import StoredArray
        >>> from msafusion.data.preparation import RawItem
        >>> class Gestures(Dataset):
        ...     classes = ("rest", "wave")
        ...     def __init__(self, root):
        ...         self.root = Path(root)
        ...     @cached_property
        ...     def extraction(self):
        ...         return {"motion": StoredArray("sequence", num_channels=3)}
        ...     def items(self):  # named as wave_s1.npy
        ...         names = [(file, *file.stem.split("_")) for file in sorted(self.root.glob("*.npy"))]
        ...         return [RawItem(f.stem, self.classes.index(what), who, {"motion": f}) for f, what, who in names]
        ...     def part(self, row):
        ...         return {"s1": "test", "s2": "valid"}.get(row["group"], "train")
        >>> Gestures("raw").channels()
        {'motion': 3}
    """

    url: ClassVar[str] = ""
    license: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    remote: ClassVar[Source | None] = None
    reading: ClassVar[tuple[str, ...]] = ()
    root: Path
    classes: Sequence[str] = ()
    streams: Sequence[str] = ()
    min_steps: int = 1
    chosen_on_test: bool = False
    sentiment: bool = False
    augmentation: Augmentation | None = None
    workers: int | None = None

    @property
    def name(self) -> str:
        """The name of the class, used on the command line, in recipes and in prepared folders."""
        return type(self).__name__

    @property
    def is_prepared(self) -> bool:
        """Whether `root` is a prepared folder."""
        return (self.root / INFO).is_file()

    # the raw files

    @cached_property
    def extraction(self) -> Mapping[str, Extractor]:
        """Stream -> how it is read; empty where `channels`, `layouts` and `read` are overridden."""
        return {}

    def items(self) -> list[RawItem]:
        """The samples that can be prepared, found by identifier and sorted by it.

        Raises:
            DataError: `root` holds nothing of this data set; the message says what was expected and where.
        """
        raise ValueError(
            f"{self.name} has no raw files to prepare, as training reads it as it is; leave this step out."
        )

    def missing(self) -> list[str]:
        """One line for each sample or file of the data set that should be there and is not."""
        return []

    def skipped(self) -> list[str]:
        """One line for each sample that is there and left out on purpose, with the reason."""
        return []

    def channels(self) -> dict[str, int]:
        """Stream -> channels, as they are read from raw files."""
        return {stream: extractor.channels for stream, extractor in self.extraction.items()}

    def layouts(self) -> dict[str, Layout]:
        """Stream -> layout of its arrays; empty where only the raw files tell, and a prepared folder is used."""
        return {stream: extractor.layout for stream, extractor in self.extraction.items()}

    def settings(self) -> dict[str, Any]:
        """The settings that determine the prepared arrays, as plain values; stored alongside them."""
        options = {name: plain(getattr(self, name)) for name in self.reading if name != "streams"}
        return {"extraction": {stream: extractor.as_dict() for stream, extractor in self.extraction.items()}, **options}

    def read(self, item: RawItem) -> tuple[dict[str, np.ndarray], list[str]]:
        """The arrays of one sample, and notes about them.

        Raises:
            DataError: a file is missing or broken, or holds nothing of its stream.
        """
        arrays, notes = {}, []
        for stream, extractor in self.extraction.items():
            extracted = extractor(item.files[stream], companion=item.companions.get(stream))
            arrays[stream] = extracted.values
            notes += [f"{stream}: {line}" for line in extracted.notes]
        return arrays, notes

    def download(
        self,
        parts: Sequence[str] = (),
        *,
        accept_license: bool = False,
        base_url: str | None = None,
        keep_archives: bool = False,
        console: Any = None,
    ) -> None:
        """Download what is not there yet into `root`, check it, unpack it, and record it in `download.json`.

        Args:
            parts: names or patterns, such as `video_0?`; none: the usual parts.
            accept_license: you have read `license` and accept it.
            base_url: a mirror that serves the same paths.
            keep_archives: keep archives once they are unpacked.
            console: the rich Console that shows progress; None: progress is not shown.

        Raises:
            ValueError: the license is not accepted, an unknown part, or a download that fails; whole files stay.
        """
        if self.remote is None:
            raise DownloadError(f"{self.name} cannot be downloaded by msafusion; see {self.url or 'its publisher'}.")
        if not accept_license:
            raise DownloadError(f"the license of {self.name} is not accepted: {self.license} Set accept_license=True.")
        about = {"dataset": self.name, "license": self.license, "citation": self.citation, "url": self.url}
        download_parts(self.remote, self.remote.chosen(parts), self.root, about, base_url, keep_archives, console)

    # looking at it

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Look at every file: what is there, what is missing, what is broken.

        Args:
            progress: called with (samples looked at, samples in all).
        """
        if (folder := self._prepared()) is None:
            return self.verify_raw(progress)
        return Verification({"samples": len(folder.rows)}, broken=folder.verify(progress))

    def verify_raw(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """The same for the raw files; only the start of each recording is decoded."""
        return verify_raw(self, progress)

    def sample(self, name: str) -> Sample:
        """One sample by its identifier, of the prepared folder or read from raw files.

        Raises:
            ValueError: there is none, or its files are missing or broken (DataError).
        """
        folder = self._prepared()
        rows = {row["id"]: row for row in folder.rows} if folder else {}
        items = {} if folder else {item.id: item for item in self.items()}
        if name not in {**rows, **items}:
            raise ValueError(f"no sample '{name}' in '{self.root}'; {nearest(name, {**rows, **items})}")
        if folder is not None:
            return folder.samples([rows[name]])[0]
        arrays, notes = self.read(items[name])
        for line in notes:
            note(f"sample '{name}': {line}.")
        streams = {stream: torch.from_numpy(values) for stream, values in arrays.items()}
        return {"id": name, "streams": streams, "label": items[name].label, "group": items[name].group}

    def plot(self, sample: Sample) -> "Figure":
        """A figure of a sample's streams, as they are stored; see `plot_sample`."""
        folder = self._prepared()
        classes, layouts = (folder.classes, folder.layouts) if folder else (self.classes, self.layouts())
        label = f"'{classes[int(sample['label'])]}'" if classes else f"label {sample['label']:g}"
        return plot_sample(
            sample["streams"], layouts=layouts, title=f"{sample['id']}: {label}, group {sample['group']}"
        )

    def _prepared(self) -> PreparedFolder | None:
        """The prepared folder at `root`, if it is one."""
        if self.is_prepared:
            self.check_options(folder := PreparedFolder(self.root, self.name))
            return folder
        return None

    # training on it

    def splits(self) -> Splits:
        """Prepare, check, divide and preprocess the data.

        Raises:
            ValueError: files are missing or broken (DataError), or `root` was prepared with other options.
        """
        folder = self.folder()
        names = list(self.streams or folder.channels)
        samples = {part: folder.samples(rows).only(names) for part, rows in self.parts(folder).items()}
        return Splits(
            *(samples[part] for part in PARTS),
            classes=folder.classes,
            channels={name: folder.channels[name] for name in names},
            preprocessing=self.preprocessing(folder, samples["train"]),
            refit=partial(self.preprocessing, folder),
            extraction=folder.extraction,
            chosen_on_test=self.chosen_on_test,
            sentiment=self.sentiment and not folder.classes,
        )

    def folder(self) -> PreparedFolder:
        """`root` if it is prepared, else the folder of the raw files in the cache, brought up to date; both checked."""
        root = self.root if self.is_prepared else prepare_cached(self)
        folder = PreparedFolder(root, self.name, min_steps=self.min_steps, classification=bool(self.classes))
        folder.check_streams(self.streams or folder.channels, self.layouts())
        if self.is_prepared:
            self.check_options(folder)
        folder.check_files()
        return folder

    def check_options(self, folder: PreparedFolder) -> None:
        """Refuse options of reading raw files that a prepared folder was not made with (ValueError)."""
        made_with = read_settings(folder.root).get("settings", {})
        parameters = inspect.signature(type(self)).parameters
        for name in self.reading:
            asked = plain(getattr(self, name))
            if name != "streams" and asked != plain(parameters[name].default):
                check_made_with(folder.root, name, asked, made_with.get(name))

    def part(self, row: Mapping[str, str]) -> str:
        """The split of a row of the prepared table: train, valid or test.

        Raises:
            DataError: it belongs to none.
        """
        if (part := row.get("split")) not in PARTS:
            raise DataError(
                f"sample '{row['id']}' has split '{part}', expected train, valid or test; prepare the data set again."
            )
        return str(part)

    def parts(self, folder: PreparedFolder) -> Mapping[str, Rows]:
        """Train, valid and test -> rows of the prepared table; no two splits may share a group."""
        rows: dict[str, list[Mapping[str, str]]] = {part: [] for part in PARTS}
        for row in folder.rows:
            rows[self.part(row)].append(row)
        return rows

    def preprocessing(self, folder: PreparedFolder, train: Sequence[Sample]) -> Preprocessing:
        """From stored streams to the networks' inputs; here every channel is standardised by the training samples."""
        layouts: dict[str, Layout] = {name: folder.layout(name) for name in self.streams or folder.channels}
        return standardize(train, folder, layouts, self.augmentation)
