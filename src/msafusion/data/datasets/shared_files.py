"""Files that several rows of a table name: the same recording in two splits would be a test on what was trained on."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from msafusion.data.media.stored import split_key
from msafusion.failures import DataError
from msafusion.files.numpy_file import open_npz


def check_unshared(files: Sequence[Sequence[Path]], splits: Sequence[str], ids: Sequence[str], where: str) -> None:
    """Refuse a file that rows of two splits name, by whatever path or link.

    Args:
        files: of each row.
        splits: of each row; its group where splits are drawn.
        ids: of each row.
        where: the table, for messages.

    Raises:
        DataError: there is one.
    """
    first: dict[Hashable, int] = {}
    for row, of_row in enumerate(files):
        for file in of_row:
            other = first.setdefault(_identity(file), row)
            if splits[other] != splits[row]:
                raise DataError(
                    f"{where}: '{file}' is named by '{ids[other]}' ({splits[other]}) and by '{ids[row]}' "
                    f"({splits[row]}), expected every file in one split (or group, where splits are drawn); correct "
                    "it, or set allow_shared_files if it is meant."
                )


def groups_by_files(files: Sequence[Sequence[Path]], ids: Sequence[str]) -> list[str]:
    """The group of each row: its id, or that of the first row of all that share files with it."""
    group = list(range(len(ids)))

    def root(row: int) -> int:
        while group[row] != row:
            group[row] = row = group[group[row]]
        return row

    first: dict[Hashable, int] = {}
    for row, of_row in enumerate(files):
        for file in of_row:
            one, other = sorted((root(row), root(first.setdefault(_identity(file), row))))
            group[other] = one
    return [ids[root(row)] for row in range(len(ids))]


def _identity(file: Path) -> Hashable:
    """The same for all paths of one file (links, other spellings), with the key of an array in it if it has several."""
    path, key = split_key(file)
    if key and _has_one_array(path):
        key = ""
    try:
        found = path.stat()
    except OSError:
        return str(path.absolute()), key
    return found.st_dev, found.st_ino, key


@lru_cache(maxsize=1 << 16)  # a table names the same files again and again
def _has_one_array(path: Path) -> bool:
    """Whether `x.npz` means the same as `x.npz#key`; a broken file is told where it is read."""
    with suppress(Exception), open_npz(path) as arrays:
        return len(arrays) <= 1
    return False
