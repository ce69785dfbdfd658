"""What a user may name to predict from: files, folders, globs, manifests, JSON lines on standard input."""

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from msafusion.data.table_file import inside, read_manifest
from msafusion.predict.model import TrainedModel
from msafusion.predict.recording import Recording
from msafusion.preprocessing import DataError

TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Failed:
    """A recording that cannot be predicted, and why."""

    name: str
    reason: str


def recordings(names: Iterable[str], model: TrainedModel, stdin: TextIO) -> Iterator[Recording | Failed]:
    """The recordings that are named, in order; within a folder by name.

    Args:
        names: files, folders (all files below that the model can read), globs, manifests (`.csv` or `.parquet` with a
            column for each stream, or one called file), or `-` for JSON lines: a path, {"file": path} or {stream:
            path, ...}, with "id" as its name if there is one.
        model: tells which files can be read.
        stdin: where JSON lines come from.

    Raises:
        DataError: a name that stands for nothing.
    """
    for name in names:
        path = Path(name)
        if name == "-":
            yield from _lines(model, stdin)
        elif path.is_dir():
            yield from _folder(path, model)
        elif path.suffix.lower() in TABLES:
            yield from _manifest(path, model)
        elif glob.has_magic(name) and not path.exists():
            found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
            if not found:
                raise DataError(f"no file matches '{name}'; check the pattern.")
            for file in found:
                yield _file(Path(file), model)
        else:
            yield _file(path, model)


def _file(file: Path, model: TrainedModel) -> Recording | Failed:
    try:
        return Recording.of_file(file, model.extraction, model.streams)
    except (DataError, ValueError, OSError) as error:
        return Failed(str(file), str(error))


def _folder(folder: Path, model: TrainedModel) -> Iterator[Recording | Failed]:
    suffixes = {suffix for extractor in model.extraction.values() for suffix in extractor.suffixes} | {".npz"}
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    if not files:
        raise DataError(
            f"'{folder}' holds no file that the model reads ({' '.join(sorted(suffixes))}); check the path."
        )
    for file in files:
        yield _file(file, model)


def _manifest(table: Path, model: TrainedModel) -> Iterator[Recording | Failed]:
    file, rows = read_manifest(table, ())
    if not ({"file"} | set(model.streams)) & rows[0].keys():
        raise DataError(
            f"'{file}' has the columns {', '.join(rows[0])}, expected file, or one of the streams "
            f"{', '.join(model.streams)}; rename a column."
        )
    for number, row in enumerate(rows, start=1):
        where = f"'{file}', row {number}"
        name = row.get("id") or row.get("file") or f"row {number}"
        try:
            named = {column: row[column] for column in ("file", *model.streams) if row.get(column)}
            yield _named(name, {column: inside(file.parent, text, where) for column, text in named.items()}, model)
        except DataError as error:
            yield Failed(name, str(error))


def _lines(model: TrainedModel, stdin: TextIO) -> Iterator[Recording | Failed]:
    for number, line in enumerate(stdin, start=1):
        if not line.strip():
            continue
        name = f"line {number}"
        try:
            given: Any = json.loads(line)
            given = {"file": given} if isinstance(given, str) else given
            if not isinstance(given, dict) or not all(isinstance(value, str | int) for value in given.values()):
                raise DataError(f'{name} of standard input is {line.strip()[:60]!r}, expected {{"file": path}}.')
            name = str(given.get("id") or given.get("file") or name)
            named = {column: Path(str(given[column])) for column in ("file", *model.streams) if given.get(column)}
            if not named:
                raise DataError(f"{name} names no file, expected file, or one of {', '.join(model.streams)}.")
            yield _named(name, named, model)
        except json.JSONDecodeError as error:
            yield Failed(name, f"{name} of standard input is not JSON ({error}).")
        except DataError as error:
            yield Failed(name, str(error))


def _named(name: str, files: Mapping[str, Path], model: TrainedModel) -> Recording:
    """A recording of files by stream, or of the one that `file` names."""
    if "file" in files:
        return replace(Recording.of_file(files["file"], model.extraction, model.streams), name=name)
    if not files:
        raise DataError(f"'{name}' names no file, expected one of {', '.join(model.streams)}; fill it in.")
    return model.with_warnings(Recording(name, files))
