"""Archives from strangers: nothing is written outside the target folder, and nothing before it has been looked at."""

import gzip
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from msafusion.data.download.fetch import DownloadError, check_space
from msafusion.files.reading import MAX_RATIO, max_size, reading
from msafusion.files.zip_file import members_of

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
HEADER = 512
"""Bytes that a member takes beside its own, as many as it has in a tar."""
CLUTTER = ("__MACOSX", ".DS_Store")
"""What macOS adds to archives; left out."""


class BrokenArchive(DownloadError):
    """An archive that cannot be read: cut off, or something else under its name."""


@dataclass(frozen=True)
class _Member:
    name: str
    bytes: int
    kind: str  # file, folder, or what it is else
    info: zipfile.ZipInfo | tarfile.TarInfo


def is_archive(file: str | Path) -> bool:
    """Whether `unpack` takes it, by its name."""
    return str(file).lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path) -> list[Path]:
    """Unpack a .zip, .tar, .tar.gz or .tgz into a folder.

    Its files appear one by one, each whole, after all of them have been unpacked beside; then a marker for `unpacked`
    is written. After an interruption it starts again.

    Args:
        archive: the archive; it stays.
        target: the folder; made where it is not there.

    Returns:
        The files, below `target`.

    Raises:
        BrokenArchive: it is cut off or not an archive.
        DownloadError: a member would be outside the folder, is a link or device, or it expands beyond the limit or the
            free space; nothing is unpacked then.
    """
    target.mkdir(parents=True, exist_ok=True)
    marker, scratch = _marker(archive.name, target), target / f".unpacking-{archive.name}"
    marker.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with reading(archive, "a whole archive", refused=BrokenArchive), ExitStack() as stack:
            content = _opened(archive, stack)
            members = _checked(archive, _members(content))
            check_space(target, sum(member.bytes for member in members), f"'{archive}' unpacked")
            files = [member for member in members if member.kind == "file" and not _clutter(member.name)]
            for member in files:
                path = scratch / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with _member(content, member) as source, path.open("wb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
        moved = {member.name: _move(scratch, target, member.name) for member in files}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sizes = {name: path.stat().st_size for name, path in moved.items()}
    waiting = marker.with_name(f"{marker.name}.part")
    waiting.write_text(json.dumps(sizes, indent=0) + "\n")
    waiting.replace(marker)
    return list(moved.values())


def is_unpacked(name: str, target: Path) -> bool:
    """Whether an archive of this name has been unpacked into `target`, and all its files are still there."""
    try:
        sizes = json.loads(_marker(name, target).read_text())
        return all((target / path).stat().st_size == size for path, size in sizes.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def _marker(name: str, target: Path) -> Path:
    return target / f".{name}.unpacked"


def _clutter(name: str) -> bool:
    return any(part in CLUTTER for part in PurePosixPath(name).parts)


def _opened(archive: Path, stack: ExitStack) -> zipfile.ZipFile | tarfile.TarFile:
    if not archive.is_file():
        raise DownloadError(f"no file '{archive}', expected an archive; check the path.")
    if archive.name.lower().endswith(".zip"):
        return stack.enter_context(zipfile.ZipFile(archive))
    if is_archive(archive):
        return stack.enter_context(tarfile.open(fileobj=stack.enter_context(_opened_tar(archive)), mode="r:"))
    raise DownloadError(f"'{archive}' is not an archive, expected {', '.join(SUFFIXES)}; unpack it yourself.")


def _opened_tar(archive: Path) -> BinaryIO | gzip.GzipFile:
    return _BoundedGzip(archive) if archive.name.lower().endswith("gz") else archive.open("rb")


class _BoundedGzip(gzip.GzipFile):
    """Reads as much at once as the file's size allows: the names of a tar's members may be as long as they declare."""

    def __init__(self, archive: Path) -> None:
        super().__init__(archive)
        self._most = max_size(archive.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        """See `gzip.GzipFile`."""
        if size is None or size < 0 or size > self._most:
            raise tarfile.ReadError("a name or a member is longer than the limit")
        return super().read(size)


def _members(content: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    if isinstance(content, zipfile.ZipFile):
        for info in members_of(content):
            mode = info.external_attr >> 16  # of Unix; 0 in archives from elsewhere
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
            kind = "link or device" if special else "folder" if info.is_dir() else "file"
            yield _Member(info.filename, info.file_size, kind, info)
    else:
        for info in content:
            plain = info.isreg() and not info.issparse()
            kind = "file" if plain else "folder" if info.isdir() else "link, device or sparse file"
            yield _Member(info.name, info.size, kind, info)
        _check_end(content)


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse a tar that stops without the empty block that ends it: members may lack.

    Python's reader takes a cut at a member's edge, or a member whose header is damaged, for the end.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        why = "no member follows, it is damaged" if any(block) else "the mark of its end lacks, it is cut off"
        raise tarfile.ReadError(f"after {len(archive.getmembers())} members {why}")


def _member(content: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    """By its place in the archive: looking for its name would take longer the more members there are."""
    if isinstance(content, zipfile.ZipFile):
        return content.open(member.info)  # pyright: ignore[reportArgumentType]
    source = content.extractfile(member.info)  # pyright: ignore[reportArgumentType]
    if source is None:
        raise tarfile.TarError(f"'{member.name}' is not a regular file")
    return source


def _checked(archive: Path, members: Iterable[_Member]) -> list[_Member]:
    """The members, refused before anything is written; one that expands beyond the limit ends the listing, too."""
    checked, total, size = [], 0, archive.stat().st_size
    for member in members:
        total += member.bytes + HEADER
        if total > max_size(size):
            raise DownloadError(
                f"'{archive}' would grow more than {MAX_RATIO} times to over {total / 1e9:,.2f} GB, expected at most "
                f"{MAX_RATIO} times; it is not unpacked, do not trust it."
            )
        parts = PurePosixPath(member.name).parts
        strange = not parts and member.name not in (".", "./")
        outside = member.name.startswith("/") or ".." in parts or "\\" in member.name
        drive = bool(parts) and ":" in parts[0]  # C:/ of Windows
        if strange or outside or drive:
            raise DownloadError(
                f"'{archive}' holds '{member.name}', expected paths below its own folder; it is not unpacked, do "
                "not trust it."
            )
        if member.kind not in ("file", "folder"):
            raise DownloadError(
                f"'{archive}' holds the {member.kind} '{member.name}', expected files and folders; it is not unpacked."
            )
        checked.append(member)
    return checked


def _move(scratch: Path, target: Path, name: str) -> Path:
    path = target / name
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise DownloadError(f"'{path}' leads out of '{target}' by a link that is there; remove the link.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return (scratch / name).replace(path)
