import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from msafusion.failures import DataError
from msafusion.files.matlab5 import numeric_part

VALUES = np.arange(6.0).reshape(2, 3)


def written(file, content, **options):
    savemat(file, content, **options)
    return file


@pytest.mark.parametrize("packed", [False, True])
def test_numeric_variables_are_kept_and_others_left_out(tmp_path, packed):
    content = {"d": VALUES, "n": np.int16([1, 2]), "cells": np.array([1, "a"], object), "s": {"deep": {"er": 1}}}
    part = numeric_part(written(tmp_path / "x.mat", content, do_compression=packed), "'d'")
    found = loadmat(part)
    assert {name for name in found if not name.startswith("__")} == {"d", "n"}
    assert np.array_equal(found["d"], VALUES)


def cut(content):
    return content[:-20]


def bomb(content):
    packed = zlib.compress(bytes(3_000_000))
    return content[:128] + struct.pack("<II", 15, len(packed)) + packed


def of_type(kind, count):
    """With the values of the last variable declared to be so many bytes of a type."""

    def change(content):
        place = content.rindex(struct.pack("<II", 9, 48))
        return content[:place] + struct.pack("<II", kind, count) + content[place + 8 :]

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (of_type(9, 0xFFFFFFFF), "x.mat' has a damaged array, expected 'd'; download it again"),
        (of_type(6, 0xB0870100), "x.mat' has a damaged array"),  # in which SciPy dies
        (of_type(200, 48), "x.mat' has a damaged array"),
        (of_type(0x90009, 48), "x.mat' has a damaged array"),
        (cut, r"x.mat' ends after 316 bytes, expected 'd' of \d+ bytes at byte 232; download it again"),
        (lambda content: content[:60], "x.mat' is not of MATLAB 5 to 7, expected 'd' in such a file"),
        (lambda content: b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + content[128:], "is not of MATLAB 5 to 7"),
        (bomb, "x.mat' would take 0.00 GB from"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path, monkeypatch, change, line):
    monkeypatch.setattr("msafusion.files.reading.UNSUSPICIOUS", 10**6)
    file = written(tmp_path / "x.mat", {"d": VALUES, "e": VALUES})
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=line):
        numeric_part(file, "'d'")
