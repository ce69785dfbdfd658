"""The published parts, and Zenodo's list of checksums."""

import json

import pytest

from msafusion.data.datasets import DATASETS
from msafusion.data.download import DownloadError
from msafusion.data.download.sources import rebase_url

FILES = DATASETS["RAVDESS"].remote


def test_usual_parts_and_patterns():
    assert len(FILES.chosen()) == 25
    assert "audio" not in FILES.chosen()
    assert FILES.chosen(["landmarks", "video_0[12]"]) == ["video_01", "video_02", "landmarks"]
    with pytest.raises(ValueError, match="has no part 'vidoe_01'; did you mean 'video_01'"):
        FILES.chosen(["vidoe_01"])
    for data in (cls for cls in DATASETS.values() if cls.remote is not None):
        assert data.remote.chosen()
        assert data.license
        assert data.citation


def test_names_of_files_and_mirror():
    (file,) = DATASETS["UTDMHAD"].remote.files(["depth"], "http://mirror:8000/data/")
    assert (file.name, file.checksum) == ("Depth.zip", None)
    assert file.url == "http://mirror:8000/data/~kehtar/UTD-MAD/Depth.zip"
    with pytest.raises(ValueError, match="expected http://host"):
        rebase_url("http://a/b", "mirror")


def test_zenodo_names_size_and_checksum(publisher):
    listed = {"key": "FacialTracking_Actors_01-24.zip", "size": 5, "checksum": "md5:abc"}
    publisher.files["/api/records/3255102"] = json.dumps({"files": [listed]}).encode()
    (file,) = FILES.files(["landmarks"], publisher.url)
    assert (file.bytes, file.checksum, file.folder) == (5, "md5:abc", "landmarks")
    assert file.url == f"{publisher.url}/api/records/3255102/files/FacialTracking_Actors_01-24.zip/content"


def test_zenodo_that_answers_otherwise(publisher):
    address = "/api/records/1188976"
    with pytest.raises(DownloadError, match="HTTP 404"):
        FILES.files(["audio"], publisher.url)
    publisher.files[address] = b'{"files": []}'
    with pytest.raises(DownloadError, match=r"lists no file 'Audio_Speech_Actors_01-24.zip'"):
        FILES.files(["audio"], publisher.url)
    publisher.files[address] = b'{"message": "maintenance"}'
    with pytest.raises(DownloadError, match="not a list of files"):
        FILES.files(["audio"], publisher.url)
    publisher.files[address] = b"<html>"
    with pytest.raises(DownloadError, match="not JSON"):
        FILES.files(["audio"], publisher.url)
