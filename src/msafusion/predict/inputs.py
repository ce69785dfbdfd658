"""What a user may name to predict from: files, folders, globs, manifests, JSON lines on standard input."""

import glob
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msafusion.data.manifest import LANDMARKS
from msafusion.data.table_file import inside, read_manifest
from msafusion.predict.model import TrainedModel
from msafusion.predict.prediction import Failed
from msafusion.predict.recording import Recording, suffixes
from msafusion.preprocessing import DataError

TABLES = (".csv", ".parquet")


def recordings(names: Iterable[str], model: TrainedModel, stdin: Iterable[str]) -> Iterator[Recording | Failed]:
    """The recordings that are named, in order; within a folder by name.

    Args:
        names: files, folders (all files below that the model can read, hidden ones left out), globs, manifests (`.csv`
            or `.parquet` with a column for each stream, or one called file), or `-` for JSON lines: a path, {"file":
            path} or {stream: path, ...}, with "id" as its name if there is one. `<stream>_landmarks` helps to read a
            stream, as in training.
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
        elif glob.has_magic(name) and not path.exists():
            found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
            if not found:
                raise DataError(f"no file matches '{name}'; check the pattern.")
            yield from recordings(found, model, stdin)
        elif path.suffix.lower() in TABLES:
            yield from _manifest(path, model)
        else:
            yield _file(path, model)


def _file(file: Path, model: TrainedModel) -> Recording | Failed:
    try:
        return Recording.of_file(file, model.extraction, model.streams)
    except (DataError, OSError) as error:
        return Failed(str(file), str(error))


def _folder(folder: Path, model: TrainedModel) -> Iterator[Recording | Failed]:
    known = {suffix for stream in model.streams for suffix in suffixes(stream, model.extraction)} | {".npz"}
    # hidden files are no recordings: macOS writes `._` twins into archives
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
        try:
            named = {column: inside(folder, row[column], where) for column in columns if row.get(column)}
            yield Recording.named(name, named, model.extraction, model.streams)
        except (DataError, OSError) as error:
            yield Failed(name, str(error))


def _lines(model: TrainedModel, stdin: Iterable[str]) -> Iterator[Recording | Failed]:
    empty = True
    try:
        for number, line in enumerate(stdin, start=1):
            if line.strip():
                empty = False
                yield _line(f"line {number}", line, model)
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 ({error}); convert it.") from None
    if empty:
        raise DataError('standard input holds no line, expected {"file": path} in each; check what writes them.')


def _line(name: str, line: str, model: TrainedModel) -> Recording | Failed:
    try:
        given: Any = json.loads(line)
        given = {"file": given} if isinstance(given, str) else given
        if not isinstance(given, dict) or not all(isinstance(v, str) for key, v in given.items() if key != "id"):
            raise DataError(
                f'{name} of standard input is {line.strip()[:60]!r}, expected {{"file": path}}; correct it.'
            )
        name = str(given.get("id") or given.get("file") or name)
        files = {column: Path(path) for column, path in given.items() if column != "id" and path}
        return Recording.named(name, files, model.extraction, model.streams)
    except (json.JSONDecodeError, RecursionError) as error:
        return Failed(name, f"{name} of standard input is not JSON ({error}); correct it.")
    except (DataError, OSError) as error:
        return Failed(name, str(error))
