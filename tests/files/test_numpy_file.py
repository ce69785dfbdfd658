import io
import zipfile

import numpy as np
import pytest

from msafusion.failures import DataError
from msafusion.files.numpy_file import map_npy, open_npz, read_npy

VALUES = np.arange(12.0).reshape(3, 4)


def as_bytes(values, **options):
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def read(content):
    return read_npy(io.BytesIO(content), len(content), "it")


@pytest.mark.parametrize(
    "values", [VALUES, np.asfortranarray(VALUES), np.array(3), np.zeros((0, 5)), np.array(["a", "bcd"]), VALUES > 3]
)
def test_arrays_of_any_order_and_type_are_read(values):
    found = read(as_bytes(values))
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_a_version_2_header_is_read():
    stream = io.BytesIO()
    np.lib.format.write_array(stream, VALUES, version=(2, 0))
    assert np.array_equal(read(stream.getvalue()), VALUES)


@pytest.mark.parametrize("start", [b"\x02\x00\xff\xff\xff\xff", b"\x01\xff\xff\xff\xff\xff"])
def test_a_header_that_declares_gigabytes_is_refused_before_there_is_room_for_it(start):
    content = as_bytes(VALUES)
    with pytest.raises(ValueError, match=r"4,294,967,295 bytes|\(1, 255\)"):
        read(content[:6] + start + content[12:])


def renamed(shape):
    """An array of 12 numbers whose header says another shape."""
    return as_bytes(VALUES).replace(b"(3, 4), }", f"{shape}, }}".encode())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (as_bytes(np.array([{}], object), allow_pickle=True), "it holds Python objects, expected numbers or text"),
        (as_bytes(VALUES)[:-8], "it ends after 88 of 96 bytes, expected all"),
        (renamed("(3, 99999)"), "it declares 2,399,976 bytes and has"),
        (renamed("(10**9, 4)").replace(b"10**9", b"1000000000"), "it would take 32.00 GB from"),
        (renamed("(-3, 4)"), "it has the shape (-3, 4), expected lengths from 0"),
        (renamed("(0, 10**12)").replace(b"10**12", b"1" + b"0" * 12), "it would take 8,000.00 GB"),
    ],
)
def test_what_is_more_or_less_than_an_array_is_refused(content, line):
    with pytest.raises(DataError) as error:
        read(content)
    assert line in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_give_arrays_by_name(tmp_path, save):
    save(tmp_path / "x.npz", a=VALUES, b=np.arange(2))
    with open_npz(tmp_path / "x.npz") as arrays:
        assert list(arrays) == ["a", "b"]
        assert np.array_equal(arrays["a"](), VALUES)


CONTENT = as_bytes(VALUES)


def archive(file, content=CONTENT, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", kind) as made:
        made.writestr("a.npy", content)
        made.writestr("b.npy", content)
    return file


def test_an_archive_that_grows_absurdly_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("msafusion.files.reading.UNSUSPICIOUS", 10**6)
    with (
        pytest.raises(DataError, match=r"x.npz' would take 0.01 GB from"),
        open_npz(archive(tmp_path / "x.npz", bytes(3_000_000))),
    ):
        pass


def test_an_archive_packed_in_another_way_is_refused(tmp_path):
    file = archive(tmp_path / "x.npz", kind=zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match=r"x.npz' packs 'a.npy' in a way that numpy does not"), open_npz(file):
        pass


def test_a_member_hidden_in_the_comment_of_another_is_missed(tmp_path):
    file = archive(tmp_path / "x.npz")
    content = bytearray(file.read_bytes())
    first = content.index(b"PK\x01\x02")
    content[first + 32 : first + 34] = (46 + len("b.npy")).to_bytes(2, "little")
    file.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="it counts 2 members and lists 1"), open_npz(file):
        pass


def test_files_are_mapped_and_bounded(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    assert np.array_equal(map_npy(tmp_path / "x.npy"), VALUES)
    (tmp_path / "y.npy").write_bytes(renamed("(9999999, 9999)"))
    with pytest.raises(DataError, match=r"y.npy' would take 799.92 GB"):
        map_npy(tmp_path / "y.npy")
