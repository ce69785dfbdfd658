import h5py
import numpy as np
import pytest

from msafusion.failures import DataError
from msafusion.files.hdf5 import member, part
from msafusion.files.hdf5_texts import ENTRY

NAMES = np.array(["", "calm", "happy ü"] * 30, object)


@pytest.fixture
def made(tmp_path):
    """Makes x.h5 by a call, and opens it for reading."""
    opened = []

    def make(write):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            write(file)
        opened.append(h5py.File(tmp_path / "x.h5", "r"))
        return opened[-1]

    yield make
    for file in opened:
        file.close()


def test_numbers_are_read_in_parts(made):
    file = made(lambda file: file.create_dataset("a/b", data=np.arange(20).reshape(10, 2), compression="gzip"))
    assert np.array_equal(part(member(file, "a/b"), 3, 5), [[6, 7], [8, 9]])
    assert member(file, "a/c") is None
    assert member(file, "a/b/c") is None
    assert isinstance(member(file, "a"), h5py.Group)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (7,)},
        *({"compression": kind, "shuffle": shuffle} for kind in ("gzip", "lzf") for shuffle in (False, True)),
    ],
)
def test_texts_of_any_length_are_read_however_they_are_stored(made, options):
    values = member(made(lambda file: file.create_dataset("names", data=NAMES, **options)), "names")
    assert [text.decode() for text in part(values)] == list(NAMES)
    assert [text.decode() for text in part(values, 64, 70)] == list(NAMES[64:70])


def test_no_texts_are_none(made):
    file = made(lambda file: file.create_dataset("names", (0,), h5py.string_dtype()))
    assert part(member(file, "names")).shape == (0,)


def virtual(file):
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[0] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "'a' is a link to '/b', expected the data itself"),
        (
            lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/x.h5", "/b")),
            "'a' is a link to '/b', expected the data itself",
        ),
        (
            lambda file: file.create_dataset("a", (4,), "u1", external=[("/etc/passwd", 0, 4)]),
            "'/a' keeps its values in other files",
        ),
        (virtual, "'/a' keeps its values in other files"),
        (lambda file: file.create_dataset("a", (10**7, 10**4), "f8", chunks=(1, 1000)), "'/a' would take 800.00 GB"),
        (
            lambda file: file.create_dataset("a", (2, 2), h5py.vlen_dtype(np.int32)),
            "'/a' holds object of any length, expected numbers or text",
        ),
        (
            lambda file: file.create_dataset(
                "a", (4,), h5py.string_dtype(), chunks=(2,), compression=32001, allow_unknown_filter=True
            ),
            "'/a' packs texts by the filter 32001, expected gzip, LZF or none",
        ),
    ],
)
def test_what_leaves_the_file_or_grows_is_refused(made, write, line):
    file = made(write)
    with pytest.raises(DataError) as error:
        part(member(file, "a"))
    assert "x.h5'" in str(error.value)
    assert line in str(error.value)


def test_a_text_that_declares_more_than_the_file_has_is_refused(made, tmp_path):
    file = made(lambda file: file.create_dataset("names", data=NAMES))
    place = file["names"].id.get_offset()
    file.close()
    content = bytearray((tmp_path / "x.h5").read_bytes())
    content[place + ENTRY.itemsize : place + ENTRY.itemsize + 4] = (3 * 10**9).to_bytes(4, "little")
    (tmp_path / "x.h5").write_bytes(content)
    with h5py.File(tmp_path / "x.h5") as damaged, pytest.raises(DataError, match=r"declares a text of 3,000,000,000 b"):
        part(member(damaged, "names"))


def test_a_text_in_a_packed_block_that_declares_too_much_is_refused(made):
    def write(file):
        entries = np.zeros(64, ENTRY)
        entries["length"] = 3 * 10**9
        packed = file.create_dataset("b", data=entries.view(np.uint8), chunks=(1024,), compression="lzf")
        names = file.create_dataset("names", (64,), h5py.string_dtype(), chunks=(64,), compression="lzf")
        names.id.write_direct_chunk((0,), packed.id.read_direct_chunk((0,))[1])

    with pytest.raises(DataError, match=r"declares a text of 3,000,000,000 b"):
        part(member(made(write), "names"))


@pytest.mark.parametrize(("place", "value"), [(24, 2**64 - 32), (8, 2**40), (8, 0), (4, 2)])
def test_a_collection_of_texts_that_does_not_add_up_is_refused(made, tmp_path, place, value):
    made(lambda file: file.create_dataset("names", data=NAMES)).close()
    content = bytearray((tmp_path / "x.h5").read_bytes())
    first = content.index(b"GCOL") + place
    width = 1 if place == 4 else 8
    content[first : first + width] = value.to_bytes(width, "little")
    (tmp_path / "x.h5").write_bytes(content)
    with (
        h5py.File(tmp_path / "x.h5") as damaged,
        pytest.raises(DataError, match=r"wrong size|texts where there are none"),
    ):
        part(member(damaged, "names"))


def test_one_long_text_in_many_places_is_refused(made):
    def repeated(file):
        values = file.create_dataset("names", (20_000,), h5py.string_dtype())
        values[0] = "x" * 100_000
        file.flush()
        entry = file["names"].id.get_offset()
        file.attrs["place"] = entry

    file = made(repeated)
    place, path = int(file.attrs["place"]), file.filename
    file.close()
    with open(path, "r+b") as opened:
        opened.seek(place)
        entry = opened.read(ENTRY.itemsize)
        opened.seek(place)
        opened.write(entry * 20_000)
    with h5py.File(path) as repeated_one, pytest.raises(DataError, match="the texts of '/names' "):
        part(member(repeated_one, "names"))
