"""Broken prepared folders: every fault is named with its file, and no pickle runs."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_folders import CHANNELS, all_samples, arrays, folder_of, rewrite_table, write

from msafusion.data.preparation.prepared import PreparedFolder, write_prepared
from msafusion.data.samples import DataError


@pytest.mark.parametrize("missing", ["info.json", "samples.csv"])
def test_a_folder_without_info_or_table_is_refused(root, missing):
    (root / missing).unlink()
    with pytest.raises(DataError, match=rf"no {missing} in '{root}', expected a prepared toys folder.*give its path"):
        folder_of(root)


def test_another_data_set_is_refused(root):
    with pytest.raises(DataError, match=rf"'{root}' holds toys, expected ravdess; give another root or data set"):
        PreparedFolder(root, "ravdess")


@pytest.mark.parametrize(
    "info",
    [
        '{"dataset": "toys"',
        "[1, 2]",
        '{"dataset": "toys", "classes": []}',
        '{"dataset": "toys", "streams": ["video"]}',
        '{"dataset": "toys", "streams": {"video": "three"}}',
    ],
)
def test_a_broken_info_is_named(root, info):
    (root / "info.json").write_text(info)
    with pytest.raises(DataError, match=r"info\.json' cannot be read \(.*prepare the data set again"):
        folder_of(root)


@pytest.mark.parametrize("table", ["", "id,label,group\n", "id,label\na,0\n", "name,label,group\na,0,g\n"])
def test_a_table_without_rows_or_columns_is_refused(root, table):
    (root / "samples.csv").write_text(table)
    with pytest.raises(DataError, match=r"samples\.csv' has no rows with the columns id, label and group; prepare"):
        folder_of(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clip 2,", "clip 1,", r"': the id 'clip 1' occurs twice, expected it once"),
        ("clip 1,", "../x,", r"': '\.\./x' \(sample 2\) cannot be a sample's id"),
        ("clip 1,", "..,", r"': '\.\.' \(sample 2\) cannot be a sample's id"),
        ("clip 1,", ".,", r"': '\.' \(sample 2\) cannot be a sample's id"),
        ("clip 1,", "/etc/x,", r"': '/etc/x' \(sample 2\) cannot be a sample's id"),
        ("clip 1,", "..\\x,", r"': '\.\.\\x' \(sample 2\) cannot be a sample's id"),
        ("clip 1,", ",", r"': '' \(sample 2\) cannot be a sample's id"),
        ("clip 3,1,", "clip 3,2,", r"', line 5: label '2', expected the index of one of 2 classes"),
        ("clip 3,1,", "clip 3,-1,", r"', line 5: label '-1', expected the index of one of 2 classes"),
        ("clip 3,1,", "clip 3,0.5,", r"', line 5: label '0\.5', expected the index of one of 2 classes"),
        ("clip 3,1,", "clip 3,happy,", r"', line 5: label 'happy', expected the index of one of 2 classes"),
        ("clip 3,1,", "clip 3,,", r"', line 5: label '', expected the index of one of 2 classes"),
    ],
)
def test_a_broken_row_is_named(root, old, new, message):
    rewrite_table(root, old, new)
    with pytest.raises(DataError, match=rf"samples\.csv{message}.*; prepare the data set again"):
        folder_of(root)


@pytest.mark.parametrize("label", ["nan", "inf", "-inf", "much", ""])
def test_a_value_that_is_no_finite_number_is_refused(tmp_path, label):
    write(tmp_path, classes=())
    rewrite_table(tmp_path, "clip 3,1,", f"clip 3,{label},")
    with pytest.raises(DataError, match=rf"line 5: label '{label}', expected a number; prepare the data set again"):
        folder_of(tmp_path)


@pytest.mark.parametrize("table", ["id,label,group\na\n", "id,label,group\na,0\n"])
def test_a_row_that_is_cut_off_is_refused(root, table):
    (root / "samples.csv").write_text(table)
    with pytest.raises(DataError, match=r"samples\.csv', line 2"):
        folder_of(root)


def test_a_table_in_another_encoding_is_refused(root):
    (root / "samples.csv").write_bytes("id,label,group\nmüller,0,g\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"samples\.csv"):
        folder_of(root)


def break_missing(file):
    file.unlink()


def break_truncated(file):
    file.write_bytes(file.read_bytes()[:-5])


def break_header(file):
    file.write_bytes(file.read_bytes()[:20])


def break_empty(file):
    file.write_bytes(b"")


def break_foreign(file):
    file.write_bytes(b"not an array at all")


def break_nan(file):
    values = np.load(file)
    values[-1, 0] = np.nan
    np.save(file, values)


def break_infinite(file):
    values = np.load(file)
    values[0, 0] = -np.inf
    np.save(file, values)


def break_text(file):
    np.save(file, np.array(["one", "two"]))


def break_archive(file):
    with file.open("wb") as opened:
        np.savez(opened, words=np.zeros((2, 2)))


UNREADABLE = r"cannot be read \(.*; delete that file and prepare the data set again"
NOT_FINITE = r"holds NaN or infinity .*expected finite values; delete that file and prepare the data set again"
BROKEN = [
    (break_missing, r"expected the words of sample 'clip 1'; prepare the data set again"),
    (break_truncated, UNREADABLE),
    (break_header, UNREADABLE),
    (break_empty, UNREADABLE),
    (break_foreign, UNREADABLE),
    (break_nan, NOT_FINITE),
    (break_infinite, NOT_FINITE),
    (break_text, ""),
    (break_archive, ""),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_array_is_named_by_its_file(root, broken, message):
    broken(root / "words" / "clip 1.npy")
    samples = all_samples(root)
    with pytest.raises(DataError, match=rf"{root}/words/clip 1\.npy'.*{message}"):
        samples[1]
    assert samples[2]["id"] == "clip 2"


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["object array", "bare pickle"])
def test_a_pickle_is_refused_and_runs_nothing(root, tmp_path_factory, form):
    trace = tmp_path_factory.mktemp("trace") / "ran"
    file = root / "words" / "clip 1.npy"
    if form == "object array":
        np.save(file, np.array([Touch(trace)], dtype=object), allow_pickle=True)
        np.load(file, allow_pickle=True)
    else:
        file.write_bytes(pickle.dumps(Touch(trace)))
        pickle.loads(file.read_bytes())
    trace.unlink()  # the pickle does run where pickles are admitted
    with pytest.raises(DataError, match=UNREADABLE):
        all_samples(root)[1]
    assert not trace.exists()


def test_verify_lists_every_sample_that_is_missing_or_broken(root):
    break_missing(root / "video" / "clip 0.npy")
    break_truncated(root / "words" / "clip 1.npy")
    break_nan(root / "words" / "clip 3.npy")
    problems = folder_of(root).verify()
    expected = ["video/clip 0.npy", "words/clip 1.npy", "words/clip 3.npy"]
    assert len(problems) == 3
    for problem, file in zip(problems, expected, strict=True):
        assert file in problem
        assert "\n" not in problem


def test_verify_lists_every_broken_file_of_one_sample(root):
    break_missing(root / "video" / "clip 0.npy")
    break_missing(root / "words" / "clip 0.npy")
    problems = folder_of(root).verify()
    assert [f"{stream}/clip 0.npy" in problem for stream, problem in zip(CHANNELS, problems, strict=True)] == [True] * 2


def test_an_interrupted_folder_is_not_taken_for_a_whole_one(tmp_path):
    def samples():
        yield {"id": "a", "label": 0, "group": "g"}, arrays(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_prepared(tmp_path, "toys", ("calm",), CHANNELS, samples())
    assert (tmp_path / "video" / "a.npy").exists()
    with pytest.raises(DataError, match=r"no info\.json"):
        folder_of(tmp_path)
