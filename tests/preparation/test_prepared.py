"""Prepared folders: what was written comes back, only when asked for, and every fault is named with its file."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from msafusion.preparation.prepared import PreparedFolder, write_prepared
from msafusion.samples import DataError, collate

CHANNELS = {"video": 3, "words": 2}


def arrays(number, steps=4):
    random = np.random.default_rng(number)
    video = random.integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    return {"video": video, "words": random.normal(size=(steps, 2)).astype(np.float32)}


def write(root, num=4, classes=("calm", "happy"), steps=lambda number: 2 + number):
    rows = [{"id": f"clip {n}", "label": n % 2, "group": f"actor{n}", "split": "train"} for n in range(num)]
    return write_prepared(root, "toys", classes, CHANNELS, ((row, arrays(n, steps(n))) for n, row in enumerate(rows)))


@pytest.fixture
def root(tmp_path):
    write(tmp_path)
    return tmp_path


def folder_of(root, **options):
    return PreparedFolder(root, "toys", **{"videos": ("video",), "sequences": ("words",), **options})


def all_samples(root, **options):
    folder = folder_of(root, **options)
    return folder.samples(folder.rows)


def rewrite_table(root, old, new):
    table = root / "samples.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def test_what_was_written_comes_back(root):
    folder = folder_of(root)
    assert (folder.classes, folder.channels) == (["calm", "happy"], CHANNELS)
    samples = folder.samples(folder.rows)
    assert len(samples) == write(root) == 4
    assert samples.groups == {"actor0", "actor1", "actor2", "actor3"}
    for number, sample in enumerate(samples):
        assert (sample["id"], sample["label"], sample["group"]) == (f"clip {number}", number % 2, f"actor{number}")
        assert set(sample["lengths"]) == {"words"}
        for stream, values in arrays(number, 2 + number).items():
            assert sample["streams"][stream].numpy().dtype == values.dtype
            np.testing.assert_array_equal(sample["streams"][stream].numpy(), values)
    assert folder.rows[0]["split"] == "train"
    assert folder.verify() == []


def test_labels_without_classes_are_values(tmp_path):
    row = {"id": "a", "label": -1.25, "group": "g"}
    write_prepared(tmp_path, "toys", (), CHANNELS, [(row, arrays(0))])
    sample = all_samples(tmp_path)[0]
    assert sample["label"] == -1.25
    assert collate([sample])["label"].dtype == torch.float32


def test_nothing_but_the_table_is_read_until_a_sample_is_asked_for(root):
    for file in root.glob("*/clip [12].npy"):
        file.unlink()
    samples = all_samples(root)
    assert samples[0]["id"] == "clip 0"
    assert samples[3]["id"] == "clip 3"
    with pytest.raises(DataError, match=r"no file '.*video/clip 1\.npy'"):
        samples[1]


def test_only_the_samples_own_streams_are_read(root):
    (root / "smell").mkdir()
    (root / "smell" / "clip 0.npy").write_bytes(b"broken")
    assert set(all_samples(root)[0]["streams"]) == {"video", "words"}


def test_a_sample_may_be_changed_without_changing_the_file(root):
    samples = all_samples(root)
    samples[0]["streams"]["words"].zero_()
    np.testing.assert_array_equal(samples[0]["streams"]["words"].numpy(), arrays(0, 2)["words"])


def test_sequences_have_lengths_and_are_padded_to_the_least_steps(root):
    samples = all_samples(root, sequences=("words",), least_steps=4)
    assert [sample["lengths"] for sample in samples] == [{"words": 4}, {"words": 4}, {"words": 4}, {"words": 5}]
    padded = samples[0]["streams"]["words"].numpy()
    np.testing.assert_array_equal(padded[:2], arrays(0, 2)["words"])
    assert (padded[2:] == 0).all()
    assert samples[0]["streams"]["video"].shape == (3, 2, 4, 4)
    batch = collate(samples[:])
    assert batch["inputs"]["words"].shape == (4, 5, 2)
    assert batch["lengths"]["words"].tolist() == [4, 4, 4, 5]


def test_slices_are_samples_with_their_own_groups(root):
    part = all_samples(root)[1::2]
    assert [sample["id"] for sample in part] == ["clip 1", "clip 3"]
    assert part.groups == {"actor1", "actor3"}
    assert len(part[:0]) == 0
    assert part[-1]["id"] == "clip 3"
    with pytest.raises(IndexError):
        part[2]


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
        ("clip 2,", "clip 1,", r"line 4: the id 'clip 1' occurs twice, expected it once"),
        ("clip 1,", "../x,", r"line 3: '\.\./x' cannot be a sample's id"),
        ("clip 1,", "..,", r"line 3: '\.\.' cannot be a sample's id"),
        ("clip 1,", ".,", r"line 3: '\.' cannot be a sample's id"),
        ("clip 1,", "/etc/x,", r"line 3: '/etc/x' cannot be a sample's id"),
        ("clip 1,", "..\\x,", r"line 3: '\.\.\\x' cannot be a sample's id"),
        ("clip 1,", ",", r"line 3: '' cannot be a sample's id"),
        ("clip 3,1,", "clip 3,2,", r"line 5: label '2', expected an index below 2"),
        ("clip 3,1,", "clip 3,-1,", r"line 5: label '-1', expected an index below 2"),
        ("clip 3,1,", "clip 3,0.5,", r"line 5: label '0\.5', expected an index below 2"),
        ("clip 3,1,", "clip 3,happy,", r"line 5: label 'happy', expected an index below 2"),
        ("clip 3,1,", "clip 3,,", r"line 5: label '', expected an index below 2"),
    ],
)
def test_a_broken_row_is_named_by_its_line(root, old, new, message):
    rewrite_table(root, old, new)
    with pytest.raises(DataError, match=rf"samples\.csv', {message}.*; prepare the data set again"):
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
NOT_FINITE = r"holds NaN or infinity, expected finite values; delete that file and prepare the data set again"
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


def test_info_is_plain_json_that_people_can_read(root):
    info = json.loads((root / "info.json").read_text())
    assert info == {"dataset": "toys", "classes": ["calm", "happy"], "streams": CHANNELS}


@pytest.mark.parametrize(("facts", "said"), [({"of": 7, "failed": 2}, "4 of 7 samples (2 failed)"), ({"of": 4}, "")])
def test_a_part_of_a_data_set_is_used_with_a_warning(root, caplog, facts, said):
    info = json.loads((root / "info.json").read_text())
    (root / "info.json").write_text(json.dumps(info | facts))
    folder_of(root).check_files()
    warned = f"'{root}' holds {said}; prepare the rest for results that count."
    assert caplog.messages == ([warned] if said else [])
