"""The published parts, and Zenodo's list of checksums."""

import json

import pytest

from msafusion.data.download import SOURCES, DownloadError
from msafusion.data.download.sources import RAVDESS, rebase_url


def test_usual_parts_and_patterns():
    assert len(RAVDESS.chosen()) == 25
    assert "audio" not in RAVDESS.chosen()
    assert RAVDESS.chosen(["landmarks", "video_0[12]"]) == ["video_01", "video_02", "landmarks"]
    with pytest.raises(ValueError, match="has no part 'vidoe_01'; did you mean 'video_01'"):
        RAVDESS.chosen(["vidoe_01"])
    for source in SOURCES.values():
        assert source.chosen()
        assert source.licence
        assert source.citation


def test_names_of_files_and_mirror():
    (file,) = SOURCES["utd_mhad"].files(["depth"], "http://mirror:8000/data/")
    assert (file.name, file.checksum) == ("Depth.zip", None)
    assert file.url == "http://mirror:8000/data/~kehtar/UTD-MAD/Depth.zip"
    with pytest.raises(ValueError, match="expected http://host"):
        rebase_url("http://a/b", "mirror")


def test_zenodo_names_size_and_checksum(publisher):
    listed = {"key": "FacialTracking_Actors_01-24.zip", "size": 5, "checksum": "md5:abc"}
    publisher.files["/api/records/3255102"] = json.dumps({"files": [listed]}).encode()
    (file,) = RAVDESS.files(["landmarks"], publisher.url)
    assert (file.bytes, file.checksum, file.folder) == (5, "md5:abc", "landmarks")
    assert file.url == f"{publisher.url}/api/records/3255102/files/FacialTracking_Actors_01-24.zip/content"


def test_zenodo_that_answers_otherwise(publisher):
    address = "/api/records/1188976"
    with pytest.raises(DownloadError, match="HTTP 404"):
        RAVDESS.files(["audio"], publisher.url)
    publisher.files[address] = b'{"files": []}'
    with pytest.raises(DownloadError, match=r"lists no file 'Audio_Speech_Actors_01-24.zip'"):
        RAVDESS.files(["audio"], publisher.url)
    publisher.files[address] = b'{"message": "maintenance"}'
    with pytest.raises(DownloadError, match="not a list of files"):
        RAVDESS.files(["audio"], publisher.url)
    publisher.files[address] = b"<html>"
    with pytest.raises(DownloadError, match="not JSON"):
        RAVDESS.files(["audio"], publisher.url)
