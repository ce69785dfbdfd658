"""Public data sets from their publishers: resumable transfers, checksums, archives unpacked inside their folder."""

from msafusion.data.download.fetch import DownloadError, ResumableDownloader, fetch
from msafusion.data.download.sources import SOURCES, RemoteFile, Source, ZenodoSource
from msafusion.data.download.unpack import BrokenArchive, is_archive, is_unpacked, unpack

__all__ = [
    "SOURCES",
    "BrokenArchive",
    "DownloadError",
    "RemoteFile",
    "ResumableDownloader",
    "Source",
    "ZenodoSource",
    "fetch",
    "is_archive",
    "is_unpacked",
    "unpack",
]
