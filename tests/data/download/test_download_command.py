"""`msafusion download` from a local publisher."""

import hashlib
import io
import json
import sys
import zipfile

import pytest

from msafusion.commands.download import run_download
from msafusion.data.datasets import UTDMHAD
from msafusion.data.download import downloading

SKELETON = "/~kehtar/UTD-MAD/Skeleton.zip"


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def utd_mhad(publisher):
    publisher.files[SKELETON] = archive({"Skeleton/a1_s1_t1_skeleton.mat": b"fusion_layers"})
    publisher.files["/~kehtar/UTD-MAD/Inertial.zip"] = archive({"Inertial/a1_s1_t1_inertial.mat": b"motion"})
    return publisher


@pytest.fixture
def ravdess(publisher):
    content = archive({"Actor_01/01-01-01-01-01-01-01.mp4": b"clip"})
    listed = {"key": "Video_Speech_Actor_01.zip", "size": len(content)}
    listed["checksum"] = "md5:" + hashlib.md5(content).hexdigest()
    publisher.files["/api/records/1188976"] = json.dumps({"files": [listed]}).encode()
    publisher.files["/api/records/1188976/files/Video_Speech_Actor_01.zip/content"] = content
    return publisher


def run(publisher, dataset, target, *options):
    run_download([dataset, str(target), "--base_url", publisher.url, "--accept_license", *options])


def recorded(target):
    return json.loads((target / "download.json").read_text())


def test_parts_are_downloaded_unpacked_and_recorded(utd_mhad, tmp_path, capsys):
    run(utd_mhad, "UTDMHAD", tmp_path)
    assert (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").read_bytes() == b"fusion_layers"
    assert (tmp_path / "Inertial/a1_s1_t1_inertial.mat").read_bytes() == b"motion"
    assert not list(tmp_path.glob("*.zip"))
    record = recorded(tmp_path)
    entry = record["files"]["Skeleton.zip"]
    content = utd_mhad.files[SKELETON]
    assert entry["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert entry["checksum_published"] is False
    assert (entry["bytes"], entry["unpacked"]) == (len(content), 1)
    assert entry["url"] == utd_mhad.url + SKELETON
    assert "Chen C" in record["citation"]
    shown = capsys.readouterr().out
    assert "license: No license text" in shown
    assert "not: depth" in shown.replace("\n", " ")


def test_second_run_downloads_only_what_is_missing(utd_mhad, tmp_path):
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    run(utd_mhad, "UTDMHAD", tmp_path)
    assert [path for path, _ in utd_mhad.asked].count(SKELETON) == 1
    assert recorded(tmp_path)["files"].keys() == {"Skeleton.zip", "Inertial.zip"}
    (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").unlink()
    run(utd_mhad, "UTDMHAD", tmp_path)
    assert (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").exists()


def test_checksum_of_the_first_download_counts_later(utd_mhad, tmp_path):
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").unlink()
    utd_mhad.files[SKELETON] = archive({"Skeleton/a1_s1_t1_skeleton.mat": b"others"})
    with pytest.raises(ValueError, match="another checksum than expected"):
        run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    assert not list(tmp_path.glob("*.zip"))


def test_kept_archive_is_unpacked_again_without_a_download(utd_mhad, tmp_path):
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton", "--keep_archives")
    (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").unlink()
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton", "--keep_archives")
    assert (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").exists()
    assert len(utd_mhad.asked) == 1


def test_published_checksum_is_checked(ravdess, tmp_path):
    run(ravdess, "RAVDESS", tmp_path, "--parts", "video_01")
    assert (tmp_path / "Actor_01/01-01-01-01-01-01-01.mp4").read_bytes() == b"clip"
    entry = recorded(tmp_path)["files"]["Video_Speech_Actor_01.zip"]
    assert entry["checksum_published"] is True
    assert entry["checksum"].startswith("md5:")
    (tmp_path / "Actor_01/01-01-01-01-01-01-01.mp4").unlink()
    ravdess.files["/api/records/1188976/files/Video_Speech_Actor_01.zip/content"] = archive({"x": b"forged"})
    with pytest.raises(ValueError, match="another checksum than expected"):
        run(ravdess, "RAVDESS", tmp_path, "--parts", "video_01")
    assert not (tmp_path / "x").exists()


def test_a_page_in_an_archives_place_leaves_nothing_behind(utd_mhad, tmp_path):
    whole = utd_mhad.files[SKELETON]
    utd_mhad.files[SKELETON] = b"<html>down for maintenance</html>"
    with pytest.raises(ValueError, match=r"Skeleton\.zip.* was removed; run it again") as caught:
        run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["download.json"]
    assert not recorded(tmp_path)["files"]
    utd_mhad.files[SKELETON] = whole
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    assert (tmp_path / "Skeleton/a1_s1_t1_skeleton.mat").read_bytes() == b"fusion_layers"


def test_lines_tell_the_progress_where_there_is_no_terminal(utd_mhad, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(downloading, "SECONDS_BETWEEN_LINES", 0.0)
    utd_mhad.files[SKELETON] = archive({"big": bytes(100_000)})
    run(utd_mhad, "UTDMHAD", tmp_path, "--parts", "skeleton")
    assert "Skeleton.zip: 0.1 of 0.1 MB\n" in capsys.readouterr().out


def test_files_that_are_no_archives(publisher, tmp_path):
    publisher.files["/CMU-MOSEI/labels/CMU_MOSEI_Labels.csd"] = b"labels"
    for _ in range(2):
        run(publisher, "MOSEI", tmp_path, "--parts", "labels")
    assert (tmp_path / "CMU_MOSEI_Labels.csd").read_bytes() == b"labels"
    assert len(publisher.asked) == 1


def test_refused_licence_downloads_nothing(utd_mhad, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))  # no terminal
    given = ["UTDMHAD", str(tmp_path / "into"), "--base_url", utd_mhad.url]
    with pytest.raises(ValueError, match="add --accept_license"):
        run_download(given)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(ValueError, match="nothing was downloaded"):
        run_download(given)
    assert not (tmp_path / "into").exists()
    assert not utd_mhad.asked
    assert "cite: Chen C" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    run_download(given)
    assert (tmp_path / "into/Skeleton").is_dir()


def test_in_python_the_license_is_accepted_by_an_argument(utd_mhad, tmp_path):
    with pytest.raises(ValueError, match=r"license of UTDMHAD is not accepted: No license text .*accept_license=True"):
        UTDMHAD(tmp_path / "into").download(["skeleton"], base_url=utd_mhad.url)
    UTDMHAD(tmp_path / "into").download(["skeleton"], base_url=utd_mhad.url, accept_license=True)
    assert (tmp_path / "into/Skeleton").is_dir()
    with pytest.raises(ValueError, match="unknown data set 'NTURGBD'"):
        run_download(["NTURGBD", str(tmp_path)])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_mistakes(publisher, tmp_path):
    with pytest.raises(ValueError, match=r"unknown data set 'ravdess'; did you mean 'RAVDESS'"):
        run(publisher, "ravdess", tmp_path)
    with pytest.raises(ValueError, match="has no part 'skeletons'"):
        run(publisher, "UTDMHAD", tmp_path, "--parts", "skeletons")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        run(publisher, "UTDMHAD", tmp_path / "file")
    with pytest.raises(ValueError, match=r"cannot be made \(Not a directory\); choose a folder"):
        run(publisher, "UTDMHAD", tmp_path / "file" / "below")
    (tmp_path / "download.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot be read .* expected a record of downloads; remove it"):
        run(publisher, "UTDMHAD", tmp_path)
    publisher.files[SKELETON] = archive({"../evil": b"evil"})
    with pytest.raises(ValueError, match=r"holds '../evil'"):
        run(publisher, "UTDMHAD", tmp_path / "new", "--parts", "skeleton")
    assert not (tmp_path / "evil").exists()
