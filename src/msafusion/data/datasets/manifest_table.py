"""What a manifest says: a table with one row per sample and one column of paths per stream."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msafusion.data.checks import check_apart, check_ids, check_streams
from msafusion.data.datasets.array_axes import find_time_axis
from msafusion.data.datasets.labelled import (
    Labels,
    TaskOption,
    check_groups,
    note_ungrouped,
    parse_splits,
    split_by_column,
)
from msafusion.data.datasets.shared_files import check_unshared, groups_by_files
from msafusion.data.datasets.table_file import inside, read_manifest
from msafusion.data.extractors import EXTRACTORS, extractor_from
from msafusion.data.media import Extractor, Frames, ImageFile, Mfcc, StoredArray
from msafusion.data.media.container import SOUNDS, VIDEOS
from msafusion.data.media.stored import ARRAYS, IMAGES, read_array, split_key
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError
from msafusion.streams import nearest
from msafusion.text import clean, note

MEDIA = (*VIDEOS, *SOUNDS, *ARRAYS, *IMAGES)
HEARD = re.compile("audio|sound|speech|voice|mfcc", re.IGNORECASE)
"""Columns of video files with such a name mean their sound."""
MAX_LOOKED_AT = 64
"""Arrays of a stream, evenly spread, by which time is told from channels."""
LANDMARKS = "_landmarks"
"""Column `<stream>_landmarks`: files that help to find the face in the stream's videos."""


class ManifestTable:
    """What a manifest says: samples, labels, splits and files. Its arguments are those of `Manifest`.

    Attributes:
        file: the table.
        classes: names of the classes; none: values.
        extraction: stream -> how it is read.

    Raises:
        DataError: a broken table, a name that cannot be used, labels or splits that do not suffice, a shared file.
    """

    def __init__(
        self,
        source: Path,
        streams: Mapping[str, dict[str, Any]],
        label: str,
        split: str,
        group: str | None,
        task: TaskOption,
        held_out: Mapping[str, Sequence[str]] | None,
        allow_shared_files: bool,
    ) -> None:
        self.group, self.label, self.split = group, label, split
        needed = ("id", label, *([group] if group else []))
        of_splits = () if held_out or split == "split" else (split,)
        self.file, self.rows = read_manifest(source, (*needed, *of_splits), (split,))
        drawn = not held_out and split not in self.rows[0]
        if drawn:  # the data set draws them, with a note
            self.rows = [{**row, split: ""} for row in self.rows]
        if held_out:
            part_of = self._part_of_groups(held_out)
            self.rows = [{**row, split: part_of.get(row[group] if group else "", "train")} for row in self.rows]
        parts = parse_splits([row[split] for row in self.rows], f"'{self.file}', {split}")
        self.rows = [{**row, split: part} for row, part in zip(self.rows, parts, strict=True)]
        check_ids((row["id"] for row in self.rows), f"'{self.file}'", "rename it")
        labels = Labels.read([row[label] for row in self.rows], task, f"'{self.file}', {label}")
        self.classes, self._values = labels.classes, labels.values
        asked = self._streams(streams)
        named = [
            [inside(self.file.parent, row[name], f"'{self.file}', row {number}, {name}") for name in asked if row[name]]
            for number, row in enumerate(self.rows, start=1)
        ]
        if not allow_shared_files:
            of_rows = [row[group] for row in self.rows] if drawn and group else parts
            check_unshared(named, of_rows, [row["id"] for row in self.rows], f"'{self.file}'")
        if group:
            self._groups = [row[group] for row in self.rows]
            check_groups(self._groups, f"'{self.file}', {group}")
        else:
            ids = [row["id"] for row in self.rows]
            self._groups = ids if allow_shared_files else groups_by_files(named, ids)
        whole = [
            {"id": row["id"], "split": row[split], "group": of_row, "label": value}
            for row, of_row, value in zip(self.rows, self._groups, labels.values, strict=True)
        ]
        if not drawn:
            split_by_column(whole, labels.classes, f"'{self.file}'")  # before hours of work
        self.extraction = {name: self._reading(name, dict(options)) for name, options in asked.items()}
        guessed = [f"{name} as {self.extraction[name].described}" for name in asked if "kind" not in asked[name]]
        if guessed:
            note(f"'{self.file}': read by the kind of each column's first file: {', '.join(guessed)}.")
        used = {*needed, split, *asked, *(name + LANDMARKS for name in asked)}
        if unused := [name or "(no name)" for name in self.rows[0] if name not in used]:
            note(f"'{self.file}': the columns {', '.join(unused)} are not used.")
        if not group:
            note_ungrouped(unused, f"'{self.file}'")

    def _part_of_groups(self, held_out: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Group -> valid or test."""
        held_out = {part: [clean(name) for name in groups] for part, groups in held_out.items()}
        known = {row[self.group] for row in self.rows} if self.group else set()
        for part, groups in held_out.items():
            if part not in ("valid", "test"):
                raise ValueError(f"held_out names the split '{part}', expected valid and test; correct it.")
            if unknown := [name for name in groups if name not in known]:
                column = (
                    f"of the column {self.group}; {nearest(unknown[0], known)}" if self.group else "by --data.group"
                )
                raise ValueError(f"held_out names '{unknown[0]}', expected groups {column}")
        check_apart(held_out, "held_out", "correct it")
        return {name: part for part, groups in held_out.items() for name in groups}

    def _streams(self, asked: Mapping[str, dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
        """Column -> options of its reading."""
        columns = self.rows[0]
        if unknown := [name for name in asked if name not in columns]:
            raise DataError(
                f"'{self.file}' has no column for the stream '{unknown[0]}'; {nearest(unknown[0], columns)}"
            )
        found = asked or {
            name: {}
            for name in columns
            if name not in ("id", self.label, self.split, self.group)
            and not name.endswith(LANDMARKS)
            and any(split_key(row[name])[0].suffix.lower() in MEDIA for row in self.rows)
        }
        if not found:
            raise DataError(
                f"'{self.file}' has no column of files ({' '.join(MEDIA)}), expected one a stream; add them."
            )
        check_streams(found, f"'{self.file}'", "rename the column")
        return found

    def _files(self, stream: str) -> Iterator[Path]:
        """Those that are named in a column."""
        for number, row in enumerate(self.rows, start=1):
            if row[stream]:
                yield inside(self.file.parent, row[stream], f"'{self.file}', row {number}, {stream}")

    def _reading(self, stream: str, options: dict[str, Any]) -> Extractor:
        """How a stream's files are read."""
        file = next(self._files(stream), None)
        if file is None:
            raise DataError(
                f"'{self.file}': no row names a file of the stream '{stream}'; fill the column, or drop it."
            )
        suffix = split_key(file)[0].suffix.lower()
        try:
            if "kind" in options:
                return extractor_from(options)
            if suffix in ARRAYS:
                return self._like_the_first(stream, options)
            if suffix in IMAGES:
                return ImageFile(**options)
            if suffix in SOUNDS or (suffix in VIDEOS and HEARD.search(stream)):
                return Mfcc(**{"rate": 16000, "offset": 0.0, "seconds": None, **options})
            if suffix in VIDEOS:
                return Frames(**{"num_frames": 16, "size": 112, "face": "none", **options})
        except TypeError as error:
            raise DataError(f"stream '{stream}' cannot be read by {options}: {error}; correct its options.") from None
        raise DataError(
            f"'{self.file}': '{file.name}' of stream '{stream}' ends in '{suffix}', expected {' '.join(MEDIA)}; name a "
            f"kind ({', '.join(EXTRACTORS)})."
        )

    def _like_the_first(self, stream: str, options: dict[str, Any]) -> StoredArray:
        """How arrays are read, by the first that can be; broken ones fail as samples of their own."""
        problems = []
        for file in self._files(stream):
            try:
                found = StoredArray.like(file, **options)
            except DataError as error:
                problems.append(error)
                continue
            if found.layout != "sequence" or "time_axis" in options:
                return found
            return StoredArray.like(file, **options, time_axis=self._time_axis(stream))
        raise problems[0]

    def _time_axis(self, stream: str) -> int:
        """Of the arrays of a stream, 0 where they do not tell; says so then, and where it is 1."""
        files = list(self._files(stream))
        arrays = []
        for file in files[:: -(-len(files) // MAX_LOOKED_AT)]:
            with suppress(DataError):
                arrays.append(read_array(file))
        axis = find_time_axis(arrays)
        option = "set time_axis in the options of the stream where this is wrong"
        if axis == 1:
            note(f"'{self.file}': by its values, stream '{stream}' is (channels, time); {option}.")
        if axis is None:
            note(
                f"'{self.file}': the values of stream '{stream}' do not tell time from channels, taken for (time, "
                f"channels); {option}."
            )
        return axis or 0

    def items(self) -> list[RawItem]:
        """One for each row, in the order of ids."""
        items = []
        of_rows = zip(self.rows, self._groups, self._values, strict=True)
        for number, (row, group, value) in enumerate(of_rows, start=1):
            where = f"'{self.file}', row {number}"
            files = {name: inside(self.file.parent, row[name], f"{where}, {name}") for name in self.extraction}
            companions = {
                name: inside(self.file.parent, row[name + LANDMARKS], f"{where}, {name}{LANDMARKS}")
                for name in self.extraction
                if row.get(name + LANDMARKS)
            }
            items.append(RawItem(row["id"], value, group, files, companions, {"split": row[self.split]}))
        return sorted(items, key=lambda item: item.id)
