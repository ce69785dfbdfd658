"""One file over HTTP: resumed where it stopped, checked, and put in place only when it is whole."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""
PIECE = 1 << 14
"""Bytes read at once, and the most that a cut connection costs."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be better a moment later."""


class DownloadError(ValueError):
    """A file cannot be downloaded; one line: which, why and what to do."""


class _Interrupted(Exception):
    """A transfer that may be taken up again."""


@dataclass(frozen=True)
class ResumableDownloader:
    """A downloader for pooch, which calls it with (url, file to write, pooch) and then checks the file's checksum.

    Bytes go to `part`, which outlives a failure: the next try asks for what is missing (HTTP Range, under the condition
    that the file has not changed in between), and starts again where the server does not do that.

    Attributes:
        part: the unfinished file.
        retries: tries in a row without a single new byte before it gives up.
        wait: seconds before the second try, doubled with each further one, at most 30.
        progress: called with (bytes here, bytes in all or None).
    """

    part: Path
    retries: int = 5
    wait: float = 1.0
    progress: Callable[[int, int | None], None] | None = None

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`.

        Raises:
            DownloadError: it is not there, is refused, does not fit on the disk, or the connection keeps breaking.
        """
        failures = 0
        while True:
            before = self._here()
            try:
                self._transfer(url)
                break
            except _Interrupted as error:
                failures = 1 if self._here() > before else failures + 1
                if failures >= self.retries:
                    here = self._here()
                    then = f"{here:,} bytes are kept in '{self.part}', run it again to go on from there"
                    then = then if here else "check the connection, then run it again"
                    raise DownloadError(f"'{url}' stopped {failures} times ({error}); {then}.") from None
                time.sleep(min(self.wait * 2 ** (failures - 1), 30))
        self.part.replace(output_file)
        self._tag.unlink(missing_ok=True)

    @property
    def _tag(self) -> Path:
        """Holds the server's mark of the version that `part` is of."""
        return self.part.with_name(f"{self.part.name}.tag")

    def _here(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url: str) -> None:
        """Fetch what is missing of `part`."""
        import requests

        here = self._here()
        headers = {"Range": f"bytes={here}-"} if here else {}
        if here and self._tag.exists():
            headers["If-Range"] = self._tag.read_text()  # another version is sent from its start
        try:
            with _get(url, headers) as response:
                if response.status_code == 416:  # more is here than the file has
                    self.part.unlink()
                    raise _Interrupted("the part that was here does not belong to it")
                _check_status(url, response)
                resumed = response.headers.get("Content-Range", "").startswith(f"bytes {here}-")
                if response.status_code == 206 and not resumed:
                    self.part.unlink(missing_ok=True)
                    raise _Interrupted("the server sent another range than the one asked for")
                here = here if response.status_code == 206 else 0
                length = response.headers.get("Content-Length")
                total = None if length is None else here + int(length)
                check_space(self.part.parent, 0 if total is None else total - here, url)
                self._remember(response)
                with self.part.open("ab" if here else "wb") as file:
                    for piece in response.iter_content(PIECE):
                        file.write(piece)
                        here += len(piece)
                        if self.progress is not None:
                            self.progress(here, total)
        except requests.exceptions.SSLError as error:
            raise DownloadError(
                f"the certificate of '{url}' cannot be verified ({_short(error)}); if its chain is incomplete, name a "
                "file that holds the missing certificate in REQUESTS_CA_BUNDLE, or a mirror with --base_url."
            ) from None
        except requests.exceptions.RequestException as error:
            raise _Interrupted(_reason(error)) from None
        if total is not None and here != total:
            raise _Interrupted(f"it ended after {here:,} of {total:,} bytes")

    def _remember(self, response: "requests.Response") -> None:
        tag = response.headers.get("ETag", "")
        mark = response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
        if mark:
            self._tag.write_text(mark)
        else:
            self._tag.unlink(missing_ok=True)


def fetch(url: str, file: Path, checksum: str | None, downloader: ResumableDownloader) -> bool:
    """Download a file unless it is there with this checksum.

    Args:
        url: where it is.
        file: where it goes.
        checksum: "md5:..." or "sha256:..."; None: nothing is known about it.
        downloader: does the transfer.

    Returns:
        Whether it was downloaded.

    Raises:
        DownloadError: it cannot be downloaded, has another checksum (then nothing is kept), or is there and nothing
            says whether it is whole.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the caller says what is going on
    if file.exists() and checksum is None:
        raise DownloadError(
            f"'{file}' is there, but no checksum says whether it is whole; move it away and run it again."
        )
    done = []

    def transfer(url: str, output_file: str, pooch: Any) -> None:
        done.append(output_file)
        downloader(url, output_file, pooch)

    try:
        pooch.retrieve(url, checksum, fname=file.name, path=file.parent, downloader=transfer)  # pyright: ignore[reportArgumentType] - its type is not how it is called
    except DownloadError:
        raise
    except ValueError as error:  # pooch's word for another checksum; it has removed what was downloaded
        raise DownloadError(
            f"'{url}' has another checksum than expected ({_short(error)}), and was removed; run it again; if it "
            "persists, ask its publisher (one that was only recorded here is in download.json)."
        ) from None
    return bool(done)


def read_json(url: str, tries: int = 3) -> Any:
    """A small JSON document.

    Raises:
        DownloadError: it cannot be had, or is not JSON.
    """
    import requests

    why = ""
    for attempt in range(tries):
        time.sleep(attempt)
        try:
            with _get(url, {}) as response:
                _check_status(url, response)
                return response.json()
        except requests.exceptions.JSONDecodeError:
            raise DownloadError(f"'{url}' is not JSON; check --base_url, or try again later.") from None
        except (_Interrupted, requests.exceptions.RequestException) as error:
            why = _reason(error)
    raise DownloadError(f"'{url}' cannot be reached ({why}); check the connection, or try again later.")


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse what does not fit.

    Raises:
        DownloadError: fewer than `needed` bytes are free where `folder` is.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{what} needs {needed / 1e9:,.2f} GB in '{folder}', where {free / 1e9:,.2f} GB are free; make room."
        )


def _get(url: str, headers: dict[str, str]) -> "requests.Response":
    import requests

    # compressed on the way, a file's bytes could be neither counted nor resumed
    return requests.get(url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=TIMEOUT)


def _check_status(url: str, response: "requests.Response") -> None:
    code = response.status_code
    if code in PASSING:
        raise _Interrupted(f"HTTP {code} {response.reason}")
    if code not in (200, 206):
        raise DownloadError(f"'{url}' answered HTTP {code} {response.reason}; check the address, or --base_url.")


def _reason(error: Exception) -> str:
    """Why a transfer ended, without the depths of the libraries where it is plain."""
    import requests

    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection to the server"
    return _short(error)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
