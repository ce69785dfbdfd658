"""Where the files of a data set are published, and in which parts.

A checksum is named only where the publisher names one: Zenodo lists an md5 for each file of a record, which is asked
for at download time; UTD-MHAD and CMU-MOSEI publish none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit, urlunsplit

from msafusion.data.download.fetch import DownloadError, read_json
from msafusion.streams import nearest


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        name: its name on disk.
        url: where it is.
        bytes: its size, where published.
        checksum: "md5:..." or "sha256:...", where published.
        folder: the folder below the target that it is unpacked in; empty: the target itself.
    """

    name: str
    url: str
    bytes: int | None = None
    checksum: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Source:
    """The published files of a data set.

    Attributes:
        parts: name of a part -> address of its file.
        usual: the parts that are downloaded where none are asked for.
        folders: name of a part -> folder below the target that it is unpacked in, where it is not the target itself.
    """

    parts: Mapping[str, str]
    usual: Sequence[str]
    folders: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, patterns: Sequence[str] = ()) -> list[str]:
        """The parts that match one of the patterns, as `video_0?` does; without patterns the usual ones.

        Raises:
            ValueError: a pattern matches no part.
        """
        patterns = patterns or self.usual
        for pattern in patterns:
            if not any(fnmatchcase(part, pattern) for part in self.parts):
                raise ValueError(f"the data set has no part '{pattern}'; {nearest(pattern, self.parts)}")
        return [part for part in self.parts if any(fnmatchcase(part, pattern) for pattern in patterns)]

    def files(self, parts: Sequence[str], base_url: str | None = None) -> list[RemoteFile]:
        """The files of some parts.

        Args:
            parts: names from `parts`.
            base_url: scheme and host of a mirror that serves the same paths, which replace the publisher's.

        Raises:
            DownloadError: the publisher's list of files cannot be read, or lacks one.
        """
        return [self._file(part, rebase_url(self.parts[part], base_url)) for part in parts]

    def _file(self, part: str, url: str) -> RemoteFile:
        return RemoteFile(urlsplit(url).path.rpartition("/")[2], url, folder=self.folders.get(part, ""))


@dataclass(frozen=True)
class ZenodoSource(Source):
    """A data set in records of zenodo.org, whose API lists size and md5 of each file.

    `parts` names each file as `<record>/<file name>`.
    """

    def files(self, parts: Sequence[str], base_url: str | None = None) -> list[RemoteFile]:
        """The files of some parts, with their published sizes and checksums; asks Zenodo once per record."""
        listings: dict[str, dict[str, tuple[int, str]]] = {}
        found = []
        for part in parts:
            record, _, name = self.parts[part].partition("/")
            address = rebase_url(f"https://zenodo.org/api/records/{record}", base_url)
            if record not in listings:
                listings[record] = _listing(address)
            if name not in listings[record]:
                raise DownloadError(
                    f"'{address}' lists no file '{name}' ({nearest(name, listings[record])}); ask its publisher."
                )
            size, checksum = listings[record][name]
            folder = self.folders.get(part, "")
            found.append(RemoteFile(name, f"{address}/files/{name}/content", size, checksum, folder))
        return found


def rebase_url(url: str, base_url: str | None) -> str:
    """An address on a mirror: its path below the mirror's address.

    Raises:
        ValueError: the mirror's address is not http or https.
    """
    if base_url is None:
        return url
    base, path = urlsplit(base_url), urlsplit(url).path
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ValueError(f"--base_url is '{base_url}', expected http://host or https://host of a mirror; correct it.")
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, "", ""))


def _listing(address: str) -> dict[str, tuple[int, str]]:
    """File name -> (bytes, "md5:...") of a Zenodo record."""
    try:
        return {str(file["key"]): (int(file["size"]), str(file["checksum"])) for file in read_json(address)["files"]}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"'{address}' is not a list of files as Zenodo gives it ({error!r}); try again later."
        ) from None
