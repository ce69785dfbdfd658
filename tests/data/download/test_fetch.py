"""Transfers from a real server that cuts, refuses, lies and forgets."""

import hashlib
import shutil
from collections import namedtuple

import numpy as np
import pytest

from msafusion.data.download import DownloadError, ResumableDownloader, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


def get(publisher, folder, checksum=MD5, retries=3, progress=None):
    publisher.files.setdefault("/a.bin", CONTENT)
    downloader = ResumableDownloader(folder / "a.bin.part", retries=retries, wait=0.0, progress=progress)
    return fetch(f"{publisher.url}/a.bin", folder / "a.bin", checksum, downloader)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_lands_whole_and_is_skipped_the_next_time(publisher, tmp_path):
    seen = []
    assert get(publisher, tmp_path, progress=lambda here, total: seen.append((here, total)))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]
    assert seen[-1] == (100_000, 100_000)
    assert not get(publisher, tmp_path)
    assert len(publisher.asked) == 1


def test_cut_connection_goes_on_where_it_stopped(publisher, tmp_path):
    publisher.cuts["/a.bin"] = [32_768, 16_384]
    get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert publisher.asked == [("/a.bin", ""), ("/a.bin", "bytes=32768-"), ("/a.bin", "bytes=49152-")]


def test_what_an_earlier_run_left_is_used(publisher, tmp_path):
    publisher.cuts["/a.bin"] = [32_768, 0, 0]
    with pytest.raises(DownloadError, match=r"stopped 2 times .* 32,768 bytes are kept in .*run it again"):
        get(publisher, tmp_path, retries=2)
    assert not (tmp_path / "a.bin").exists()
    publisher.cuts.clear()
    get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert publisher.asked[-1] == ("/a.bin", "bytes=32768-")
    assert names(tmp_path) == ["a.bin"]


def test_server_without_ranges_starts_the_file_again(publisher, tmp_path):
    publisher.ranges = False
    publisher.cuts["/a.bin"] = [32_768]
    get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_file_that_changed_in_between_is_not_mixed(publisher, tmp_path):
    publisher.cuts["/a.bin"] = [32_768, 0]
    with pytest.raises(DownloadError, match="stopped"):
        get(publisher, tmp_path, retries=1)
    publisher.cuts.clear()
    publisher.tag, publisher.files["/a.bin"] = '"second"', CONTENT[::-1]
    get(publisher, tmp_path, checksum=None)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_part_longer_than_the_file_is_thrown_away(publisher, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(bytes(200_000))
    get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_wrong_checksum_removes_the_file(publisher, tmp_path):
    with pytest.raises(DownloadError, match=r"another checksum than expected.*removed") as error:
        get(publisher, tmp_path, checksum="md5:" + "0" * 32)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []
    assert len(publisher.asked) == 1


def test_changed_file_on_disk_is_downloaded_again(publisher, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"rotten")
    assert get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_file_without_any_checksum_is_not_trusted(publisher, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"who knows")
    with pytest.raises(DownloadError, match="no checksum says whether it is whole"):
        get(publisher, tmp_path, checksum=None)
    assert (tmp_path / "a.bin").read_bytes() == b"who knows"


def test_not_found_ends_at_once(publisher, tmp_path):
    publisher.statuses["/a.bin"] = [404]
    with pytest.raises(DownloadError, match="answered HTTP 404 Not Found; check the address"):
        get(publisher, tmp_path)
    assert len(publisher.asked) == 1
    assert names(tmp_path) == []


def test_failing_server_is_tried_again(publisher, tmp_path):
    publisher.statuses["/a.bin"] = [500, 503]
    get(publisher, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    publisher.statuses["/b.bin"] = [500, 500, 500]
    with pytest.raises(DownloadError, match=r"stopped 3 times .*HTTP 500"):
        fetch(
            f"{publisher.url}/b.bin",
            tmp_path / "b.bin",
            MD5,
            ResumableDownloader(tmp_path / "b.bin.part", retries=3, wait=0),
        )


def test_nobody_listens(tmp_path):
    downloader = ResumableDownloader(tmp_path / "a.part", retries=2, wait=0.0)
    with pytest.raises(DownloadError, match=r"stopped 2 times .*run it again") as error:
        fetch("http://127.0.0.1:9/a", tmp_path / "a", None, downloader)
    assert "\n" not in str(error.value)


def test_full_disk_is_noticed_before_writing(publisher, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 50_000, 50_000))
    with pytest.raises(DownloadError, match=r"needs 0.00 GB .* are free; make room"):
        get(publisher, tmp_path)
    assert names(tmp_path) == []
