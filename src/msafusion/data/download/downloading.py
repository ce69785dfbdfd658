"""All files of some parts of a data set into a folder: what is there stays, archives are unpacked, all is recorded."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msafusion.data.download.fetch import DownloadError, ResumableDownloader, check_space, fetch
from msafusion.data.download.sources import RemoteFile, Source
from msafusion.data.download.unpack import BrokenArchive, is_archive, is_unpacked, unpack
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

RECORD = "download.json"
"""What was downloaded from where, when, with which checksum; in the target folder."""
SECONDS_BETWEEN_LINES = 10.0


def download_parts(
    source: Source,
    parts: Sequence[str],
    target: Path,
    about: Mapping[str, str],
    base_url: str | None = None,
    keep_archives: bool = False,
    console: Any = None,
) -> None:
    """Download what is not there yet, check it, unpack it, and record it.

    Args:
        source: the published files.
        parts: names of some.
        target: the folder.
        about: what else the record holds: data set, license, ...
        base_url: a mirror that serves the same paths.
        keep_archives: keep archives once they are unpacked.
        console: the rich Console that shows progress; None: progress is not shown.

    Raises:
        ValueError: a download that fails, or a folder that cannot be written; files that were whole before it stay.
    """
    from rich.console import Console

    console = Console(quiet=True) if console is None else console
    files = source.files(parts, base_url)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"'{target}' cannot be made ({error.strerror}); choose a folder that you can write to."
        ) from None
    record = {**about, "files": _earlier(target / RECORD)}
    waiting = [file for file in files if not _done(file, target, record["files"])]
    for file in files:
        if file not in waiting:
            console.print(f"{file.name}: already there", highlight=False)
    published = sum((file.bytes or 0) - _here(target / f"{file.name}.part") for file in waiting if file.bytes)
    check_space(target, max(published, 0), f"the download of {len(waiting)} files")
    with _progress(console) as progress:
        for file in waiting:
            entry = _one(file, target, record["files"].get(file.name, {}), progress)
            record["files"][file.name] = entry
            write_json(target / RECORD, record)
            if is_archive(file.name):
                try:
                    count = len(unpack(target / file.name, target / file.folder))
                except BrokenArchive as error:
                    if file.checksum is not None:
                        raise
                    # a page served in its place, say: its checksum must not count from now on
                    del record["files"][file.name]
                    write_json(target / RECORD, record)
                    (target / file.name).unlink()
                    raise DownloadError(
                        f"{error} It was removed; run it again; if it persists, ask its publisher ({about['url']})."
                    ) from None
                if not keep_archives:
                    (target / file.name).unlink()
                entry["unpacked"] = count
                write_json(target / RECORD, record)
            told = f", {entry['unpacked']} files unpacked" if "unpacked" in entry else ""
            console.print(f"{file.name}: {entry['bytes'] / 1e6:,.1f} MB{told}; {entry['checksum']}", highlight=False)


def _earlier(file: Path) -> dict[str, Any]:
    """File name -> what was recorded of it by earlier runs into the same folder."""
    if not file.exists():
        return {}
    with reading(file, "a record of downloads", "remove it", ValueError):
        return {str(name): {**entry} for name, entry in read_json(file)["files"].items()}


def _done(file: RemoteFile, target: Path, recorded: dict[str, Any]) -> bool:
    """Its archive was checked and unpacked, and what was in it is there; the archive itself may be gone."""
    same = file.name in recorded and file.checksum in (None, recorded[file.name].get("checksum"))
    return is_archive(file.name) and same and is_unpacked(file.name, target / file.folder)


def _here(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _one(file: RemoteFile, target: Path, recorded: dict[str, Any], progress: "Progress") -> dict[str, Any]:
    """Download one file unless it is there as recorded; what to record of it.

    Where its publisher names no checksum, that of its first download counts from then on.
    """
    import pooch

    path = target / file.name
    task = progress.add_task(file.name, total=file.bytes)
    downloader = ResumableDownloader(path.with_name(f"{path.name}.part"), progress=_shown(progress, task, file.name))
    try:
        fetched = fetch(file.url, path, file.checksum or recorded.get("checksum"), downloader)
    finally:
        progress.remove_task(task)
    if not fetched and recorded:
        return recorded
    return {
        "url": file.url,
        "bytes": path.stat().st_size,
        "checksum": file.checksum or f"sha256:{pooch.file_hash(str(path), 'sha256')}",
        "checksum_published": file.checksum is not None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _shown(progress: "Progress", task: "TaskID", name: str) -> Callable[[int, int | None], None]:
    """A bar on a terminal, a line every ten seconds elsewhere."""
    last = time.monotonic()

    def show(here: int, total: int | None) -> None:
        nonlocal last
        progress.update(task, completed=here, total=total)
        if progress.disable and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            whole = "" if total is None else f" of {total / 1e6:,.1f}"
            progress.console.print(f"{name}: {here / 1e6:,.1f}{whole} MB", highlight=False)

    return show


def _progress(console: Any) -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.progress import TransferSpeedColumn as Rate

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Rate(), TimeLeft())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
