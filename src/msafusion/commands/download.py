"""The command `msafusion download`: a public data set, or parts of it, into a folder, once its licence is accepted."""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.progress import TransferSpeedColumn as Rate

from msafusion.commands.parser import parse, verb_parser
from msafusion.data.download import (
    SOURCES,
    BrokenArchive,
    DownloadError,
    RemoteFile,
    ResumableDownloader,
    Source,
    fetch,
    is_archive,
    is_unpacked,
    unpack,
)
from msafusion.data.download.fetch import check_space
from msafusion.data.preparation.progress import SECONDS_BETWEEN_LINES
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading
from msafusion.streams import nearest

RECORD = "download.json"
"""What was downloaded from where, when, with which checksum; in the target folder."""


def run_download(arguments: Sequence[str]) -> None:
    """`msafusion download DATASET TARGET`: download what is not there yet, check it, unpack it, and record it.

    Raises:
        ValueError: an unknown data set or part, a licence that is not accepted, or a download that fails; files that
            were whole before it stay.
    """
    parser = verb_parser("download", "Get a public data set from its publisher.", loads=False)
    parser.add_argument("dataset", type=str, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("target", type=Path, help="folder that it goes into")
    parser.add_argument(
        "--parts",
        type=str,
        nargs="+",
        default=[],
        help="parts or patterns, such as 'video_0?' audio (default: the usual)",
    )
    parser.add_argument("--accept_licence", action="store_true", help="you have read the licence and accept it")
    parser.add_argument("--keep_archives", action="store_true", help="keep archives once they are unpacked")
    parser.add_argument("--base_url", type=str | None, default=None, help="a mirror that serves the same paths")
    given = parse(parser, arguments)
    if given.dataset not in SOURCES:
        raise ValueError(f"unknown data set '{given.dataset}'; {nearest(given.dataset, SOURCES)}")
    source, target = SOURCES[given.dataset], given.target
    parts = source.chosen(given.parts)
    if target.exists() and not target.is_dir():
        raise ValueError(f"'{target}' is a file, expected a folder to download into; choose another.")
    console = Console()
    _agree(source, parts, given.accept_licence, console)
    files = source.files(parts, given.base_url)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"'{target}' cannot be made ({error.strerror}); choose a folder that you can write to."
        ) from None
    about = {"dataset": given.dataset, "licence": source.licence, "citation": source.citation, "page": source.page}
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
                        f"{error} It was removed; run it again; if it persists, ask its publisher ({source.page})."
                    ) from None
                if not given.keep_archives:
                    (target / file.name).unlink()
                entry["unpacked"] = count
                write_json(target / RECORD, record)
            told = f", {entry['unpacked']} files unpacked" if "unpacked" in entry else ""
            console.print(f"{file.name}: {entry['bytes'] / 1e6:,.1f} MB{told}; {entry['checksum']}", highlight=False)
    console.print(f"{source.title} is in {target}, recorded in {target / RECORD}", highlight=False)


def _agree(source: Source, parts: Sequence[str], accepted: bool, console: Console) -> None:
    """Show the licence, and go on only where it is accepted."""
    left = [part for part in source.parts if part not in parts]
    console.print(
        f"{source.title}\nparts: {', '.join(parts)}" + (f" (not: {', '.join(left)})" if left else ""),
        f"licence: {source.licence}\ncite: {source.citation}\nsee: {source.page}",
        sep="\n",
        highlight=False,
    )
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ValueError(f"the licence of {source.title} is not accepted; read it above and add --accept_licence.")
    if input("Do you accept this licence? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError(f"the licence of {source.title} is not accepted; nothing was downloaded.")


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


def _one(file: RemoteFile, target: Path, recorded: dict[str, Any], progress: Progress) -> dict[str, Any]:
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


def _shown(progress: Progress, task: TaskID, name: str) -> Callable[[int, int | None], None]:
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


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Rate(), TimeLeft())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
