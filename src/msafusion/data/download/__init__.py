"""Public data sets from their publishers: resumable transfers, checksums, archives unpacked inside their folder."""

from msafusion.data.download.downloading import RECORD, download_parts
from msafusion.data.download.fetch import DownloadError, ResumableDownloader, fetch
from msafusion.data.download.sources import RemoteFile, Source, ZenodoSource
from msafusion.data.download.unpack import BrokenArchive, is_archive, is_unpacked, unpack

__all__ = [
    "RECORD",
    "BrokenArchive",
    "DownloadError",
    "RemoteFile",
    "ResumableDownloader",
    "Source",
    "ZenodoSource",
    "download_parts",
    "fetch",
    "is_archive",
    "is_unpacked",
    "unpack",
]
