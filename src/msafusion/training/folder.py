"""The folder that a command writes its run into: one process at a time, and only what it wrote is ever deleted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.fabric.utilities.rank_zero import rank_zero_only

from msafusion.files.links import check_no_links

LOCK = ".lock"
MODEL = ("model.safetensors", "config.json")
"""What `save_model` writes into a folder."""
MAX_LISTED = 3


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder until the context ends, however the process ends; the folder may be new.

    With several devices, the first one's process holds the lock for those of the others.

    Raises:
        ValueError: another process holds it, it holds links, or it cannot be made.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_no_links(folder.rglob("*"), "put what it leads to in its place, or choose another --out")
        lock = FileLock(folder / LOCK, blocking=False)
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"'{folder}' is in use by another process; wait until that one ends, or choose another --out."
        ) from None
    except OSError as error:
        raise ValueError(f"cannot write into '{folder}' ({error.strerror}); choose another --out.") from None
    with lock:
        yield


def holds_anything(folder: Path) -> bool:
    """Whether there is something else than the lock."""
    return folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir()))


def remove_written(folder: Path, patterns: Sequence[str]) -> None:
    """Delete all files of a run, and the folders that are then empty.

    Args:
        folder: of the run.
        patterns: of the files that a run writes, relative to the folder, `*` standing for part of one name; with `/**`
            at the end everything below. Their unfinished forms (`.name`, `.name.<process>`) count as well.

    Raises:
        ValueError: there is anything else, which is named; nothing has been deleted.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    others = [path for path in found if path.is_symlink() or not _written(path.relative_to(folder), patterns)]
    if others:
        names = ", ".join(f"'{path.relative_to(folder)}'" for path in others[:MAX_LISTED])
        more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
        raise ValueError(
            f"'{folder}' also holds files that no run has written ({names}{more}), so it is not overwritten; move "
            "them, or choose another --out."
        )
    for path in found:
        if path.name != LOCK:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):  # deepest first
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _written(file: Path, patterns: Sequence[str]) -> bool:
    *above, name = file.parts
    names = {name}
    if name.startswith("."):
        names |= {name[1:], name[1:].rpartition(".")[0]}
    return (not above and name == LOCK) or any(
        _matches((*above, name), pattern.split("/")) for name in names for pattern in patterns
    )


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        parts = parts[: len(pattern)] if len(parts) > len(pattern) else ()
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
