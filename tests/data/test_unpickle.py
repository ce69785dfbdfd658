import io
import os
import pickle

import numpy as np
import pytest

from msafusion.data.unpickle import load_plain_npy, load_plain_pickle
from msafusion.samples import DataError


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
    with pytest.raises(DataError, match=r"torn\.npy' is a torn \.npy file"):
        load_plain_npy(tmp_path / "torn.npy")
