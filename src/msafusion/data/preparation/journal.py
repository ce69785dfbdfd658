"""What a prepared folder remembers of how it was made: its settings, and one line for each sample that is done.

`settings.json` holds the data set, its place and settings, and the versions of the libraries, and is written
first; `journal.jsonl` gets a line {"id", "files", "row", "arrays", "notes"} when a sample is done.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from msafusion.data.checks import can_be_sample, can_be_stream
from msafusion.data.media.stored import split_key
from msafusion.data.preparation.raw import RawItem
from msafusion.data.preparation.writing import INFO, TABLE, array_file
from msafusion.files.json_file import write_json
from msafusion.files.links import check_no_links
from msafusion.files.reading import read_json, reading

if TYPE_CHECKING:
    from msafusion.data.dataset import Dataset

SETTINGS, JOURNAL, REPORT, ERRORS = "settings.json", "journal.jsonl", "report.json", "errors.log"
LIBRARIES = ("msafusion", "numpy", "av", "librosa", "scipy", "h5py", "onnxruntime", "pillow", "transformers")
"""Whose versions decide what arrays hold."""
Entry = dict[str, Any]
"""A line of the journal."""


class Journal:
    """The samples that are done, by identifier; the last line of an identifier counts.

    A line torn by a crash does not count: its sample is done again.
    """

    def __init__(self, target: Path, opened: TextIO) -> None:
        self.target, self._opened = target, opened
        self.entries: dict[str, Entry] = {}
        content = (target / JOURNAL).read_bytes()
        for line in content.splitlines():
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                kept = {name: entry[name] for name in ("id", "files", "row", "arrays", "notes")}
                if can_be_sample(kept["id"]) and all(map(can_be_stream, kept["arrays"])):  # clearing stays inside
                    self.entries[kept["id"]] = kept
        if content and not content.endswith(b"\n"):
            opened.write("\n")

    def has(self, plan: Entry, streams: Mapping[str, int]) -> bool:
        """Whether the arrays of a sample are there, made from files and a row as in `plan`."""
        entry = self.entries.get(plan["id"])
        if entry is None or any(entry[name] != plan[name] for name in ("files", "row")):
            return False
        try:
            return all(
                array_file(self.target, stream, plan["id"]).stat().st_size == entry["arrays"][stream]["bytes"]
                for stream in streams
            )
        except (FileNotFoundError, KeyError, TypeError):
            return False

    def add(self, entry: Entry) -> None:
        """Note that a sample is done."""
        self.entries[entry["id"]] = entry
        self._opened.write(json.dumps(entry) + "\n")
        self._opened.flush()

    def clear(self) -> None:
        """Delete all that preparing has put into the folder, and nothing else."""
        arrays = {(stream, name) for name, entry in self.entries.items() for stream in entry["arrays"]}
        for stream, name in arrays:
            array_file(self.target, stream, name).unlink(missing_ok=True)
        for stream in {stream for stream, _ in arrays}:
            with suppress(OSError):  # what is not ours is in it
                (self.target / stream).rmdir()
        for name in (TABLE, INFO, REPORT, SETTINGS, ERRORS):
            (self.target / name).unlink(missing_ok=True)
        self._opened.truncate(0)
        self.entries = {}


def plan_of(item: RawItem, stat: Callable[[Path], list[Any] | None]) -> Entry:
    """What decides whether a sample must be done again: its row, and its raw files as they are now.

    Files count by name, size and time of change; the folder that they lie in counts once, in the settings.
    """
    files = {stream: stat(file) for stream, file in item.files.items()}
    files |= {f"{stream} companion": stat(file) for stream, file in item.companions.items()}
    return {"id": item.id, "files": files, "row": row_of(item)}


def row_of(item: RawItem) -> dict[str, Any]:
    """Of the prepared table."""
    return {"id": item.id, "label": item.label, "group": item.group, **item.columns}


def file_state(file: Path) -> list[Any] | None:
    """Name, size (bytes) and time of change (ns) of a file (of `x.npz` for `x.npz#key`); None where there is none."""
    try:
        state = split_key(file)[0].stat()
    except OSError:
        return None
    return [file.name, state.st_size, state.st_mtime_ns]


@contextmanager
def open_journal(data: "Dataset", target: Path, *, overwrite: bool, wait: bool) -> Iterator[Journal]:
    """The journal of a folder that this process prepares alone until the context ends; it may be new.

    Args:
        data: what is prepared.
        target: the folder.
        overwrite: delete what was prepared there before.
        wait: until another process that prepares the folder has ended.

    Raises:
        ValueError: the folder holds something else, was prepared from another source or with other settings, is being
            prepared, or cannot be written.
    """
    settings = _settings(data)
    try:
        _check_ours(target)
        ours = all((target / name).exists() for name in (SETTINGS, JOURNAL))
        target.mkdir(parents=True, exist_ok=True)
        check_no_links(target.iterdir(), "put what it leads to in its place, or choose another target")
        opening = (target / JOURNAL).open("a", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"'{target}' cannot be written ({error.strerror}); choose another target.") from None
    with opening as opened:
        _lock(opened, target, wait)
        journal = Journal(target, opened)
        if overwrite and ours:  # whatever its settings are, damaged ones included
            journal.clear()
        elif saved := read_settings(target):
            _check_source(target, saved["source"], settings["source"])
            for name in ("dataset", "settings", "streams", "layouts"):
                if difference := _difference(name, saved[name], settings[name]):
                    raise ValueError(
                        f"'{target}' was prepared with {difference}; choose another target, or prepare all of it "
                        "again (--overwrite)."
                    )
        if not (target / SETTINGS).exists():
            write_json(target / SETTINGS, settings)
        yield journal


def read_settings(target: Path) -> dict[str, Any]:
    """The settings with which a folder was prepared; empty where there are none.

    Raises:
        ValueError: the file is not what preparing writes.
    """
    file = target / SETTINGS
    if not file.exists():
        return {}
    with reading(file, "the settings of a prepared folder", "choose another target", ValueError):
        saved = dict(read_json(file, "choose another target"))
        if lacking := {"dataset", "source", "settings", "streams", "layouts", "versions"} - saved.keys():
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        return saved


def check_made_with(root: Path, name: str, asked: Any, before: Any) -> None:
    """Refuse a reading option that has another value than the one the prepared folder was made with.

    Raises:
        ValueError: it was.
    """
    if plain(asked) != before:
        raise ValueError(
            f"'{root}' was prepared with {name} {before}, this run asks for {asked}; prepare it again with {name} "
            f"{asked}, or give the raw data."
        )


def plain(value: Any) -> Any:
    """A value as JSON gives it back, so that tuples equal lists; paths by where they lead."""
    return str(value.expanduser().resolve()) if isinstance(value, Path) else json.loads(json.dumps(value))


def versions() -> dict[str, str]:
    """Of the installed libraries that decide what arrays hold."""
    found = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _settings(data: "Dataset") -> dict[str, Any]:
    content = {"dataset": data.name, "settings": data.settings(), "streams": data.channels()}
    content |= {"source": plain(data.root), "layouts": data.layouts(), "versions": versions()}
    return plain(content)


def _check_source(target: Path, saved: str, asked: str) -> None:
    """Files of two data sets may agree in name, size and time, and are not the same for that."""
    if saved != asked:
        raise ValueError(
            f"'{target}' was prepared from '{saved}', this run has '{asked}'; choose another target, or prepare all of "
            "it again (--overwrite), also where the data set was moved."
        )


def _check_ours(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise ValueError(f"'{target}' is a file, expected a folder; choose another target.")
    names = {file.name for file in target.iterdir()} if target.exists() else set()
    # hidden: what another process is about to move into place
    others = sorted(name for name in names - {JOURNAL} if not name.startswith("."))
    if others and SETTINGS not in names:
        raise ValueError(
            f"'{target}' holds other files ('{others[0]}'), expected an empty folder or one that `msafusion prepare` "
            "began; choose another target."
        )


def _lock(opened: TextIO, target: Path, wait: bool) -> None:
    """Held until the file is closed, however the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps two runs from the same work there, and each writes whole files
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise ValueError(f"another process is preparing '{target}'; wait for it, or choose another target.") from None


def _difference(name: str, saved: Any, asked: Any) -> str:
    """The first setting that differs, and its two values; empty where all are equal."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for key in dict.fromkeys([*saved, *asked]):
            path = key if name == "settings" else f"{name}.{key}"
            if found := _difference(path, saved.get(key), asked.get(key)):
                return found
        return ""
    return "" if saved == asked else f"{name} = {json.dumps(saved)}, this run has {json.dumps(asked)}"
