"""CMU-MOSEI and CMU-MOSI from their files: alignment by hand, what is left out and why, splits, and broken files."""

import json
import pickle
import re

import h5py
import numpy as np
import pytest
import raw_mosei

from msafusion.data.datasets import MOSEI, MOSI
from msafusion.data.datasets.csd import average_features
from msafusion.data.datasets.mosei_raw import make_folds, read_folds
from msafusion.data.preparation.preparing import prepare
from msafusion.data.samples import DataError

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
VIDEOS = [video for listed in raw_mosei.FOLDS.values() for video in listed]


def glove(video):
    """The video with a vector for each spoken word, pauses too."""
    features, intervals = video["words"]
    vectors = np.arange(len(features), dtype=np.float32)[:, None] + np.zeros((1, 300), np.float32)
    return video | {"vectors": (vectors, intervals)}


@pytest.fixture
def videos():
    return {name: glove(raw_mosei.one_video(seed)) for seed, name in enumerate(VIDEOS)}


@pytest.fixture
def folds(tmp_path):
    (tmp_path / "folds.json").write_text(json.dumps(raw_mosei.FOLDS))
    return tmp_path / "folds.json"


@pytest.fixture
def reader(tmp_path, videos, folds):
    return MOSEI(raw_mosei.write_sdk(tmp_path / "csd", videos), text_model="none", folds=folds)


def test_words_take_the_mean_of_the_frames_whose_middles_lie_in_them(reader, videos):
    first, second = (item for item in reader.items() if item.group == "v2")
    arrays, notes = reader.read(first)
    visual, audio = videos["v2"]["visual"][0], videos["v2"]["audio"][0]
    # 10 frames a second from 0: "a" 0-0.5 s, "good" 0.5-1 s; the pause after them is none of the steps
    np.testing.assert_allclose(arrays["visual"], [visual[0:5].mean(0), visual[5:10].mean(0)], **CLOSE)
    np.testing.assert_allclose(arrays["audio"], [audio[0:50].mean(0), audio[50:100].mean(0)], **CLOSE)
    assert arrays["text"][:, 0].tolist() == [0, 1]
    arrays, more = reader.read(second)
    np.testing.assert_allclose(arrays["visual"], [visual[15:20].mean(0), visual[20:30].mean(0)], **CLOSE)
    assert arrays["text"][:, 0].tolist() == [3, 4]
    assert notes == more == []
    assert first.label == pytest.approx(float(videos["v2"]["labels"][0][0, 0]))
    assert (first.id, first.columns["split"]) == ("v2$_$0", "valid")


def test_overlaps_gaps_and_words_shorter_than_a_frame():
    frames = np.array([[0.0, 1], [1, 2], [2, 3], [5, 6]])
    values = np.array([[1.0], [10], [100], [1000]])
    words = np.array([[0, 2.5], [1.4, 2.6], [2.1, 2.3], [3.2, 4], [5, 9]])
    notes = []
    means = average_features(values, frames, words, notes, "audio")
    # middles are 0.5, 1.5, 2.5 and 5.5; the third word lies within the third frame, the fourth in the gap
    np.testing.assert_allclose(means[:, 0], [5.5, 55, 100, 0, 1000])
    assert notes == ["audio: 1 words of 5 have no frame, zeros for them"]
    shuffled = [2, 0, 3, 1]
    np.testing.assert_array_equal(average_features(values[shuffled], frames[shuffled], words, [], "audio"), means)


def test_values_that_are_not_finite_become_zeros_and_are_counted(reader, videos, tmp_path):
    videos["v2"]["audio"][0][:3, 0] = [-np.inf, np.nan, np.inf]
    raw_mosei.write_sdk(tmp_path / "csd", videos)
    arrays, notes = reader.read(next(item for item in reader.items() if item.group == "v2"))
    assert notes == ["audio: 3 values of 7400 are not finite, replaced by 0"]
    np.testing.assert_allclose(arrays["audio"][0, 0], videos["v2"]["audio"][0][3:50, 0].sum() / 50, **CLOSE)


def test_segments_without_a_stream_or_a_fold_are_left_out_with_the_reason(reader, videos, tmp_path):
    del videos["v-0"]["visual"]  # of all its segments
    videos["v_1"] = glove(raw_mosei.one_video(1, spoken=(("sp", 0, 1.5), ("film", 1.5, 3))))
    videos["v2"]["audio"] = videos["v2"]["audio"][0][:150], videos["v2"]["audio"][1][:150]
    videos["v3"]["labels"] = (np.ones((3, 7), np.float32), [[0, 1.5], [2, 2], [1.5, 3]])
    videos["other"] = glove(raw_mosei.one_video(9))
    raw_mosei.write_sdk(tmp_path / "csd", videos)
    assert [item.id for item in reader.items()] == ["v2$_$0", "v3$_$0", "v3$_$2", "v_1$_$1"]
    reasons = dict(line.split(": ", 1) for line in reader.skipped())
    assert reasons.keys() == {"v-0$_$0", "v-0$_$1", "v_1$_$0", "v2$_$1", "v3$_$1", "other$_$0", "other$_$1"}
    assert "CMU_MOSEI_VisualFacet42.csd" in reasons["v-0$_$0"]
    assert reasons["v_1$_$0"] == "nothing of 'CMU_MOSEI_TimestampedWords.csd' between 0 and 1.5 s"
    assert reasons["v2$_$1"] == "nothing of 'CMU_MOSEI_COVAREP.csd' between 1.5 and 3 s"
    assert reasons["v3$_$1"] == "its interval 2 to 2 s is empty"
    assert reasons["other$_$0"].startswith("its video is in no fold of")
    found = reader.verify()
    assert found.ok
    assert len(found.skipped) == 7
    assert found.present == {"samples": 4, "videos": 3, "train": 1, "valid": 1, "test": 2}


def test_a_video_of_the_folds_without_labels_is_missing(reader, videos, tmp_path):
    del videos["v3"]
    raw_mosei.write_sdk(tmp_path / "csd", videos)
    (line,) = reader.verify().missing
    assert re.fullmatch(r"video 'v3' of '.*folds\.json': not in '.*CMU_MOSEI_Labels\.csd'", line)


def test_files_are_told_by_what_they_hold_or_by_name(videos, tmp_path):
    names = {role: f"{number}.csd" for number, role in enumerate(raw_mosei.NAMES)}
    folder = raw_mosei.write_sdk(tmp_path / "csd", videos, names)
    raw_mosei.write_csd(folder / "phones.csd", "phonemes", {"v2": raw_mosei.words_of(("sp", 0, 1))})
    reader = MOSI(folder, text_model="none")
    assert {role: path.name for role, path in reader.form.files.items()} == names
    assert reader.channels() == {"visual": 35, "audio": 74, "text": 300}
    face = {name: (np.ones((40, 713)), parts["visual"][1]) for name, parts in videos.items()}
    raw_mosei.write_csd(folder / "openface.csd", "OpenFace 2", face)
    assert MOSEI(folder, text_model="none", files={"visual": "openface.csd"}).channels()["visual"] == 713
    raw_mosei.write_sdk(tmp_path / "csd", {"x": raw_mosei.one_video(0, width=47)}, names | {"visual": "47.csd"})
    ambiguous = MOSEI(folder, text_model="none")
    with pytest.raises(
        DataError, match=r"'3\.csd' and '47\.csd' .* both look like Facet .*; name it: files=\{'visual'"
    ):
        ambiguous.items()


def test_without_words_each_vector_is_a_word(videos, tmp_path, folds):
    without = {name: {role: v for role, v in parts.items() if role != "words"} for name, parts in videos.items()}
    reader = MOSEI(raw_mosei.write_sdk(tmp_path / "csd", without), text_model="none", folds=folds)
    arrays, _ = reader.read(reader.items()[0])
    assert arrays["text"][:, 0].tolist() == [0, 1, 2]


def test_without_folds_the_split_is_by_video_repeatable_and_says_that_it_is_not_standard(reader):
    videos = [f"video{n}" for n in range(100)]
    made = make_folds(videos)
    assert made == make_folds(reversed(videos))
    assert [list(made.values()).count(split) for split in ("train", "valid", "test")] == [70, 10, 20]
    own = MOSEI(reader.root, text_model="none")
    assert own.settings()["folds"].startswith("not the standard folds")
    assert {item.group: item.columns["split"] for item in own.items()} == make_folds(VIDEOS)
    assert reader.settings()["folds"].endswith("folds.json")


def test_folds_of_the_sdk_are_read_without_running_them(tmp_path, folds):
    lists = "".join(f"standard_{split}_fold={videos!r}\n" for split, videos in raw_mosei.FOLDS.items())
    (tmp_path / "cmu_mosei_std_folds.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n{lists}")
    assert read_folds(tmp_path / "cmu_mosei_std_folds.py") == read_folds(folds)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"train": ["aa", "bb"], "valid": ["cc"], "test": ["bb"]},
            r"train and test share the groups \['bb'\]",
        ),
        ({"train": ["aa"], "test": ["bb"]}, r"holds no folds \(KeyError: 'valid'\), expected JSON"),
        ({"train": "aa", "valid": [], "test": []}, r"holds no folds \(TypeError: 'a' "),
        ([1], "holds no folds"),
    ],
)
def test_broken_folds_are_refused(tmp_path, content, message):
    (tmp_path / "folds.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_folds(tmp_path / "folds.json")


def test_a_truncated_file_is_named(reader, tmp_path):
    path = tmp_path / "csd" / raw_mosei.NAMES["audio"]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"CMU_MOSEI_COVAREP\.csd' cannot be read \(.*truncated.*\), expected an HDF5"):
        reader.items()
    assert not reader.verify().ok
    path.write_text("no HDF5")
    with pytest.raises(DataError, match=r"CMU_MOSEI_COVAREP\.csd' cannot be read"):
        reader.items()


def test_a_file_that_is_lacking_is_named(reader, tmp_path):
    (tmp_path / "csd" / raw_mosei.NAMES["visual"]).unlink()
    with pytest.raises(DataError, match=r"no \.csd file of Facet \(35 or 47 wide\) in '.*csd', expected the CMU SDK's"):
        reader.items()


def test_a_video_with_broken_intervals_is_found_and_stops_only_its_samples(reader, tmp_path):
    with h5py.File(tmp_path / "csd" / raw_mosei.NAMES["visual"], "a") as file:
        del file["FACET 4.2/data/v2/intervals"]
        file["FACET 4.2/data/v2/intervals"] = np.zeros((7, 2), np.float32)
    (line,) = reader.verify().broken
    assert re.search(r"VisualFacet42\.csd', video 'v2': features \(40, 35\) with intervals \(7, 2\), expected", line)
    for item in reader.items():
        if item.group == "v2":
            with pytest.raises(DataError, match=re.escape(line)):
                reader.read(item)
        else:
            reader.read(item)


def test_labels_out_of_range_are_no_labels(reader, videos, tmp_path):
    videos["v3"]["labels"][0][1, 0] = 85
    raw_mosei.write_sdk(tmp_path / "csd", videos)
    with pytest.raises(DataError, match=r"Labels\.csd', v3\$_\$1: sentiment is 85, expected -3 to 3; check"):
        reader.items()


def test_text_is_the_models_last_layer_with_the_pieces_of_a_word_averaged(tmp_path, videos, folds):
    import torch
    from transformers import BertModel

    bert = str(raw_mosei.write_tiny_bert(tmp_path / "bert"))
    source = raw_mosei.write_sdk(tmp_path / "csd", videos)
    reader = pickle.loads(pickle.dumps(MOSEI(source, text_model=bert, folds=folds)))
    assert reader.channels() == {"visual": 35, "audio": 74, "text": 16}
    arrays, notes = reader.read(next(item for item in reader.items() if item.id == "v2$_$1"))
    pieces = [raw_mosei.VOCABULARY.index(piece) for piece in ("[CLS]", "bad", "##ly", "film", "[SEP]")]
    with torch.no_grad():
        states = BertModel.from_pretrained(bert).eval()(torch.tensor([pieces])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(arrays["text"], [states[1:3].mean(0), states[3]], **CLOSE)
    assert [len(values) for values in arrays.values()] == [2, 2, 2]
    assert notes == []

    tokens = MOSI(raw_mosei.mmsa(tmp_path), text_model=bert)
    assert tokens.channels()["text"] == 16
    arrays, _ = tokens.read(tokens.items()[0])
    with torch.no_grad():
        states = BertModel.from_pretrained(bert).eval()(torch.tensor([[2, 5, 6, 8, 3]])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(arrays["text"], states, rtol=1e-4, atol=1e-5)


# both


@pytest.mark.parametrize("form", ["csd", "MMSA", "MultiBench"])
def test_prepared_they_train_and_test_on_different_videos(tmp_path, form, request):
    if form == "csd":
        reader = request.getfixturevalue("reader")
    else:
        reader = MOSI((raw_mosei.mmsa if form == "MMSA" else raw_mosei.multibench)(tmp_path))
    assert reader.name == ("MOSEI" if form == "csd" else "MOSI")
    assert prepare(reader, tmp_path / "prepared").failed == {}
    splits = type(reader)(tmp_path / "prepared").splits()
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    assert {name: sorted(part.groups) for name, part in parts.items()} == {
        k: sorted(v) for k, v in raw_mosei.FOLDS.items()
    }
    sample = splits.train[0]
    assert set(sample["lengths"].values()) == {5}  # two words of the .csd files become five steps
    assert splits.channels == reader.channels()
    assert -3 <= sample["label"] <= 3


def test_what_is_neither_form_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no such path, expected a folder of the CMU SDK's \.csd files, one \.pkl"):
        MOSEI(tmp_path / "none").splits()
    with pytest.raises(DataError, match=r"0 \.pkl and no \.csd files, expected a folder"):
        MOSEI(tmp_path).items()
    pickled = raw_mosei.mmsa(tmp_path)
    with pytest.raises(ValueError, match="is a pickle, which has no option 'folds'"):
        MOSEI(pickled, folds=tmp_path).items()
    assert {item.files["text"] for item in MOSEI(tmp_path).items()} == {pickled}


def test_raw_files_are_prepared_into_the_cache(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))
    reader.workers = 1
    splits = reader.splits()
    assert splits.channels == {"visual": 35, "audio": 74, "text": 300}
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(MOSEI(folder).splits().test) == len(splits.test)
    with pytest.raises(ValueError, match="was prepared with text_model none, this run asks for my_bert"):
        MOSEI(folder, text_model="my_bert").splits()
