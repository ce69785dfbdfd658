import io
import os
import pickle

import numpy as np
import pytest

from msafusion.data.datasets.unpickle import load_plain_npy, load_plain_pickle
from msafusion.data.samples import DataError


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back(protocol):
    content = {
        "x": [np.arange(6.0).reshape(2, 3), np.array([1, 2], dtype=np.int64)],
        "names": ("a", b"bytes"),
        "n": np.float64(2.5),
        "o": np.array([np.zeros(2), "text"], dtype=object),
    }
    again = load_plain_pickle(io.BytesIO(pickle.dumps(content, protocol)), "x.pkl")
    np.testing.assert_array_equal(again["x"][0], content["x"][0])
    np.testing.assert_array_equal(again["x"][1], content["x"][1])
    assert again["names"] == content["names"]
    assert again["n"] == 2.5
    assert again["o"][1] == "text"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path, protocol):
    path = tmp_path / "harm.npy"
    array = np.empty((), dtype=object)
    array[()] = {"x": Harmful(tmp_path / "ran")}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(array, file, protocol=protocol)
    with pytest.raises(DataError, match=r"harm\.npy' is not a pickle of plain arrays \(it names posix\.system\)"):
        load_plain_npy(path)
    assert not (tmp_path / "ran").exists()


def test_other_codecs_than_latin1_are_refused():
    program = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R."
    with pytest.raises(DataError, match="codec 'zlib'"):
        load_plain_pickle(io.BytesIO(program), "x.pkl")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(128) + b"\n"],
)
def test_a_torn_file_is_named(tmp_path, content):
    (tmp_path / "torn.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"torn\.npy"):
        load_plain_npy(tmp_path / "torn.npy")


def test_plain_arrays_need_no_pickle(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(5))
    np.testing.assert_array_equal(load_plain_npy(tmp_path / "plain.npy"), np.arange(5))


RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
TERABYTE = b"\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85"


@pytest.mark.parametrize(
    "program",
    [
        RECONSTRUCT + TERABYTE + b"U\x01b\x87R.",
        b"\x80\x02cnumpy\nndarray\n" + TERABYTE + b"\x85R.",
        b"\x80\x02cnumpy\nndarray\n" + TERABYTE + b"\x85\x81.",
        b"\x80\x04\x8e" + b"\xff" * 8,  # as many bytes as there can be
        b"\x80\x04r" + b"\xff" * 4 + b".",
    ],
)
def test_a_pickle_that_would_take_all_memory_is_refused(program):
    with pytest.raises(DataError, match=r"x\.pkl' is not a pickle of plain arrays \(.+\), expected"):
        load_plain_pickle(io.BytesIO(program), "x.pkl")


def test_a_torn_plain_array_is_named(tmp_path):
    np.save(tmp_path / "torn.npy", np.arange(5))
    (tmp_path / "torn.npy").write_bytes((tmp_path / "torn.npy").read_bytes()[:-3])
    with pytest.raises(DataError, match=r"torn\.npy' ends after 37 of 40 bytes"):
        load_plain_npy(tmp_path / "torn.npy")


def test_nothing_that_exists_is_changed():
    program = b"\x80\x04c_codecs\nencode\nN}\x8c\x0c__defaults__\x8c\x01x\x85s\x86b."
    with pytest.raises(DataError, match=r"x\.pkl' .*changes _codecs\.encode"):
        load_plain_pickle(io.BytesIO(program), "x.pkl")


DTYPE = b"cnumpy\ndtype\n\x8c\x0aV400000000\x85R"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


@pytest.mark.parametrize(
    "program",
    [
        b"(" + (b"cnumpy.core.multiarray\nscalar\n" + DTYPE + b"\x85R") * 5 + b"t.",  # a scalar without its bytes
        b"}N" + b"\x85" * 200 + b"Ns.",  # a deep key, whose hash would end the process
        b"]" * 200 + b"a" * 199 + b".",  # deep nesting
        b"]\x94" + b"h\x00" + b"a.",  # a list that holds itself
        b"]\x94K\x01a"
        + b"".join(
            b"]q" + bytes([n]) + b"(" + b"h" + bytes([n - 1]) + b"h" + bytes([n - 1]) + b"e" for n in range(1, 60)
        )
        + b".",  # two references each, 60 lists deep
        b"(" + b"B\x40\x42\x0f\x00" + bytes(10**6) + b"\x940" + b"h\x00" * 300 + b"l.",  # 1 MB in 300 places
        ARRAY + b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02O8\x85R\x89](NNNetb.",  # three objects for two
        ARRAY + b"(K\x01\x8a\x05\x00\x00\x00\x00\x40K\x00\x86cnumpy\ndtype\nU\x02f8\x85R\x89C\x00tb.",  # (2**38, 0)
    ],
    ids=["scalar", "key", "nested", "cycle", "doubling", "places", "objects", "empty"],
)
def test_a_few_bytes_stay_a_few(program):
    with pytest.raises(DataError, match=r"x\.pkl' is not a pickle of plain arrays"):
        load_plain_pickle(io.BytesIO(b"\x80\x04" + program), "x.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f4", ">i2", "U5", "S3", "?", "<c8"])
def test_arrays_of_every_plain_type_come_back(protocol, dtype):
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    content = [array, array[:, ::2], array[0, 1], [array, array]]
    written = pickle.dumps(content, protocol)
    again = load_plain_pickle(io.BytesIO(written), "x.pkl")
    for got, expected in zip(again[:3], pickle.loads(written)[:3], strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert again[3][0] is again[0]
