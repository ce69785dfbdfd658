"""CMU-MOSEI and CMU-MOSI from the pickles of MMSA and MultiBench: padding, lengths, ids, and broken ones."""

import os
import pickle
import re

import numpy as np
import pytest
import raw_mosei

from msafusion.data.datasets import MOSEI, MOSI
from msafusion.data.datasets.mosei_raw import sample_id
from msafusion.data.samples import DataError

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("unaligned", [False, True])
def test_mmsa_pickles_come_without_their_padding(tmp_path, unaligned):
    reader = MOSI(raw_mosei.mmsa(tmp_path, unaligned=unaligned))
    item = next(item for item in reader.items() if item.id == "v_1$_$1")
    given = raw_mosei.mmsa_split(raw_mosei.FOLDS["train"], unaligned=unaligned)
    arrays, notes = pickle.loads(pickle.dumps(reader)).read(item)
    lengths = {"visual": 3, "audio": 4, "text": 5} if unaligned else dict.fromkeys(("visual", "audio", "text"), 5)
    for stream, column in (("visual", "vision"), ("audio", "audio"), ("text", "text")):
        np.testing.assert_array_equal(arrays[stream], given[column][3, : lengths[stream]])
    assert (item.label, item.group, notes) == (float(given["regression_labels"][3]), "v_1", [])
    assert (reader.settings()["form"], reader.settings()["aligned"]) == ("MMSA", not unaligned)
    assert reader.verify().present == {"samples": 8, "videos": 4, "train": 4, "valid": 2, "test": 2}


def test_multibench_pickles_lose_the_zeros_on_their_left(tmp_path):
    def silence(splits):
        splits["train"]["audio"][0, :6] = 0
        splits["train"]["audio"][0, 7, 0] = -np.inf
        splits["test"]["text"][0] = 0

    reader = MOSI(raw_mosei.multibench(tmp_path, silence))
    assert reader.channels() == {"visual": 20, "audio": 5, "text": 300}
    item = next(item for item in reader.items() if item.group == "v-0")
    arrays, notes = reader.read(item)
    assert item.id == "v-0$_$0.5-1.25"
    given = raw_mosei.multibench_split(raw_mosei.FOLDS["train"])
    np.testing.assert_array_equal(arrays["visual"], given["vision"][0, 3:])
    assert arrays["audio"].shape == (5, 5)  # still beside the visual steps
    assert (arrays["audio"][:3] == 0).all()
    assert arrays["audio"][4, 0] == 0
    assert notes == ["audio: 1 values of 40 are not finite, replaced by 0"]
    assert item.label == given["labels"][0, 0, 0]
    assert reader.skipped() == ["v3$_$0.5-1.25: its text is all zeros"]


@pytest.mark.parametrize("length", [17, -1, 2.5])
def test_lengths_beyond_the_data_name_the_sample(tmp_path, length):
    def lengthen(splits):
        splits["valid"]["audio_lengths"][1] = length

    reader = MOSEI(raw_mosei.mmsa(tmp_path, lengthen, unaligned=True))
    (line,) = reader.verify().broken
    assert f"valid, sample 'v2$_$1': audio_lengths is {length:g}, expected a whole number up to the 16 steps" in line
    with pytest.raises(DataError, match=re.escape(line)):
        reader.read(next(item for item in reader.items() if item.id == "v2$_$1"))


def test_a_stream_that_is_nothing_but_padding_is_one_step_of_zeros(tmp_path):
    def empty(splits):
        splits["valid"]["vision_lengths"][0] = 0

    reader = MOSEI(raw_mosei.mmsa(tmp_path, empty, unaligned=True))
    arrays, notes = reader.read(next(item for item in reader.items() if item.id == "v2$_$0"))
    np.testing.assert_array_equal(arrays["visual"], np.zeros((1, 35)))
    assert notes == ["visual: nothing but padding, one step of zeros"]


def drop_column(splits):
    del splits["valid"]["vision"]


def drop_split(splits):
    del splits["test"]


def shorten(splits):
    splits["train"]["regression_labels"] = splits["train"]["regression_labels"][:3]


def share(splits):
    splits["test"]["id"][0] = "v_1$_$7"


def repeat(splits):
    splits["train"]["id"][2] = "v-0$_$1"


def flatten(splits):
    splits["train"]["audio"] = splits["train"]["audio"][:, 0]


def widen(splits):
    splits["valid"]["audio"] = splits["valid"]["audio"][..., :5]


def unlabel(splits):
    splits["valid"]["regression_labels"][0] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_column, "valid: no vision among raw_text, id, audio"),
        (drop_split, "holds train, valid, expected a dict of train, valid, test"),
        (shorten, r"train: \{.*'regression_labels': 3.*\} samples, expected as many of each"),
        (share, r"share the groups \['v_1'\]"),
        (repeat, r"train, row 2: the id 'v-0\$_\$1' is that of train, row 1, expected it once"),
        (flatten, r"train: audio is float32 \(4, 74\), expected numbers of shape \(samples, steps, channels\)"),
        (widen, "has the widths .*'valid': .35, 5, 16.* expected one"),
        (unlabel, r"valid, sample 'v2\$_\$0': sentiment is nan, expected -3 to 3"),
    ],
)
def test_broken_pickles_are_refused(tmp_path, change, message):
    reader = MOSEI(raw_mosei.mmsa(tmp_path, change))
    with pytest.raises(DataError, match=message) as caught:
        reader.items()
    assert "\n" not in str(caught.value)
    assert reader.verify().broken == [str(caught.value)]


class Harmful:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    def harm(splits):
        splits["train"]["annotations"] = Harmful(tmp_path / "ran")

    with pytest.raises(DataError, match=r"mosi\.pkl' is not a pickle of plain arrays \(it names posix\.mkdir\)"):
        MOSEI(raw_mosei.mmsa(tmp_path, harm)).items()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["a$b$_$3", "a$b$_$4"], [("a$b", "a$b$_$3"), ("a$b", "a$b$_$4")]),
        (["v[0]", "v[1]"], [("v", "v$_$0"), ("v", "v$_$1")]),
        (["03bSnISJ_iM_1", "plain"], [("03bSnISJ_iM", "03bSnISJ_iM$_$1"), ("plain", "plain$_$0")]),
        (np.array([["v", "0.1", "2.5"], ["v", "3", "4"]], "S8"), [("v", "v$_$0.1-2.5"), ("v", "v$_$3-4")]),
        ([["v"], ["v"]], [("v", "v$_$0"), ("v", "v$_$1")]),
        (["a/b$_$0", "a:b$_$0"], [("a/b", "a+2f+b$_$0"), ("a:b", "a+3a+b$_$0")]),
    ],
)
def test_ids_of_all_forms_name_video_and_sample(tmp_path, ids, expected):
    def rename(splits):
        splits["train"]["id"] = ids

    items = MOSEI(raw_mosei.multibench(tmp_path, rename)).items()
    assert [(i.group, i.id) for i in items if i.columns["split"] == "train"] == sorted(expected, key=lambda e: e[1])


def test_escaped_ids_are_unique():
    assert len({sample_id(video, "0") for video in ("a/b", "a+2f+b", "a b", "a\nb", "a+b", "../b")}) == 6


@pytest.mark.parametrize("form", ["{}_{}", "{}$_${}", "{}[{}]"])
def test_a_numeric_video_in_two_splits_of_a_pickle_is_refused(tmp_path, form):
    splits = {part: raw_mosei.mmsa_split([200178 + (part == "valid")]) for part in ("train", "valid", "test")}
    splits["train"]["id"] = [form.format(200178, clip) for clip in range(2)]
    splits["test"]["id"] = [form.format(200178, clip) for clip in range(2, 4)]
    with pytest.raises(DataError, match=r"share the groups \['200178'\]"):
        MOSEI(raw_mosei.write_pickle(tmp_path / "a.pkl", splits)).items()
