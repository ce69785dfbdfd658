"""What a user may name to predict from: files, folders, globs, manifests, JSON lines on standard input."""

import functools
import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msafusion.data.datasets.manifest_table import LANDMARKS
from msafusion.data.datasets.table_file import inside, read_manifest
from msafusion.failures import DataError, Failure, attempt
from msafusion.files.reading import parse_json
from msafusion.predict.model import TrainedModel
from msafusion.predict.prediction import Failed
from msafusion.predict.recording import Recording, suffixes

TABLES = (".csv", ".parquet")


class NothingNamed(Failed):
    """A name that stands for no recording, or the rest of one that breaks midway."""


def recordings(names: Iterable[str], model: TrainedModel, stdin: Iterable[str]) -> Iterator[Recording | Failed]:
    """The recordings that are named, in order; within a folder by name.

    Args:
        names: files, folders (all files below that the model can read, hidden ones left out), globs, manifests (`.csv`
            or `.parquet` with a column for each stream, or one called file), or `-` for JSON lines: a path, {"file":
            path} or {stream: path, ...}, with "id" as its name if there is one. `<stream>_landmarks` helps to read a
            stream, as in training.
        model: tells which files can be read.
        stdin: where JSON lines come from.

    Returns:
        What can be read, and in its place in the order why a name, or a part of it, cannot.
    """
    for name in names:
        found = _found(name, model, stdin)
        while (made := attempt(functools.partial(next, found, None), [name])) is not None:
            if isinstance(made, Failure):  # of the name as a whole: an empty folder, a broken table
                yield NothingNamed.of(name, made)
                break
            yield made


def _found(name: str, model: TrainedModel, stdin: Iterable[str]) -> Iterator[Recording | Failed]:
    path = Path(name)
    if name == "-":
        yield from _lines(model, stdin)
    elif path.is_dir():
        yield from _folder(path, model)
    elif glob.has_magic(name) and not path.exists():
        found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
        if not found:
            raise DataError(f"no file matches '{name}'; check the pattern.")
        yield from recordings(found, model, stdin)
    elif path.suffix.lower() in TABLES:
        yield from _manifest(path, model)
    else:
        yield _file(path, model)


def _recording(name: str, make: Callable[[], Recording], files: Iterable[Path | str] = ()) -> Recording | Failed:
    """A recording, or why there is none."""
    made = attempt(make, files)
    return Failed.of(name, made) if isinstance(made, Failure) else made


def _file(file: Path, model: TrainedModel) -> Recording | Failed:
    return _recording(str(file), lambda: Recording.of_file(file, model.extraction, model.streams), [file])


def _folder(folder: Path, model: TrainedModel) -> Iterator[Recording | Failed]:
    known = {suffix for stream in model.streams for suffix in suffixes(stream, model.extraction)} | {".npz"}
    # hidden files are not recordings: macOS writes `._` twins into archives
    files = (file for file in sorted(folder.rglob("[!.]*")) if file.suffix.lower() in known and file.is_file())
    empty = True
    for file in files:
        empty = False
        yield _file(file, model)
    if empty:
        raise DataError(f"'{folder}' holds no file that the model reads ({' '.join(sorted(known))}); check the path.")


def _manifest(table: Path, model: TrainedModel) -> Iterator[Recording | Failed]:
    file, rows = read_manifest(table, ())
    columns = ("file", *model.streams, *(stream + LANDMARKS for stream in model.streams))
    if not {"file", *model.streams} & rows[0].keys():
        raise DataError(
            f"'{file}' has the columns {', '.join(rows[0])}, expected file, or one of the streams "
            f"{', '.join(model.streams)}; rename a column."
        )
    folder = file.absolute().parent
    for number, row in enumerate(rows, start=1):
        where = f"'{file}', row {number}"
        name = row.get("id") or row.get("file") or f"row {number}"
        yield _recording(name, functools.partial(_row, row, columns, folder, where, name, model), [name])


def _row(
    row: Mapping[str, str], columns: Sequence[str], folder: Path, where: str, name: str, model: TrainedModel
) -> Recording:
    named = {column: inside(folder, row[column], where) for column in columns if row.get(column)}
    return Recording.named(name, named, model.extraction, model.streams)


def _lines(model: TrainedModel, stdin: Iterable[str]) -> Iterator[Recording | Failed]:
    empty = True
    try:
        for number, line in enumerate(stdin, start=1):
            if number == 1:
                line = line.removeprefix("\ufeff")  # the mark that some programs write before UTF-8
            if line.strip():
                empty = False
                yield _line(f"line {number}", line, model)
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 ({error}); convert it.") from None
    if empty:
        raise DataError('standard input holds no line, expected {"file": path} in each; check what writes them.')


def _line(place: str, line: str, model: TrainedModel) -> Recording | Failed:
    given = attempt(lambda: _parsed(place, line))
    if isinstance(given, Failure):
        return Failed.of(place, given)
    name = str(given.get("id") or given.get("file") or place)
    files = {column: path for column, path in given.items() if column != "id" and path}
    paths = {column: Path(path) for column, path in files.items()}
    return _recording(
        name, lambda: Recording.named(name, paths, model.extraction, model.streams), [place, *files.values()]
    )


def _parsed(place: str, line: str) -> dict[str, Any]:
    try:
        given: Any = parse_json(line)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise DataError(f"{place} of standard input is not JSON ({error}); correct it.") from None
    given = {"file": given} if isinstance(given, str) else given
    named = isinstance(given, dict) and isinstance(given.get("id"), str | int | float | None)
    if not named or not all(isinstance(value, str) for key, value in given.items() if key != "id"):
        raise DataError(f'{place} of standard input is {line.strip()[:60]!r}, expected {{"file": path}}; correct it.')
    return given
