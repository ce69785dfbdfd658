"""Zip archives from strangers: all of the members that they count are there."""

import zipfile
from collections import Counter

END, MIN_END = b"PK\x05\x06", 22
"""Signature and least length of the record at the end, which counts the members in its bytes 10 and 11."""
MAX_END = MIN_END + 2**16 - 1
UNSAID = 2**16 - 1
"""The count stands in another record (zip64), as there may be more."""


def members_of(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members of an archive.

    Raises:
        zipfile.BadZipFile: fewer than it counts (a damaged length can hide some in the comment of another), or two of
            one name.
    """
    members = archive.infolist()
    assert archive.fp is not None
    place = archive.fp.seek(0, 2)
    archive.fp.seek(max(0, place - MAX_END))
    tail = archive.fp.read(MAX_END)
    record = tail[tail.rfind(END) :]
    counted = int.from_bytes(record[10:12], "little")
    if len(record) >= MIN_END and counted != UNSAID and counted != len(members):
        raise zipfile.BadZipFile(f"it counts {counted} members and lists {len(members)}")
    names = Counter(member.filename for member in members)
    if names and (twice := names.most_common(1)[0])[1] > 1:
        raise zipfile.BadZipFile(f"it holds {twice[1]} members called '{twice[0]}', of which one would be read")
    return members
