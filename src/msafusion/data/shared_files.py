"""Files that several rows of a table name: the same recording in two splits would be a test on what was trained on."""

from collections.abc import Hashable, Sequence
from pathlib import Path

from msafusion.media.stored import split_key
from msafusion.preprocessing import DataError


def check_unshared(files: Sequence[Sequence[Path]], splits: Sequence[str], ids: Sequence[str], where: str) -> None:
    """Refuse a file that rows of two splits name, by whatever path or link.

    Args:
        files: of each row.
        splits: of each row.
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
                    f"({splits[row]}), expected every file in one split; correct it, or set allow_shared_files "
                    "if it is meant."
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
    """The same for all paths of one file (links, other spellings), with the key of an array in it."""
    path, key = split_key(file)
    try:
        found = path.stat()
    except OSError:
        return str(path.absolute()), key
    return found.st_dev, found.st_ino, key
