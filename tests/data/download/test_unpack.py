"""Archives as they should be, and archives that mean harm."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections import namedtuple

import pytest

from msafusion.data.download import DownloadError, is_archive, is_unpacked, unpack
from msafusion.data.download.unpack import BrokenArchive


def zipped(file, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def tarred(file, *infos, content=b"text"):
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        for info in infos:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return file


def special(name, kind, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_zip_is_unpacked_beside_what_is_there(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"Actor_01/x.wav": b"one", "Actor_02/": b"", "__MACOSX/._x.wav": b"clutter"})
    target = tmp_path / "into"
    (target / "Actor_01").mkdir(parents=True)
    (target / "Actor_01/old.wav").write_bytes(b"old")
    assert unpack(archive, target) == [target / "Actor_01/x.wav"]
    assert everything(target) == [".a.zip.unpacked", "Actor_01/old.wav", "Actor_01/x.wav"]
    assert (target / "Actor_01/x.wav").read_bytes() == b"one"
    assert archive.exists()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_tar_is_unpacked(tmp_path, name):
    archive = tarred(tmp_path / name, special("d", tarfile.DIRTYPE), tarfile.TarInfo("./d/x.txt"))
    unpack(archive, tmp_path / "into")
    assert (tmp_path / "into/d/x.txt").read_bytes() == b"text"
    assert is_unpacked(name, tmp_path / "into")


def test_marker_holds_only_while_all_files_are_there(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"x": b"one", "y": b"two"})
    assert not is_unpacked("a.zip", tmp_path)
    unpack(archive, tmp_path)
    assert is_unpacked("a.zip", tmp_path)
    (tmp_path / "y").write_bytes(b"another")
    assert not is_unpacked("a.zip", tmp_path)
    (tmp_path / "y").unlink()
    assert not is_unpacked("a.zip", tmp_path)
    unpack(archive, tmp_path)
    assert (tmp_path / "y").read_bytes() == b"two"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_zip_that_leads_outside_is_refused_before_anything_is_written(tmp_path, name):
    archive = zipped(tmp_path / "a.zip", {"good": b"", name: b"evil"})
    with pytest.raises(DownloadError, match="expected paths below its own folder"):
        unpack(archive, tmp_path / "deep/into")
    assert everything(tmp_path) == ["a.zip"]


def test_tar_that_leads_outside_is_refused(tmp_path):
    archive = tarred(tmp_path / "a.tar", tarfile.TarInfo("../evil"))
    with pytest.raises(DownloadError, match=r"'\.\./evil', expected paths below"):
        unpack(archive, tmp_path / "into")


@pytest.mark.parametrize(
    "info",
    [
        special("x", tarfile.SYMTYPE, "/etc/passwd"),
        special("x", tarfile.LNKTYPE, "../../secret"),
        special("x", tarfile.CHRTYPE),
        special("x", tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hardlink", "device", "fifo"],
)
def test_links_and_devices_are_refused(tmp_path, info):
    with pytest.raises(DownloadError, match="holds the link, device or sparse file 'x'"):
        unpack(tarred(tmp_path / "a.tar", info), tmp_path / "into")


def test_symlink_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(DownloadError, match="holds the link or device 'x'"):
        unpack(tmp_path / "a.zip", tmp_path / "into")


def test_link_in_the_target_is_not_followed_outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "into/d").symlink_to(tmp_path / "outside")
    with pytest.raises(DownloadError, match="leads out of"):
        unpack(zipped(tmp_path / "a.zip", {"d/x": b"one"}), tmp_path / "into")
    assert not list((tmp_path / "outside").iterdir())


def test_absurd_growth_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as file:
        for _ in range(101):
            file.write(bytes(1_000_000))
    with pytest.raises(DownloadError, match=r"would grow more than 100 times to over 0.10 GB"):
        unpack(tmp_path / "a.zip", tmp_path / "into")


def test_too_little_space_is_noticed_before_writing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    archive = zipped(tmp_path / "a.zip", {"x": bytes(2000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    with pytest.raises(DownloadError, match="unpacked needs"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == []


def test_broken_archives_leave_nothing(tmp_path):
    whole = zipped(tmp_path / "a.zip", {"x": b"abc" * 1000, "y": b"def"}, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-40])
    (tmp_path / "bits.zip").write_bytes(whole.replace(b"abcabc", b"abXabc", 1))
    (tmp_path / "text.tar.gz").write_bytes(b"not an archive")
    for name in ("cut.zip", "bits.zip", "text.tar.gz"):
        with pytest.raises(DownloadError, match=r"cannot be read .* get it again"):
            unpack(tmp_path / name, tmp_path / "into")
    assert everything(tmp_path / "into") == []
    with pytest.raises(DownloadError, match="no file"):
        unpack(tmp_path / "none.zip", tmp_path / "into")
    assert not is_archive("labels.csd")


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_a_tar_cut_at_a_members_edge_is_refused(tmp_path, name):
    whole = tarred(tmp_path / "whole.tar", *(tarfile.TarInfo(f"{n}.txt") for n in range(3))).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(whole[:2048]) if name.endswith("gz") else whole[:2048])
    with pytest.raises(BrokenArchive, match="after 2 members the mark of its end lacks, it is cut off"):
        unpack(tmp_path / name, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_tar_with_a_damaged_header_in_its_middle_is_refused(tmp_path):
    file = tarred(tmp_path / "x.tar", *(tarfile.TarInfo(f"{n}.txt") for n in range(3)))
    content = bytearray(file.read_bytes())
    content[1024 + 100] ^= 1
    file.write_bytes(content)
    with pytest.raises(BrokenArchive, match="after 1 members no member follows, it is damaged"):
        unpack(file, tmp_path / "out")
